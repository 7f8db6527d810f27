"""Runs that were ended before they saved a model: what there is of one is in their checkpoints."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import sb3_atari_dqn
from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.saving.onnx_files import q_values_in_pytorch
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.export import export
from sb3_atari_dqn.zoo.runs import NO_FINAL_MODEL, find_algo, find_run
from tests.saving.models import observations_for, session_of
from tests.zoo.test_evaluate import BREAKOUT, SMALL, train

TAKEN = f"{NO_FINAL_MODEL} Its checkpoint at step {{}} is taken, {{}}.json."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 16 steps with two checkpoints, whose model is not there."""
    fast = {"n_envs": 2, "accelerate": "none", "precision": "float32", "checkpoint_freq": 8}
    run = train(tmp_path_factory.mktemp("logs"), "dqn_custom", BREAKOUT, SMALL | fast)
    (run / f"{BREAKOUT}.zip").rename(run.parent / "model.zip")
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / made.name))


def test_its_newest_checkpoint_is_played(run: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest, before = CheckpointStore(run / "checkpoints").manifests()[:2]
    by_protocol = ["--protocol", "nature", "--episodes", "1"]
    evaluate([str(run), *by_protocol])
    assert capsys.readouterr().err.splitlines()[:1] == [TAKEN.format(16, newest.stem)]
    assert not (run / "evaluation_nature.json").exists(), "which is of the last model, for sweep and compare"
    evaluation = Evaluation.load(run / f"evaluation_nature_{newest.stem}.json")
    assert (evaluation.model, evaluation.training_steps) == (str(newest), 16)

    shutil.copy(made.parent / "model.zip", run / f"{BREAKOUT}.zip")
    evaluate([str(run), *by_protocol])
    assert "no final model" not in capsys.readouterr().err
    assert Evaluation.load(run / "evaluation_nature.json").episodes == evaluation.episodes

    evaluate([str(before), *by_protocol])
    assert Evaluation.load(run / f"evaluation_nature_{before.stem}.json").training_steps == 8
    evaluate([str(before), *by_protocol, "--env", BREAKOUT, "--json", str(run / "alone.json")])
    assert Evaluation.load(run / "alone.json").label == find_run(run).label, "naming the run's game changes nothing"
    assert find_algo(before) == "dqn_custom"


def test_a_model_of_before_an_interruption_is_not_the_last_one(run: Path, made: Path) -> None:
    with zipfile.ZipFile(made.parent / "model.zip") as model, zipfile.ZipFile(run / f"{BREAKOUT}.zip", "w") as older:
        for name in model.namelist():
            content = model.read(name)
            older.writestr(name, json.dumps(json.loads(content) | {"num_timesteps": 8}) if name == "data" else content)
    found = find_run(run)
    newest = CheckpointStore(run / "checkpoints").manifests()[0]
    assert found.find_model() == (newest, [TAKEN.format(16, newest.stem)])
    shutil.copy(made.parent / "model.zip", run / f"{BREAKOUT}.zip")
    assert found.find_model() == (run / f"{BREAKOUT}.zip", [])
    os.truncate(run / f"{BREAKOUT}.zip", 1000)
    assert found.find_model() == (newest, [f"{BREAKOUT}.zip is damaged: the checkpoint at step 16 is taken."])
    shutil.copy(made.parent / "model.zip", run / f"{BREAKOUT}.zip")
    for path in run.glob("checkpoints/*.state.json"):
        os.truncate(path, 3)
    assert found.find_model() == (run / f"{BREAKOUT}.zip", []), "none is whole"
    shutil.rmtree(run / "checkpoints")
    assert found.find_model() == (run / f"{BREAKOUT}.zip", [])


def test_a_broken_checkpoint_is_named_and_the_one_before_it_exported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest, before = CheckpointStore(run / "checkpoints").manifests()[:2]
    os.truncate(newest.with_name(f"{newest.stem}.arrays.safetensors"), 100)
    files = ["--onnx", str(run / "model.onnx"), "--safetensors", str(run / "model.safetensors")]
    export([str(run), *files])
    complaint, taken = capsys.readouterr().err.splitlines()
    assert f"{newest.stem}.arrays.safetensors' has 100 bytes" in complaint
    assert complaint.endswith("; the checkpoint before it is used")
    assert taken == TAKEN.format(8, before.stem)
    exported, model = sb3_atari_dqn.load(run / "model.safetensors"), sb3_atari_dqn.load(before)
    observations = observations_for(model)
    expected = q_values_in_pytorch(model, observations)
    np.testing.assert_array_equal(q_values_in_pytorch(exported, observations), expected)
    q_values = session_of(run / "model.onnx").run(None, {"observations": observations})[0]
    np.testing.assert_allclose(q_values, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("command", [evaluate, export])
def test_none_that_is_whole(command: object, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(run), *(["--onnx", str(run / "model.onnx")] if command is export else [])]
    for path in run.glob("checkpoints/*.state.json"):
        path.unlink()
    with pytest.raises(SystemExit):
        command(arguments)  # type: ignore[operator]
    assert "holds no checkpoint that is whole: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command([*arguments, "--load-best"])  # type: ignore[operator]
    assert "best_model.zip' does not exist" in capsys.readouterr().err
    assert not (run / "model.onnx").exists()


def test_what_a_checkpoint_names_is_not_imported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(run / "checkpoints")
    checkpoint = store.find_good()[0]
    state = store.read_state(checkpoint)
    state["description"] = json.dumps(json.loads(state["description"]) | {"policy": "evil_module.Policy"})
    store.write(16, 16, state, checkpoint.segments, "changed")
    with pytest.raises(SystemExit):
        evaluate([str(run)])
    assert "is refused: it names 'evil_module.Policy'" in capsys.readouterr().err
