"""Runs that are killed, stopped, broken, and resumed."""

import contextlib
import io
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from stable_baselines3.common.callbacks import BaseCallback

from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from sb3_atari_dqn.zoo.resume import resume as resume_here
from sb3_atari_dqn.zoo.run_files import read_yaml
from tests.checkpoints.runs import (
    RUNS,
    Moment,
    contents,
    differences,
    resume,
    run_folder,
    start,
)

N_TIMESTEPS = 400


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "output.txt"}


@pytest.mark.parametrize("name", RUNS)
def test_killed_at_random_moments_it_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    whole = start(tmp_path / "whole", name, N_TIMESTEPS)
    run = run_folder(tmp_path / "killed", name)
    first, second = (Moment(run, n_checkpoints, rng.randrange(600)) for n_checkpoints in (1, 3))
    start(tmp_path / "killed", name, N_TIMESTEPS, killed_at=first).wait(-signal.SIGKILL)
    resume(run, killed_at=second).wait(-signal.SIGKILL)
    assert "goes on at step" in resume(run).wait()
    whole.wait()
    expected = contents(run_folder(tmp_path / "whole", name))
    assert any(len(value) for key, value in expected.items() if key.startswith("tensorboard/"))
    assert {"evaluations/results", "0.monitor.csv"} <= expected.keys()
    assert any(key.startswith("frame ") for key in expected)
    assert differences(expected, contents(run)) == []


def refused(run: Path, *arguments: object) -> str:
    """What ``resume`` says; in this process, and nothing is changed."""
    before = files(run.parent)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as exit_status:
        resume_here([str(run), *map(str, arguments)])
    assert exit_status.value.code == 2
    assert files(run.parent) == before
    return errors.getvalue()


def test_sigterm_leaves_a_checkpoint_that_resumes(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "uniform")
    command = start(tmp_path, "uniform", 10**6, checkpoint_freq=None)
    command.wait_for(lambda: "total_timesteps" in command.output)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit):
        resume_here([str(run)])
    assert f"is being trained by another process (process {command.process.pid} on " in errors.getvalue()
    command.signal(signal.SIGTERM)
    command.wait(128 + signal.SIGTERM)
    assert not (run / "BreakoutNoFrameskip-v4.zip").exists()
    checkpoint, complaints = CheckpointStore(run / FOLDER).find_good()
    assert (complaints, checkpoint.reason, checkpoint.is_exact) == ([], "SIGTERM", True)
    steps = checkpoint.num_timesteps
    assert f"--n-timesteps {steps - 1} is less than the {steps} steps" in refused(run, "-n", steps - 1)
    assert "goes on at step" in resume(run, "-n", steps + 40).wait()
    assert CheckpointStore(run / FOLDER).find_good()[0].num_timesteps == steps + 40


