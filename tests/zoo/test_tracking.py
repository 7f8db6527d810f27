"""Runs at Weights & Biases: resumed there too, or a line that says why not."""

import importlib.util
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sb3_atari_dqn.zoo.resume import resume
from sb3_atari_dqn.zoo.run_files import read_args
from sb3_atari_dqn.zoo.tracking import RUN_ID, check_tracking, tracked_run
from tests.report.runs import train

HYPERPARAMS: dict[str, Any] = {
    "buffer_size": 300,
    "learning_starts": 50,
    "train_freq": 4,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "--track: this run was not started with --track"),
        ({"track": True}, "--track: args.yml has no wandb_run_id"),
        ({"track": True, RUN_ID: ["x"]}, "--track: args.yml has no wandb_run_id"),
    ],
)
def test_what_cannot_be_continued_says_why(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_tracking(args, track=True)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of it fails
    with pytest.raises(ValueError, match=r"--track needs Weights & Biases .*: pip install wandb"):
        check_tracking({"track": True, RUN_ID: "abc"}, track=True)


def test_a_run_that_was_not_tracked_has_no_id() -> None:
    assert tracked_run({"track": False}) == tracked_run({}) == {}
    assert check_tracking({}, track=False) is None


def test_resume_says_that_it_does_not_continue_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, "dqn_custom", "CartPole-v1", 200, HYPERPARAMS, resumable=True, log_interval=1, eval_freq=-1)
    file = run / "CartPole-v1" / "args.yml"
    args = {**read_args(file), "track": True, RUN_ID: "abc123"}
    file.write_text(yaml.dump(args))
    resume([str(run), "-n", "220"])
    assert "tracked at Weights & Biases, where it does not continue: resume --track" in "".join(capsys.readouterr())


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed: pip install wandb")
def test_the_same_run_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    params = [f"{name}:{value!r}" for name, value in HYPERPARAMS.items()]
    command = "-m rl_zoo3.train --algo dqn_custom --env CartPole-v1 --track -n 200 --eval-freq -1 -params"
    subprocess.run([sys.executable, *command.split(), *params], cwd=tmp_path, check=True)
    run = "logs/dqn_custom/CartPole-v1_1"
    subprocess.run([sys.executable, "-m", "sb3_atari_dqn", "resume", run, "-n", "300", "--track"], cwd=tmp_path, check=True)
    ids = {path.name.rpartition("-")[2] for path in (tmp_path / "wandb").glob("offline-run-*")}
    assert ids == {read_args(tmp_path / run / "CartPole-v1" / "args.yml")[RUN_ID]}
    assert Namespace(**read_args(tmp_path / run / "CartPole-v1" / "args.yml")).track is True
