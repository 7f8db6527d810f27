"""Sphinx configuration, for `make docs`."""

import importlib.metadata
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

warnings.filterwarnings("ignore", category=UserWarning)  # of what the tutorials call; they are no warnings of the pages
logging.getLogger("matplotlib").setLevel(logging.WARNING)

project = "sb3_atari_dqn"
release = importlib.metadata.version("sb3-atari-dqn")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton", "sphinx_gallery.gen_gallery"]
html_theme = "furo"
html_title = "sb3_atari_dqn"
exclude_patterns = ["_build", "tutorials", "sg_execution_times.rst", "generated/sg_execution_times.rst"]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"

# references to our own classes must lead somewhere; those of other packages are not looked up, which takes no network
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!sb3_atari_dqn).*")]


def save_figures(_block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """
    Put the figures that a tutorial's block ends with on its page: one, or a list of them.

    :param _block: text of the block
    :param block_vars: names, and paths for pictures
    :param gallery_conf: sphinx-gallery's configuration
    :return: reStructuredText
    """
    value = block_vars["example_globals"].get("___")  # stays where a block ends with something else
    figures = [figure for figure in (value if isinstance(value, list) else [value]) if isinstance(figure, Figure)]
    paths: Iterator[str] = block_vars["image_path_iterator"]
    saved = []
    for figure in figures:
        if not figure.get_label():
            saved.append(next(paths))
            figure.savefig(saved[-1], dpi=80)
            figure.set_label(saved[-1])
    return figure_rst(saved, gallery_conf["src_dir"])


sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "generated",
    "filename_pattern": r"\.py$",  # all are executed
    "abort_on_example_error": True,
    "image_scrapers": (save_figures,),
    "capture_repr": ("_repr_html_",),
    "copyfile_regex": r".*\.rst",
    "reset_modules": (),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1000,
    "download_all_examples": False,
    "notebook_extensions": (),
    "ignore_pattern": r"__init__",
    "default_thumb_file": str(Path(__file__).parent / "images" / "motion_tracer.png"),
}
