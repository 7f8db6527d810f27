"""Agent steps of a run, which Monitor does not count: it sits inside the wrappers that repeat actions, and begins at zero."""

from pathlib import Path
from typing import Any

import yaml

from sb3_atari_dqn.progress_log import ProgressLog

#: wrappers that repeat an action, by the name of their class, with the argument that says how often; 4 if it is not given
_REPEATING = {
    "AtariWrapper": "frame_skip",
    "MotionTracerAtariWrapper": "frame_skip",
    "MaxAndSkipEnv": "skip",
    "MaxAndSkipObservation": "skip",
    "AtariPreprocessing": "frame_skip",
}

#: packages whose other wrappers repeat no actions
_PACKAGES = {"gymnasium", "stable_baselines3", "sb3_contrib", "rl_zoo3", "sb3_atari_dqn"}


class _DataLoader(yaml.SafeLoader):
    """Data alone: what a tag of Python's would make of it is left out, so that nothing is imported or called."""


def _content(loader: _DataLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


_DataLoader.add_multi_constructor("tag:yaml.org,2002:python/", _content)


def action_repeat(run: Path) -> int | None:
    """
    :param run: folder of a training run
    :return: steps of the environment, as Monitor counts them, for each agent step, by the run's ``config.yml``: the frame skip
        of its wrappers, 1 without; None if there is no configuration that can be read, or it names a wrapper of a user's
    """
    files = sorted(run.glob("*/config.yml"))
    try:
        [file] = files
        config = yaml.load(file.read_text(encoding="utf-8"), _DataLoader)
        if isinstance(config, list):  # RL Zoo's ordered dictionary, as a list of its arguments
            config = dict(config[0])
        repeat, is_known = 1, True
        for name, kwargs in _wrappers(config.get("env_wrapper")):
            class_name = name.rpartition(".")[2]
            is_known &= name.partition(".")[0] in _PACKAGES
            if class_name in _REPEATING:
                repeat *= int(kwargs.get(_REPEATING[class_name], 4))
    except (AttributeError, IndexError, OSError, TypeError, ValueError, yaml.YAMLError):
        return None
    return max(repeat, 1) if repeat > 1 or is_known else None


def _wrappers(configured: Any) -> list[tuple[str, dict[str, Any]]]:
    """
    :param configured: a name, a dictionary with arguments, or a list of these, as RL Zoo takes them
    :return: names and arguments
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for wrapper in configured if isinstance(configured, list) else [configured] if configured else []:
        found += [(name, kwargs or {}) for name, kwargs in (wrapper.items() if isinstance(wrapper, dict) else [(wrapper, {})])]
    return found


def first_step(run: Path) -> int:
    """
    :param run: folder of a training run
    :return: agent steps that its model had done before the run began: more than 0 for one that continues another run's model
        (``-i``), which says so in the first row of ``progress.csv``
    """
    try:
        rows = ProgressLog.read(run)
    except ValueError:
        return 0
    return int(rows[0][ProgressLog.BEGAN_AT]) if rows and ProgressLog.BEGAN_AT in rows[0] else 0
