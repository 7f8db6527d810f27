"""Pictures of the tutorials: the matplotlib figures that a block of a script ends with, for sphinx-gallery."""

from collections.abc import Callable, Iterator
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


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


def _get_sg_image_scraper() -> Callable[..., str]:
    """
    :return: what sphinx-gallery asks for by this name
    """
    return save_figures
