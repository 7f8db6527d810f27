"""What a run writes besides checkpoints: callbacks, the logger, and log files, cut back to where a checkpoint stands."""

import contextlib
import glob
import json
import os
import socket
import sys
from collections.abc import Iterable, Mapping
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

#: what TensorBoard's files are called: then come seconds, host, process and a number
_EVENTS = "events.out.tfevents.*"

#: file in TensorBoard's folder that says which run has written which of its files
CLAIM = "run.json"

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
    The log files of a run. TensorBoard's may be outside of its folder, beside files of other runs: which of them are the
    run's own is noted there, in ``run.json``, and no others are touched.

    :param run_folder: the run's folder
    :param tensorboard: where it writes for TensorBoard, if it does
    """

    def __init__(self, run_folder: Path, tensorboard: Path | None) -> None:
        self.run_folder = run_folder.resolve()  # names of files do not depend on links on the way
        self.tensorboard = None if tensorboard is None else tensorboard.resolve()
        self._synced: dict[str, int] = {}

    def claim(self) -> None:
        """Note that what this process writes for TensorBoard is the run's."""
        claimed = self._claimed()
        if self.tensorboard is None or not (claimed or claimed is None):  # another run's
            return
        by_this_process = f"{_EVENTS}.{glob.escape(socket.gethostname())}.{os.getpid()}.*"
        names = {*(claimed or ()), *(path.name for path in self.tensorboard.glob(by_this_process))}
        claim = {"run": os.path.relpath(self.run_folder, self.tensorboard), "files": sorted(names)}
        with contextlib.suppress(OSError), written_whole(self.tensorboard / CLAIM) as temporary:
            temporary.write_text(json.dumps(claim, indent=1) + "\n", encoding="utf-8")

    def _claimed(self) -> list[str] | None:
        """
        :return: names of TensorBoard's files that are noted as the run's own; None if nothing is noted
        """
        if self.tensorboard is None or not (self.tensorboard / CLAIM).exists():
            return None
        try:
            claim = json.loads((self.tensorboard / CLAIM).read_text(encoding="utf-8"))
            is_own = (self.tensorboard / claim["run"]).resolve() == self.run_folder
            return [str(name) for name in claim["files"]] if is_own else []
        except (OSError, KeyError, TypeError, ValueError):
            return []

    def has_events_of(self, sizes: Mapping[str, int]) -> bool:
        """
        :param sizes: what ``sizes`` gave at a checkpoint
        :return: whether files in TensorBoard's folder are the run's own; those of earlier versions, which noted nothing, if
            they are the ones of the checkpoint
        """
        claimed = self._claimed()
        return bool(claimed) or (claimed is None and any(path.name in _events_in(sizes) for path in self._events()))

    def _events(self) -> list[Path]:
        """
        :return: TensorBoard's files that are the run's own, or all of them if nothing is noted
        """
        found = [] if self.tensorboard is None else sorted(self.tensorboard.glob(_EVENTS))
        claimed = self._claimed()
        return found if claimed is None else [path for path in found if path.name in claimed]

    def sizes(self) -> dict[str, int]:
        """
        :return: size of each file in bytes, by its path from the run's folder; what is counted is on the disk
        """
        paths = [*self._own_logs(), *self._events()]
        sizes = {os.path.relpath(path, self.run_folder): path.stat().st_size for path in paths}
        for name, size in sizes.items():
            if self._synced.get(name) != size:
                with contextlib.suppress(OSError), (self.run_folder / name).open("rb") as file:
                    os.fsync(file.fileno())
        self._synced = dict(sizes)
        return sizes

    def _own_logs(self) -> list[Path]:
        return [path for pattern in LOG_FILES for path in sorted(self.run_folder.glob(pattern))]

    def cut_back(self, sizes: Mapping[str, int]) -> None:
        """
        Take out what the run wrote after a checkpoint: it will be written again.

        :param sizes: what ``sizes`` gave at the checkpoint
        """
        expected = {self.run_folder / name: size for name, size in sizes.items() if not _is_events(name)}
        if self.tensorboard is not None:
            expected |= {self.tensorboard / name: size for name, size in _events_in(sizes).items()}
        is_claimed = self._claimed() is not None
        for path in [*self._own_logs(), *self._events()]:
            if path not in expected:
                if is_claimed and _is_events(path.name):  # begun after the checkpoint
                    path.unlink()
            elif path.stat().st_size > expected[path]:
                os.truncate(path, expected[path])
        for path, size in expected.items():
            found = path.stat().st_size if path.is_file() else None
            if found is None or found < size:
                say(
                    f"{str(path)!r} had {size} bytes at the checkpoint and " + ("is gone" if found is None else f"has {found}")
                )


def _is_events(name: str) -> bool:
    return Path(name).match(_EVENTS)


def _events_in(sizes: Mapping[str, int]) -> dict[str, int]:
    """
    :param sizes: what ``LogFiles.sizes`` gave
    :return: those of TensorBoard's files, by their names alone
    """
    return {Path(name).name: size for name, size in sizes.items() if _is_events(name)}


def find_tensorboard(state: Mapping[str, Any], run_folder: Path) -> Path | None:
    """
    :param state: of a checkpoint
    :param run_folder: the run's folder
    :return: where the run goes on writing for TensorBoard: where it has written, or in its own folder if that is elsewhere and
        nothing there is known to be the run's, as in a copy of a run; None if it does not write
    """
    if state["tensorboard"] is None:
        return None
    inside = run_folder.resolve()
    # the second is what earlier versions meant, where links are on the way
    candidates = [inside / state["tensorboard"], Path(os.path.abspath(run_folder / state["tensorboard"]))]
    for folder in (candidate.resolve() for candidate in candidates):
        if folder.is_relative_to(inside) or LogFiles(inside, folder).has_events_of(state["log_files"]):
            return folder
    say(
        f"What this run writes for TensorBoard goes into {str(run_folder / 'tensorboard')!r} from here: it was written into "
        f"{str(candidates[0].resolve())!r}, where no files are known to be this run's"
    )
    return inside / "tensorboard"
