"""Sphinx configuration, for `make docs`."""

from importlib.metadata import version

project = "sb3_atari_dqn"
release = version("sb3-atari-dqn")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "sphinx_rtd_theme"
exclude_patterns = ["_build"]
myst_heading_anchors = 2
autodoc_typehints = "description"
