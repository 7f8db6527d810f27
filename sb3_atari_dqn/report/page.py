"""The page of a run: one HTML file that needs nothing else, made from a template and data as JSON."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[attr-defined]  # Plotly has no __all__ there


@contextmanager
def written_in_one_piece(path: Path) -> Iterator[TextIO]:
    """
    A file that is there when all of it is written, or stays as it was.

    :param path: of the file
    :return: where to write
    :raises ValueError: if nothing can be written there, before anything else is done
    """
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # temporary files are their owner's alone
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
