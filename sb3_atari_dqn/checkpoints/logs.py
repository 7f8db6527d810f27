"""What a run writes besides checkpoints: callbacks, the logger, and log files, cut back to where a checkpoint stands."""

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat, configure

from sb3_atari_dqn.atomic_files import written_whole
from sb3_atari_dqn.checkpoints.environments import get_env_state, set_env_state
from sb3_atari_dqn.checkpoints.plain_state import UnknownStateError, get_attributes, set_attributes

#: log files in a run's folder
LOG_FILES = ("*monitor.csv", "rewards.csv", "q_values.csv")

#: what TensorBoard's files are called
_EVENTS = "events.out.tfevents.*"

#: attributes of callbacks that are somebody else's
_NOT_OF_CALLBACKS = {"locals", "globals", "model", "parent", "eval_env"}


def say(message: str) -> None:
    """
    :param message: for whoever watches the run; it does not end because nobody does, as behind a closed pipe
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        print(message, file=sys.stderr, flush=True)


def get_callback_state(callback: BaseCallback) -> dict[str, Any]:
    """
    :param callback: any
    :return: what it remembers, with callbacks inside it and environments that it evaluates in
    """
    attributes = get_attributes(callback, lambda name, value: True)
    state: dict[str, Any] = {
        "class": type(callback).__qualname__,
        # texts are paths, which are those of the run as it is now
        "attributes": {
            name: value
            for name, value in attributes.items()
            if name not in _NOT_OF_CALLBACKS and not isinstance(value.get("value"), str | bytes)
        },
        "inner": {name: get_callback_state(inner) for name, inner in _inner(callback)},
    }
    if isinstance(callback, EvalCallback):
        try:
            state["eval_env"] = get_env_state(callback.eval_env)
        except UnknownStateError:
            state["eval_env"] = None
    return state


def set_callback_state(callback: BaseCallback, state: Mapping[str, Any]) -> None:
    """
    :param callback: made as the other one was
    :param state: what ``get_callback_state`` gave for that
    :raises ValueError: if it is of another class
    """
    if type(callback).__qualname__ != state["class"]:
        raise ValueError(f"the run has a {type(callback).__qualname__} where the checkpoint has a {state['class']}")
    attributes = state["attributes"].items()  # a file cannot say where to write
    set_attributes(callback, {name: value for name, value in attributes if not isinstance(value.get("value"), str | bytes)})
    for name, inner in _inner(callback):
        if name in state["inner"]:
            set_callback_state(inner, state["inner"][name])
    if isinstance(callback, EvalCallback) and state["eval_env"] is not None:
        callback.eval_env.reset()
        set_env_state(callback.eval_env, state["eval_env"])


def _inner(callback: BaseCallback) -> Iterable[tuple[str, BaseCallback]]:
    for name, value in vars(callback).items():
        if isinstance(value, BaseCallback) and name not in _NOT_OF_CALLBACKS:
            yield name, value
        elif isinstance(value, list) and value and all(isinstance(item, BaseCallback) for item in value):
            yield from ((f"{name}.{index}", item) for index, item in enumerate(value))


def rewrite_evaluations(callbacks: Iterable[BaseCallback]) -> None:
    """
    Let files of evaluations hold those that the callbacks remember; later ones will be made again.

    :param callbacks: any
    """
    for callback in callbacks:
        rewrite_evaluations(inner for _, inner in _inner(callback))
        if not isinstance(callback, EvalCallback) or callback.log_path is None:
            continue
        path = Path(f"{callback.log_path}.npz")
        if not callback.evaluations_timesteps:
            path.unlink(missing_ok=True)
            continue
        successes = {"successes": callback.evaluations_successes} if callback.evaluations_successes else {}
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                timesteps=callback.evaluations_timesteps,
                results=callback.evaluations_results,
                ep_lengths=callback.evaluations_length,
                **successes,  # type: ignore[arg-type]  # numpy's own keyword is allow_pickle
            )


def get_logger_state(logger: Logger) -> dict[str, Any]:
    """
    :param logger: of a model
    :return: what was recorded and not written yet
    """
    scalars = {
        name: value for name, value in logger.name_to_value.items() if isinstance(value, bool | int | float | str | np.generic)
    }
    return {
        "values": scalars,
        "counts": {name: logger.name_to_count[name] for name in scalars if name in logger.name_to_count},
        "excluded": {name: list(logger.name_to_excluded[name]) for name in scalars if name in logger.name_to_excluded},
    }


def tensorboard_folder(logger: Logger) -> Path | None:
    """
    :param logger: of a model
    :return: where it writes for TensorBoard
    """
    if logger.dir is not None and any(isinstance(output, TensorBoardOutputFormat) for output in logger.output_formats):
        return Path(logger.dir)
    return None


def make_logger(state: Mapping[str, Any], folder: Path | None, verbose: int) -> Logger:
    """
    :param state: what ``get_logger_state`` gave
    :param folder: where to write for TensorBoard; None for nowhere
    :param verbose: whether to print
    :return: a logger that goes on
    """
    outputs = (["stdout"] if verbose >= 1 else []) + ([] if folder is None else ["tensorboard"])
    logger = configure(None if folder is None else str(folder), outputs or [""])
    logger.name_to_value.update(state["values"])
    logger.name_to_count.update(state["counts"])
    logger.name_to_excluded.update({name: tuple(excluded) for name, excluded in state["excluded"].items()})
    return logger


class LogFiles:
    """
    The log files of a run.

    :param run_folder: the run's folder
    :param tensorboard: where it writes for TensorBoard, if it does
    """

    def __init__(self, run_folder: Path, tensorboard: Path | None) -> None:
        self.run_folder = run_folder
        self.tensorboard = tensorboard
        self._synced: dict[str, int] = {}

    def _paths(self) -> Sequence[Path]:
        paths = [path for pattern in LOG_FILES for path in sorted(self.run_folder.glob(pattern))]
        return paths + (sorted(self.tensorboard.glob(_EVENTS)) if self.tensorboard is not None else [])

    def sizes(self) -> dict[str, int]:
        """
        :return: size of each file in bytes, by its path from the run's folder; what is counted is on the disk
        """
        sizes = {os.path.relpath(path, self.run_folder): path.stat().st_size for path in self._paths()}
        for name, size in sizes.items():
            if self._synced.get(name) != size:
                with contextlib.suppress(OSError), (self.run_folder / name).open("rb") as file:
                    os.fsync(file.fileno())
        self._synced = dict(sizes)
        return sizes

    def cut_back(self, sizes: Mapping[str, int]) -> None:
        """
        Take out what was written after a checkpoint: it will be written again.

        :param sizes: what ``sizes`` gave at the checkpoint
        """
        for path in self._paths():
            name = os.path.relpath(path, self.run_folder)
            if name in sizes:
                if path.stat().st_size > sizes[name]:
                    os.truncate(path, sizes[name])
            elif path.match(_EVENTS):
                path.unlink()
        for name, size in sizes.items():
            path = self.run_folder / name
            found = path.stat().st_size if path.is_file() else None
            if found is None or found < size:
                say(
                    f"{str(path)!r} had {size} bytes at the checkpoint and " + ("is gone" if found is None else f"has {found}")
                )
