"""Where the runs of a list are trained: in processes on this machine, or as tasks on a cluster of Ray.

Either way a run is a process of its own, which ends with whoever started it, and what is to be done is found out from its
folder. So a run whose machine dies is given to another one, and goes on from its last checkpoint.
"""

import abc
import contextlib
import ctypes
import functools
import importlib.util
import itertools
import logging
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sb3_atari_dqn.checkpoints.files import BrokenFileError
from sb3_atari_dqn.checkpoints.store import FolderLock
from sb3_atari_dqn.zoo.answers import failure_of
from sb3_atari_dqn.zoo.plans import (
    EVALUATION_LOG,
    PLAN,
    TRAINING_LOG,
    Plan,
    Run,
    evaluate_command,
    is_trained,
    next_command,
    score,
    train_command,
)

#: how often Ray gives a run to another node when one dies
MAX_RETRIES = 10

#: seconds to wait for whoever has a run's folder, and how often: it may be dying; or its machine may be dead, whose locks a
#: file server keeps for a minute or two
_LOCKED_PAUSE, _LOCKED_ATTEMPTS = 5, 40

#: Linux's number for "send me this signal when whoever started me ends"
_PR_SET_PDEATHSIG = 1

#: module and arguments, log file -> whether it succeeded
Start = Callable[[list[str], Path], bool]


def train_and_play(plan: Plan, run: Run, device: str, start: Start) -> bool:
    """
    Do what is left to do of a run.

    :param plan: what it belongs to
    :param run: the run
    :param device: where it is trained
    :param start: runs a command
    :return: whether it is done
    :raises ValueError: if another process trains or plays it, and goes on doing so; or if it has checkpoints of another
        version's format
    """
    with _alone(run):
        if score(plan, run) is not None:  # somebody else has done it meanwhile
            return True
        log = run.folder / TRAINING_LOG
        command = next_command(plan, run, device)
        if command is not None:
            if command == train_command(plan, run, device):
                _clear(run, log)
            if not start(command, log):
                return False
        if not is_trained(plan, run) or not start(evaluate_command(plan, run), run.folder / EVALUATION_LOG):
            return False
        shutil.rmtree(run.checkpoints.folder, ignore_errors=True)  # hundreds of megabytes that nobody goes on from
        return True


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """
    Keep others away from a run, two sweeps from the same folder. Whoever has it may be about to go, and is waited for.

    :param run: the run
    :raises ValueError: if another process has it, and goes on having it
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(run.folder)  # a training has one of its own, in the folder that RL Zoo makes: it may outlive its sweep
    for attempt in range(_LOCKED_ATTEMPTS):
        try:
            lock.acquire()
            FolderLock(run.experiment).check_free()
            break
        except ValueError:
            if attempt + 1 == _LOCKED_ATTEMPTS:
                lock.release()
                raise
            time.sleep(_LOCKED_PAUSE)
    try:
        yield
    finally:
        lock.release()


def _clear(run: Run, log: Path) -> None:
    """
    Take away what is left of a run that nothing can go on with. One that lost its checkpoints is put aside.

    :param run: the run
    :param log: file to say it in
    """
    left = run.folder / run.variant.algo
    if not run.checkpoints.manifests():
        shutil.rmtree(left, ignore_errors=True)
        return
    aside = next(path for number in itertools.count(1) if not (path := run.folder / f"broken_{number}").exists())
    with log.open("a", encoding="utf-8") as file:
        try:
            run.checkpoints.find_good()
        except BrokenFileError as error:
            file.write(f"{error}. What there is of this run is put aside, in {str(aside)!r}, and it begins anew\n")
    left.rename(aside)


class Place(abc.ABC):
    """Somewhere to train."""

    @abc.abstractmethod
    def submit(self, plan: Plan, run: Run, device: str) -> "Future[bool]":
        """
        :param plan: what it belongs to
        :param run: what is to be trained and played
        :param device: where, on a machine
        :return: whether it is done, in the future
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End all that is running."""


class ThisMachine(Place):
    """
    Processes on this machine.

    :param n_jobs: how many at a time; each gets its share of the cores that this process may use, and on Linux no others
    """

    def __init__(self, n_jobs: int) -> None:
        self._is_alone = n_jobs == 1
        self._shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        for share in shares_of_cores(n_jobs):
            self._shares.put(share)
        self._pool = ThreadPoolExecutor(n_jobs)
        self._processes = Processes()

    def submit(self, plan: Plan, run: Run, device: str) -> "Future[bool]":
        return self._pool.submit(self._train_and_play, plan, run, device)

    def _train_and_play(self, plan: Plan, run: Run, device: str) -> bool:
        cores = self._shares.get()
        environment = {} if self._is_alone else {"OMP_NUM_THREADS": str(len(cores))}
        try:
            start = functools.partial(self._processes.run, environment=environment, cores=cores)
            return train_and_play(plan, run, device, start)
        finally:
            self._shares.put(cores)

    def close(self) -> None:
        self._processes.terminate()
        self._pool.shutdown(cancel_futures=True)


def shares_of_cores(n_jobs: int) -> list[list[int]]:
    """
    :param n_jobs: how many processes there are at a time
    :return: numbers of the cores for each; with more processes than cores, several have the same one
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if n_jobs > len(cores):
        return [[cores[job % len(cores)]] for job in range(n_jobs)]
    return [share.tolist() for share in np.array_split(cores, n_jobs)]