def test_sigint_leaves_a_checkpoint_and_a_model(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "sweep")
    command = start(tmp_path, "sweep", 10**6, checkpoint_freq=None)
    command.wait_for(lambda: "total_timesteps" in command.output)
    command.signal(signal.SIGINT)
    command.wait()
    assert (run / "Breakout-v0.zip").is_file()
    assert CheckpointStore(run / FOLDER).find_good()[0].reason == "SIGINT"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on native environments, complete."""
    folder = tmp_path_factory.mktemp("finished")
    start(folder, "uniform", 160, native_envs=True, env_wrapper=[_WRAPPER], checkpoint_freq=50).wait()
    return run_folder(folder, "uniform")


_WRAPPER: dict[str, Any] = {"stable_baselines3.common.atari_wrappers.AtariWrapper": {"clip_reward": False, "screen_size": 36}}


def test_native_games_end_as_time_outs_and_broken_files_are_named(finished: Path) -> None:
    store = CheckpointStore(finished / FOLDER)
    newest, before = (store.read_manifest(path) for path in store.manifests()[:2])
    assert (newest.num_timesteps, newest.reason) == (160, "the end")
    broken = store.folder / next(name for name in newest.files if name.endswith("safetensors"))
    os.truncate(broken, 100)
    monitor = (finished / "0.monitor.csv").read_text()
    output = resume(finished, "-n", "240").wait()
    assert f"{broken.name}' has 100 bytes" in output
    assert f"goes on at step {before.num_timesteps} of 240" in output
    assert "those that were running end here as time-outs" in output
    assert (finished / "0.monitor.csv").read_text().splitlines()[:2] == monitor.splitlines()[:2]
    found = contents(finished)
    assert found["model/counters/num_timesteps"] == 240
    last = before.num_timesteps // 2  # with two environments
    names = ["_frame_ids", "actions", "dones", "numbers", "rewards", "timeouts"]
    row = dict(zip(names, found[f"row {last}"], strict=True))
    assert row["dones"] == [1, 1], "the last row before it went on"
    assert all(row["timeouts"])


def test_what_is_no_run_is_refused(finished: Path, tmp_path: Path) -> None:
    assert "is not the folder of a training run" in refused(tmp_path)
    params = finished / "BreakoutNoFrameskip-v4"
    args = (params / "args.yml").read_text()
    try:
        (params / "args.yml").write_text(args.replace("- dqn_custom", "- dqn", 1))
        assert "is a run of 'dqn'; only dqn_custom, dqn_sweep have checkpoints" in refused(finished)
        (params / "args.yml").write_text(args + "- !!python/object/apply:os.system ['touch hacked']\n")
        assert "is refused: it holds the tag" in refused(finished)
    finally:
        (params / "args.yml").write_text(args)
    config = yaml.safe_dump({"n_timesteps": 100, "policy_kwargs": "__import__('os').system('touch hacked')"})
    original = (params / "config.yml").read_text()
    try:
        (params / "config.yml").write_text(config)
        assert "would have to be evaluated, which is not done for a saved run" in refused(finished)
    finally:
        (params / "config.yml").write_text(original)
    assert not Path("hacked").exists()


def test_a_configuration_that_is_not_the_models_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As that of a run which began with another one's model, by ``-i``."""
    config = finished / "BreakoutNoFrameskip-v4" / "config.yml"
    original = config.read_text()
    try:
        config.write_text(yaml.safe_dump({**read_yaml(config), "double_q": True, "gamma": 0.5}))
        with pytest.raises(SystemExit):
            resume_here([str(finished)])
        assert "the checkpoint's model has double_q=False (not True), gamma=0.99 (not 0.5)" in capsys.readouterr().err
    finally:
        config.write_text(original)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("callback", [{"subprocess.Popen": {"args": ["touch", "hacked"]}}]),
        ("policy", "hacked.Policy"),
        ("replay_buffer_class", "__import__('os').system('touch hacked')"),
        ("env_wrapper", ["hacked.Wrapper"]),
        ("policy_kwargs", {"features_extractor_class": "hacked.Network"}),
    ],
)
def test_what_would_run_code_is_refused(finished: Path, tmp_path: Path, name: str, value: Any) -> None:
    config = finished / "BreakoutNoFrameskip-v4" / "config.yml"
    original = config.read_text()
    hyperparams = read_yaml(config)
    try:
        config.write_text(yaml.safe_dump({**hyperparams, name: value}))
        assert "would run" in refused(finished) or "could run any code" in refused(finished)
    finally:
        config.write_text(original)
    assert not Path("hacked").exists()


def test_a_configuration_with_classes_goes_on(tmp_path: Path) -> None:
    kwargs = "dict(activation_fn=nn.Tanh, features_extractor_class='NipsCNN', features_extractor_kwargs=dict(features_dim=32))"
    start(tmp_path, "uniform", 100, policy_kwargs=kwargs).wait()
    run = run_folder(tmp_path, "uniform")
    assert "would have to be evaluated" in refused(run, "-n", 160)
    assert "goes on at step 100 of 160" in resume(run, "-n", "160", "--trust").wait()
    assert contents(run)["model/counters/num_timesteps"] == 160


def test_an_exception_leaves_a_checkpoint(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "uniform")
    command = start(tmp_path, "uniform", 400, callback=["tests.checkpoints.test_resume.FailOnce"], checkpoint_freq=100)
    output = command.wait(status=1)
    assert "A checkpoint was written at this exception, at step 152" in output
    assert "RuntimeError: as if something had broken" in output
    (tmp_path / "no more").touch()
    assert "goes on at step 152 of 400, written at an exception: RuntimeError" in resume(run, "--trust").wait()
    found = contents(run)
    assert found["model/counters/num_timesteps"] == 400


class FailOnce(BaseCallback):
    """Breaks at step 152."""

    def _on_step(self) -> bool:
        if self.num_timesteps == 152:
            raise RuntimeError("as if something had broken")
        return True
