"""The page of a run: one HTML file that needs nothing else, made from a template and data as JSON."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[attr-defined]  # Plotly has no __all__ there

from sb3_atari_dqn.atomic_files import written_whole


@contextmanager
def written_in_one_piece(path: Path) -> Iterator[TextIO]:
    """
    A file that is there when all of it is written, or stays as it was.

    :param path: of the file
    :return: where to write
    :raises ValueError: if nothing can be written there, before anything else is done
    """
    with ExitStack() as stack:
        try:
            if path.is_dir():
                raise IsADirectoryError("it is a folder")
            temporary = stack.enter_context(written_whole(path))
            file = stack.enter_context(temporary.open("w", encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
        yield file


def render_page(title: str, data: Mapping[str, Any]) -> str:
    """
    :param title: of the page
    :param data: what it shows, for JSON
    :return: HTML
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sb3_atari_dqn.report", "template"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")  # or it could end the script
    return environment.get_template("page.html").render(title=title, data=Markup(text), plotly=Markup(get_plotlyjs()))
