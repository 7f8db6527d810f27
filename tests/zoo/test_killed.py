"""A training that is killed leaves no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.waiting import LONG, wait_for


def test_processes_of_environments_end_with_their_training(tmp_path: Path) -> None:
    command = (
        "-m rl_zoo3.train --algo dqn_custom --env CartPole-v1 --vec-env subproc -n 10000000 --eval-freq 1000 --n-eval-envs 2 "
        "-params n_envs:3 train_freq:4 gradient_steps:1 learning_starts:100"
    )
    with (tmp_path / "output.txt").open("wb") as output:
        training = subprocess.Popen([sys.executable, *command.split()], cwd=tmp_path, stdout=output, stderr=output)
    try:
        wait_for(
            lambda: b"total_timesteps" in (tmp_path / "output.txt").read_bytes() or training.poll() is not None,
            lambda: (tmp_path / "output.txt").read_text(),
        )
        assert training.poll() is None, (tmp_path / "output.txt").read_text()
        children = psutil.Process(training.pid).children(recursive=True)
        assert len(children) >= 5  # environments to train in and to evaluate in
        os.kill(training.pid, signal.SIGKILL)
        training.wait(LONG)

        def left() -> list[psutil.Process]:
            return [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

        wait_for(lambda: not left(), lambda: f"still there: {left()}")
    finally:
        training.kill()
