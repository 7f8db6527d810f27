"""The page of a run: one HTML file that needs nothing else, made from a template and data as JSON."""

import json
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[attr-defined]  # Plotly has no __all__ there


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