class RayCluster(Place):
    """
    Tasks on a cluster of Ray, whose nodes share the folder. A task whose node dies is given to another one.

    :param address: of the cluster, after ``check_ray``
    :param n_cpus: share of each run
    :param n_gpus: share of each run
    :raises ValueError: if it cannot be entered
    """

    def __init__(self, address: str, n_cpus: float, n_gpus: float) -> None:
        import ray

        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"--ray {address}: {error}") from error
        self._task = ray.remote(num_cpus=n_cpus, num_gpus=n_gpus, max_retries=MAX_RETRIES)(_task)
        self._environment = {"OMP_NUM_THREADS": str(max(int(n_cpus), 1))}

    def submit(self, plan: Plan, run: Run, device: str) -> "Future[bool]":
        future: Future[bool] = self._task.remote(plan, run, device, self._environment).future()
        return future

    def close(self) -> None:
        import ray

        ray.shutdown()  # the cluster ends the tasks of whoever leaves


def _task(plan: Plan, run: Run, device: str, environment: Mapping[str, str]) -> bool:
    """What a node of Ray does."""
    if not any((parent / PLAN).is_file() for parent in run.folder.parents):
        raise ValueError(f"{str(run.folder)!r} is not in a folder that {socket.gethostname()} shares with the sweep")
    return train_and_play(plan, run, device, functools.partial(Processes().run, environment=environment))


def check_ray(address: str) -> None:
    """
    :param address: ``host:port`` of the head of a cluster that this machine is in
    :raises ValueError: if Ray is not installed, or nothing that can be a cluster of Ray answers there in time
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"--ray {address} needs Ray: pip install 'sb3-atari-dqn[ray]'")
    found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^/:@\s]+):(\d+)", address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ValueError(f"--ray {address!r} must be host:port, as `ray start --head` prints it")
    failure = failure_of(lambda: _ask_for_ray(found[1].strip("[]"), int(found[2])))
    if failure is not None:
        raise ValueError(f"--ray {address}: no cluster of Ray answers there: {failure}")


def _ask_for_ray(host: str, port: int) -> None:
    """Raises what goes wrong; Ray itself would wait for a minute, and end the process."""
    socket.create_connection((host, port), timeout=5).close()
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        return
    import grpc

    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=5)
        except grpc.FutureTimeoutError:
            raise TimeoutError("something listens, and does not speak Ray's language") from None


class Processes:
    """Commands that run at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_over = False

    def run(self, command: list[str], log: Path, environment: Mapping[str, str], cores: Sequence[int] | None = None) -> bool:
        """
        :param command: module and arguments
        :param log: file for what it prints, behind what is there already
        :param environment: variables to set
        :param cores: numbers of those that it may use, on Linux; None for all of this process
        :return: whether it succeeded
        """
        with log.open("ab") as file:
            with self._lock:
                if self._is_over:
                    return False
                process = subprocess.Popen(
                    [sys.executable, "-m", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                    start_new_session=True,  # Ctrl-C would make RL Zoo save half a model
                    preexec_fn=functools.partial(_begin, os.getpid(), cores) if sys.platform == "linux" else None,
                )
                self._running.add(process)
            try:
                return process.wait() == 0
            finally:
                self._running.discard(process)

    def terminate(self) -> None:
        """End all commands, and start no more."""
        with self._lock:
            self._is_over = True
            for process in list(self._running):
                process.terminate()


def _begin(parent: int, cores: Sequence[int] | None) -> None:
    """
    Let this process be told to end when its parent ends, however that ends; its folder is given to another one then.

    :param parent: process that has started it
    :param cores: numbers of those that it may use
    """
    if cores is not None:
        os.sched_setaffinity(0, cores)
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # not after a fork
