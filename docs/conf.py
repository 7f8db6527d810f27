"""Sphinx configuration, for `make docs`."""

import importlib.metadata

project = "sb3_atari_dqn"
release = importlib.metadata.version("sb3-atari-dqn")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "sphinx_rtd_theme"
exclude_patterns = ["_build"]
myst_heading_anchors = 2
autodoc_typehints = "description"
