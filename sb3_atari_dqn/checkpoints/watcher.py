"""Writes checkpoints while a model learns, and brings a model back to one.

A model says when nothing is under way (``QLearningAlgorithm.at_rest``): everything there is can be written then, and a run
that goes on from there ends as one that was never interrupted. Signals wait for that moment. An exception does not: what is
written then is all but the games, which begin anew.
"""

import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, EvalCallback

from sb3_atari_dqn.base import QLearningAlgorithm, get_random_state, set_random_state
from sb3_atari_dqn.checkpoints.environments import get_env_state, prepare, set_env_state
from sb3_atari_dqn.checkpoints.logs import (
    LogFiles,
    find_tensorboard,
    get_callback_state,
    get_logger_state,
    make_logger,
    rewrite_evaluations,
    say,
    set_callback_state,
    tensorboard_folder,
)
from sb3_atari_dqn.checkpoints.memory_log import (
    SEGMENT_LENGTH,
    MemoryLog,
    Segment,
    fill,
    segments_from_json,
    segments_to_json,
)
from sb3_atari_dqn.checkpoints.models import describe_model
from sb3_atari_dqn.checkpoints.plain_state import UnknownStateError
from sb3_atari_dqn.checkpoints.store import Checkpoint, CheckpointStore

#: signals that end a run, behind a checkpoint; the last one comes when a terminal is closed, where there is one
_SIGNALS = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

#: after a checkpoint that could not be written: the next attempt comes after this share of the usual time
_RETRIES = 10


