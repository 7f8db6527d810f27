"""Training runs in processes of their own: started, killed, resumed, and compared."""

import contextlib
import csv
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_atari_dqn.checkpoints.files import unpack_arrays
from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from sb3_atari_dqn.zoo.commands import main
from tests.checkpoints.processes import SERVER
from tests.waiting import LONG, wait_for

#: what depends on the clock
CLOCKS = {"t", "t_start", "episode_times", "time/fps", "time/time_elapsed", "log_files", "tensorboard"}

_SMALL_NETWORK = {
    "features_extractor_class": "NipsCNN",
    "features_extractor_kwargs": {"features_dim": 32},
}

_ATARI_WRAPPER = {"stable_baselines3.common.atari_wrappers.AtariWrapper": {"clip_reward": False, "screen_size": 36}}

#: small runs of each kind on games that end soon, by name: algorithm, game, and what is not as in the preset
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "uniform": (
        "dqn_custom",
        "BreakoutNoFrameskip-v4",
        {
            "native_envs": False,
            "n_envs": 2,
            "policy_kwargs": _SMALL_NETWORK,
            "env_wrapper": [_ATARI_WRAPPER],
            "buffer_size": 200,
            "learning_starts": 50,
            "target_update_interval": 50,
            "exploration_fraction": 0.5,
            "overlap": False,
            "precision": "float32",
            "accelerate": "none",
        },
    ),
}
RUNS["prioritized"] = (
    "dqn_custom",
    "BreakoutNoFrameskip-v4",
    RUNS["uniform"][2]
    | {
        "replay_buffer_kwargs": {"n_stack": 4, "compression": "zstd", "priority_exponent": 0.6, "importance_exponent": 0.4},
        "policy_kwargs": _SMALL_NETWORK | {"noisy_sigma": 0.5, "dueling": True},
        "n_steps": 3,
        "overlap": True,
        "accelerate": "auto",
        "learning_rate": "lin_1e-4",
    },
)
RUNS["sweep"] = (
    "dqn_sweep",
    "Breakout-v0",
    {
        "n_envs": 2,
        "env_wrapper": [
            {"sb3_atari_dqn.MotionTracer": {"height": 40, "width": 36}},
            "stable_baselines3.common.atari_wrappers.EpisodicLifeEnv",
        ],
        "policy_kwargs": _SMALL_NETWORK,
        "buffer_size": 400,
        "replay_fraction": 0.25,
        "final_replay_fraction": 0.5,
        "max_epochs": 10,
        "final_max_epochs": 20,
        "loss_limit": 1e-4,
        "final_loss_limit": 1e-5,
        "signal_steps": 1000,
        "exploration_steps": 1000,
        "batch_size": 32,
        "accelerate": "none",
        "precision": "float32",
    },
)


class Moment(NamedTuple):
    """
    When a process is to be killed, in what it does: that does not depend on the machine.

    :param run: folder of its run
    :param n_checkpoints: that there are then
    :param n_printed: bytes that it has printed since
    """

    run: Path
    n_checkpoints: int
    n_printed: int


def _kill_at(moment: Moment, output: Path) -> None:
    """
    Kill this process, from a thread of its own: whoever watches it from outside may come late.

    :param moment: when
    :param output: file with what it prints
    """
    while n_checkpoints(moment.run) < moment.n_checkpoints:
        time.sleep(0.001)
    n_printed = output.stat().st_size + moment.n_printed
    while output.stat().st_size < n_printed:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def _main(output: Path, arguments: Sequence[str], file_limit: int | None, killed_at: Moment | None) -> None:
    """
    What a process does: the command line.

    :param output: file for what it prints
    :param arguments: of ``python -m sb3_atari_dqn``
    :param file_limit: bytes that a file can have
    :param killed_at: when it is killed
    """
    with output.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    th.set_num_threads(1)  # two processes do not get into each other's way
    if killed_at is not None:
        threading.Thread(target=_kill_at, args=(killed_at, output), daemon=True).start()
    sys.argv = ["sb3_atari_dqn", *arguments]
    main()


