"""Versions of what models are trained and played with, for all rooms."""

import contextlib
import platform
from importlib import metadata

#: packages on whose version weights and scores may depend
PACKAGES = ("sb3-atari-dqn", "stable-baselines3", "sb3-contrib", "rl-zoo3", "torch", "numpy", "gymnasium", "ale-py")


def versions() -> dict[str, str]:
    """
    :return: versions of Python and of ``PACKAGES``, of those that are installed
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # one that runs from its sources
            found[name] = metadata.version(name)
    return found