class Watcher:
    """
    A context in which a model learns and checkpoints are written: every ``every`` agent steps, at SIGTERM, SIGINT and
    SIGHUP, at an exception, and at the end.

    :param model: the model
    :param store: where they are kept
    :param run_folder: where the run's log files are
    :param every: agent steps between two of them; None for none but at signals, exceptions and the end
    :param callbacks: of the run
    :param segments: files that hold the replay memory already, after ``restore``
    """

    def __init__(
        self,
        model: QLearningAlgorithm,
        store: CheckpointStore,
        run_folder: Path,
        every: int | None,
        callbacks: Sequence[BaseCallback] = (),
        segments: Sequence[Segment] = (),
    ) -> None:
        self.model = model
        self.store = store
        self.run_folder = run_folder
        self.every = every
        self.callbacks = callbacks
        self.pause_seconds = 0.0  # of the last checkpoint
        self.is_behind = False  # the last checkpoint that was due could not be written
        self._segments = segments
        self._log: MemoryLog | None = None
        self._memory: object = None
        self._log_files: LogFiles | None = None
        self._signal: int | None = None
        self._steps_at_start = model.num_timesteps
        self._due = self._next_due()
        self._next_stream = 0
        self._handlers: dict[int, Any] = {}

    def _next_due(self) -> float:
        steps = self.model.num_timesteps
        return float("inf") if self.every is None else (steps // self.every + 1) * self.every

    def __enter__(self) -> "Watcher":
        self.store.prepare()
        assert self.model.env is not None
        prepare(self.model.env)
        for callback in self.callbacks:
            if isinstance(callback, EvalCallback):
                prepare(callback.eval_env)
        self.model.at_rest = self.at_rest
        if threading.current_thread() is threading.main_thread():  # others cannot have handlers
            for number in _SIGNALS:
                if number in (signal.SIGTERM, signal.SIGINT) or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        del self.model.at_rest
        try:
            if error is None:
                self.write("the end")
            elif self._signal is None or not isinstance(error, KeyboardInterrupt | SystemExit):
                self._write_at_exception(error)
        finally:
            self._release_signals()

    def _release_signals(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self._release_signals()  # the next one acts at once
        name = signal.Signals(number).name
        say(
            f"{name}: a checkpoint is written as soon as the step (or evaluation) under way is over; once more ends it at once"
        )

    def at_rest(self) -> None:
        """
        Write what is due.

        :raises KeyboardInterrupt: behind a checkpoint, after SIGINT
        :raises SystemExit: behind a checkpoint, after SIGTERM and SIGHUP
        """
        self._claimed_log_files()
        if self._signal is not None:
            self._stop(self._signal)
        elif self.model.num_timesteps >= self._due:
            if self.write("every"):
                self._due = self._next_due()
            else:
                assert self.every is not None
                self._due = self.model.num_timesteps + max(self.every // _RETRIES, 1)
        elif self.model.num_timesteps >= self._next_stream:
            self._stream()

    def _stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if self.write(name):
            say(f"{name}: stopped at step {self.model.num_timesteps}; to go on: {_command(self.run_folder)}")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _stream(self) -> None:
        """Write a part of the memory before it is due, so that a checkpoint has little left to write."""
        try:
            log = self._memory_log()
            if log.n_new() >= SEGMENT_LENGTH:
                log.write(most=1)
            else:
                self._next_stream = self.model.num_timesteps + SEGMENT_LENGTH // 8
        except (OSError, ValueError):
            self._next_stream = self.model.num_timesteps + SEGMENT_LENGTH  # it is said when the checkpoint is due

    def _memory_log(self) -> MemoryLog:
        memory = self.model.memory()
        if self._log is None or self._memory is not memory:
            segments = self._segments if self._log is None else ()
            self._memory, self._log = memory, MemoryLog(self.store.folder, memory.stores(), segments)
        return self._log

    def _claimed_log_files(self) -> LogFiles:
        if self._log_files is None:
            self._log_files = LogFiles(self.run_folder, tensorboard_folder(self.model.logger))
            self._log_files.claim()
        return self._log_files

    def write(self, reason: str, is_exact: bool = True) -> bool:
        """
        Write a checkpoint now.

        :param reason: why
        :param is_exact: whether everything is at rest
        :return: whether it was written; if not, it has been said why
        """
        start = time.perf_counter()
        try:
            log = self._memory_log()
            log.write()
            state = self._get_state(is_exact)
            segments = segments_to_json(log.needed())
            steps = self.model.num_timesteps, self.model._total_timesteps
            self.store.write(*steps, state, segments, reason, is_exact)
        except (OSError, TypeError, ValueError) as error:
            manifests = self.store.manifests()
            kept = f"the last good one, {str(manifests[0])!r}, is kept" if manifests else "there is none yet"
            goes_on = ", and training goes on" if reason == "every" else ""
            say(f"No checkpoint could be written at step {self.model.num_timesteps}, {kept}{goes_on}: {error}")
            self.is_behind = True
            return False
        self.is_behind = False
        self.pause_seconds = time.perf_counter() - start
        return True

    def _write_at_exception(self, error: BaseException) -> None:
        if self.model.num_timesteps == self._steps_at_start:
            return  # nothing is new, and not all may be there yet
        if not self.model.is_finite():
            say("No checkpoint is written at this exception: the network's weights are not finite. The last one is kept.")
        elif self.write(f"exception: {error!r}"[:200], is_exact=False):
            say(
                f"A checkpoint was written at this exception, at step {self.model.num_timesteps}; running games begin anew "
                f"when it is resumed: {_command(self.run_folder)}"
            )

    def _get_state(self, is_exact: bool) -> dict[str, Any]:
        model = self.model
        assert model.env is not None
        try:
            environments = get_env_state(model.env) if is_exact else None
        except UnknownStateError:
            environments = None
        log_files = self._claimed_log_files()
        tensorboard = log_files.tensorboard
        return {
            "algorithm": type(model).__name__,
            "description": describe_model(model),
            "model": model.get_state(),
            "memory": model.memory().get_state(),
            "environments": environments,
            "callbacks": [get_callback_state(callback) for callback in self.callbacks],
            "logger": get_logger_state(model.logger),
            "tensorboard": None if tensorboard is None else os.path.relpath(tensorboard, log_files.run_folder),
            "log_files": log_files.sizes(),
            "random": get_random_state(model.action_space),
        }


def _command(run_folder: Path) -> str:
    return f"python -m sb3_atari_dqn resume {shlex.quote(str(run_folder))}"


def restore(
    model: QLearningAlgorithm,
    store: CheckpointStore,
    checkpoint: Checkpoint,
    state: dict[str, Any],
    callbacks: Sequence[BaseCallback],
    seed: int,
) -> list[Segment]:
    """
    Bring a model that was just made, its environments and callbacks to where a checkpoint stands. Nothing is written.

    :param model: made from the run's configuration
    :param store: where the checkpoint is
    :param checkpoint: the checkpoint
    :param state: its state
    :param callbacks: made from the run's configuration
    :param seed: of the run, for new games where those of the checkpoint cannot go on
    :return: files that hold the replay memory
    :raises ValueError: if the checkpoint is of another model, or of a run with other callbacks
    """
    if state["algorithm"] != type(model).__name__:
        raise ValueError(f"the checkpoint is of {state['algorithm']}, and this is {type(model).__name__}")
    here = [type(callback).__qualname__ for callback in callbacks]
    saved = [callback_state["class"] for callback_state in state["callbacks"]]
    if here != saved:
        raise ValueError(
            f"the run's callbacks are {', '.join(here) or 'none'}, and those of the checkpoint {', '.join(saved) or 'none'}"
        )
    _check_settings(model, state.get("description"))
    assert model.env is not None
    model.set_state(state["model"])
    segments = segments_from_json(checkpoint.segments)
    if checkpoint.has_buffer:
        memory = model.memory()
        memory.set_state(state["memory"])
        fill(store.folder, memory.stores(), segments)
    else:
        model.start_with_an_empty_buffer()
    if state["environments"] is None:
        model._last_obs = None  # learning begins with new games, and the memory is cut
        model.env.seed((seed + model.num_timesteps) % 2**31)
    else:
        model.env.reset()
        set_env_state(model.env, state["environments"])
    for callback, callback_state in zip(callbacks, state["callbacks"], strict=True):
        set_callback_state(callback, callback_state)
    set_random_state(model.action_space, state["random"])
    return segments


def _check_settings(model: QLearningAlgorithm, description: str | None) -> None:
    """
    :param model: made from the run's configuration
    :param description: of the checkpoint's model, if there is one
    :raises ValueError: if it was another: one that was loaded to go on has settings that its configuration does not name
    """
    own = describe_model(model)
    if description is None or own is None:
        return
    then, now = json.loads(description)["settings"], json.loads(own)["settings"]
    different = [
        f"{name}={then[name]!r} (not {now[name]!r})" for name in sorted(then) if name in now and then[name] != now[name]
    ]
    if different:
        raise ValueError(
            f"the checkpoint's model has {', '.join(different)}, which the run's configuration does not say, as when a run "
            "begins with another one's model (-i). Load the checkpoint's model, sb3_atari_dqn.load(), to go on with it"
        )


def continue_logs(
    model: QLearningAlgorithm, state: dict[str, Any], run_folder: Path, callbacks: Sequence[BaseCallback]
) -> None:
    """
    Take what was written after a checkpoint out of the run's logs, and let them go on.

    :param model: brought to the checkpoint
    :param state: the checkpoint's
    :param run_folder: the run's folder
    :param callbacks: brought to the checkpoint
    """
    tensorboard = find_tensorboard(state, run_folder)
    LogFiles(run_folder, tensorboard).cut_back(state["log_files"])
    rewrite_evaluations(callbacks)
    model.set_logger(make_logger(state["logger"], tensorboard, model.verbose))