class Command:
    """
    ``python -m sb3_atari_dqn`` in a process of its own, forked from one that has imported what it needs.

    :param folder: where what it prints goes
    :param arguments: of the command line
    :param file_limit: bytes that a file can have
    :param killed_at: when it is killed
    """

    def __init__(
        self, folder: Path, *arguments: object, file_limit: int | None = None, killed_at: Moment | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / "output.txt"
        self._output.unlink(missing_ok=True)
        texts = [str(argument) for argument in arguments]
        self.process = SERVER.Process(target=_main, args=(self._output, texts, file_limit, killed_at))
        self.process.start()

    @property
    def is_over(self) -> bool:
        return self.process.exitcode is not None

    @property
    def output(self) -> str:
        return self._output.read_text() if self._output.is_file() else ""

    def wait(self, status: int = 0) -> str:
        """
        :param status: exit status to expect
        :return: what it printed
        """
        self.join()
        assert self.process.exitcode == status, self.output
        return self.output

    def join(self) -> None:
        """Wait for the end."""
        self.process.join(LONG)
        if not self.is_over:
            self.process.kill()
            raise AssertionError(f"it did not end in {LONG} seconds. {self.output}")

    def signal(self, number: int) -> None:
        """
        :param number: to send, unless it is over
        """
        assert self.process.pid is not None
        if not self.is_over:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.join()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """
        :param condition: to wait for, or for the end
        """
        wait_for(lambda: self.is_over or condition(), lambda: self.output)


def start(
    folder: Path,
    name: str,
    n_timesteps: int,
    checkpoint_freq: int | None = 60,
    killed_at: Moment | None = None,
    **changes: Any,
) -> Command:
    """
    :param folder: where logs go
    :param name: a key of ``RUNS``
    :param n_timesteps: agent steps
    :param checkpoint_freq: agent steps between two checkpoints
    :param killed_at: when it is killed
    :param changes: hyperparameters to change
    :return: a process that trains
    """
    algo, env_id, hyperparams = RUNS[name]
    hyperparams = hyperparams | {"checkpoint_freq": checkpoint_freq} | changes
    return Command(
        folder,
        *("train", "--algo", algo, "--env", env_id, "-n", n_timesteps, "--seed", 3, "-f", folder, "-tb", folder / "tb"),
        *("--eval-freq", 150, "--eval-episodes", 1, "--env-kwargs", "max_num_frames_per_episode:200"),
        *("--log-interval", 1, "--device", "cpu", "-params", *(f"{key}:{value!r}" for key, value in hyperparams.items())),
        killed_at=killed_at,
    )


def resume(run: Path, *arguments: object, killed_at: Moment | None = None) -> Command:
    """
    :param run: folder of a run
    :param arguments: more of them
    :param killed_at: when it is killed
    :return: a process that goes on with it
    """
    return Command(run.parent.parent, "resume", run, *arguments, killed_at=killed_at)


def n_checkpoints(run: Path) -> int:
    """
    :param run: folder of a run
    :return: how many have been written
    """
    manifests = CheckpointStore(run / FOLDER).manifests()
    return int(manifests[0].stem) if manifests else 0


def run_folder(folder: Path, name: str) -> Path:
    """
    :param folder: where logs go
    :param name: a key of ``RUNS``
    :return: folder of the first run there
    """
    algo, env_id, _ = RUNS[name]
    return folder / algo / f"{env_id}_1"


def contents(run: Path) -> dict[str, Any]:
    """
    :param run: folder of a run
    :return: all of its last checkpoint and its logs, flat, without what depends on the clock
    """
    store = CheckpointStore(run / FOLDER)
    checkpoint, complaints = store.find_good()
    assert not complaints, complaints
    found: dict[str, Any] = {}
    _flatten(store.read_state(checkpoint), "", found)
    frames: dict[str, Any] = {}
    for segment in checkpoint.segments:  # later ones replace earlier ones
        arrays = unpack_arrays((store.folder / segment["name"]).read_bytes())
        start = 0
        for index, number in enumerate(arrays["frames/numbers"].tolist()):
            size = int(arrays["frames/sizes"][index]) if "frames/sizes" in arrays else None
            if size is not None:
                frames[f"frame {number}"] = arrays["frames/frames"][start : start + size]
                start += size
        for index, number in enumerate(arrays.get("rows/numbers", np.zeros(0)).tolist()):
            frames[f"row {number}"] = [arrays[name][index].tolist() for name in sorted(arrays) if name.startswith("rows/")]
    numbers = np.concatenate([value for name, value in found.items() if name.endswith("frames/numbers")])
    n_rows = found.get("memory/n_rows", 0)
    size = found["memory/size"][0]
    for name, value in frames.items():
        kind, number = name.split()
        if int(number) in numbers if kind == "frame" else n_rows - size < int(number) <= n_rows:
            found[name] = value
    for path in sorted(run.glob("*.csv")):
        with path.open() as file:
            rows = [row for row in csv.reader(file) if not row[0].startswith("#")]
        kept = [index for index, name in enumerate(rows[0]) if name != "t" and name not in CLOCKS]
        found[path.name] = [[row[index] for index in kept] for row in rows]
    if (run / "evaluations.npz").is_file():
        found |= {f"evaluations/{name}": array for name, array in np.load(run / "evaluations.npz").items()}
    for folder in (run.parent.parent / "tb").rglob("*_1"):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            if tag not in CLOCKS:
                found[f"tensorboard/{tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def _flatten(value: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in CLOCKS:
                _flatten(item, f"{path}/{key}" if path else key, found)
    elif isinstance(value, list) and any(isinstance(item, Mapping | list | np.ndarray) for item in value):
        for index, item in enumerate(value):
            _flatten(item, f"{path}/{index}", found)
    else:
        found[path] = value


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """
    :param first: what ``contents`` gave
    :param second: what it gave for another run
    :return: names of what is not the same, bit for bit
    """
    return [name for name in sorted({*first, *second}) if not _is_same(first.get(name), second.get(name))]


def _is_same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    return type(first) is type(second) and bool(np.all(first == second))
