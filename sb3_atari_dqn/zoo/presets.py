"""Configurations that come with the package, found by name from any folder."""

import argparse
import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rl_zoo3
import yaml

from sb3_atari_dqn.zoo.register import ALGORITHMS


def _folder() -> Path:
    """Where the YAML files are: inside an installed package, beside it in an editable installation."""
    package = Path(__file__).parents[1]
    installed = package / "hyperparams"
    return installed if installed.is_dir() else package.parent / "hyperparams"


def _zoo_folder() -> Path:
    """Where RL Zoo has its configurations."""
    return Path(rl_zoo3.__file__).parent / "hyperparams"


def presets() -> dict[str, Path]:
    """
    :return: path of each configuration, by the name that ``--conf-file`` takes
    """
    return {path.stem: path for path in sorted(_folder().glob("*.yml"))}


def list_presets(arguments: Sequence[str]) -> None:
    """
    Print the configurations and where they are.

    :param arguments: of the command line; there are none
    """
    argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn presets", description="List the configurations that --conf-file takes by name."
    ).parse_args(arguments)
    for name, path in presets().items():
        print(f"{name:24} {path}")


def ablations() -> dict[str, Path]:
    """
    :return: path of each list of variants, by the name that ``ablation`` takes
    """
    return {path.stem: path for path in sorted((_folder() / "ablations").glob("*.yml"))}


def default_config(algo: str) -> str:
    """
    :param algo: name of an algorithm in RL Zoo
    :return: path of the configuration that it is trained with if no other is given
    """
    return str(presets()[algo] if algo in ALGORITHMS else _zoo_folder() / f"{algo}.yml")


def find_config(config: str) -> str:
    """
    :param config: what somebody gave as ``--conf-file``: a path, the name of a preset, or a Python module
    :return: a path or a module that RL Zoo can read
    :raises ValueError: if it is none of these, listing the presets
    """
    known = presets()
    if Path(config).parent == _zoo_folder() and Path(config).stem in ALGORITHMS:
        return str(known[Path(config).stem])  # RL Zoo's default: its copy is as old as the installation
    if Path(config).is_file():
        if Path(config).suffix not in (".py", ".yml", ".yaml"):
            raise ValueError(f"--conf-file {config!r} must end in .yml, .yaml or .py")  # RL Zoo takes others for modules
        if Path(config).suffix != ".py":
            _sections(config)
        return config
    if config in known:
        return str(known[config])
    if not config.endswith((".yml", ".yaml", ".py")) and _is_module(config):
        return config
    nearest = difflib.get_close_matches(config, known, n=1)
    meant = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    raise ValueError(f"--conf-file {config!r} is neither a file nor a preset{meant}; the presets are {', '.join(known)}")


def atari_section(config: str, env_id: str) -> dict[str, Any]:
    """
    :param config: a path, or a Python module, which is not looked into
    :param env_id: an Atari game
    :return: what RL Zoo will take for this game
    :raises ValueError: if there is nothing for it
    """
    if not Path(config).is_file() or Path(config).suffix == ".py":
        return {}
    sections = _sections(config)
    for name in (env_id, "atari"):
        if name in sections:
            return sections[name]
    raise ValueError(f"{config} has no section for {env_id!r}, and none for Atari games; it has {', '.join(sections)}")


def _sections(file: str) -> dict[str, dict[str, Any]]:
    """
    :param file: a YAML file
    :return: hyperparameters by game
    :raises ValueError: for anything else
    """
    try:
        sections = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file!r} is not YAML: {error}") from error
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        raise ValueError(f"{file!r} must have a section for each game, or one named atari, with hyperparameters by name")
    return sections


def _is_module(name: str) -> bool:
    """
    :param name: what may be a Python module with a configuration, which is imported
    :return: whether it is
    """
    try:
        return hasattr(importlib.import_module(name), "hyperparams")
    except (ImportError, ValueError):
        return False
