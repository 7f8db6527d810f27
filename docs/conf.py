"""Sphinx configuration, for `make docs`."""

import importlib.metadata
import sys
from pathlib import Path

import gymnasium as gym

sys.path.insert(0, str(Path(__file__).parent))  # for tutorial_figures
gym.logger.min_level = gym.logger.ERROR  # that a tutorial's game is old belongs on no page

project = "sb3_atari_dqn"
release = importlib.metadata.version("sb3-atari-dqn")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton", "sphinx_gallery.gen_gallery"]
html_theme = "furo"
html_title = "sb3_atari_dqn"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_copyright = False
exclude_patterns = ["_build", "tutorials", "sg_execution_times.rst", "generated/sg_execution_times.rst"]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"

# references to our own classes must lead somewhere; those of other packages are not looked up, which takes no network
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!sb3_atari_dqn).*"), ("py:class", r"sb3_atari_dqn\..*\.Self\w+")]

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "generated",
    "filename_pattern": r"\.py$",  # all are executed
    "abort_on_example_error": True,
    "image_scrapers": ("tutorial_figures",),
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
