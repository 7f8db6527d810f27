"""One damaged file of the replay buffer, which all checkpoints share: the run is resumed without its buffer, and says so."""

import warnings
from pathlib import Path
from typing import Any

import pytest

import sb3_atari_dqn
from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.register import register
from sb3_atari_dqn.zoo.resume import resume
from tests.report.runs import SMALL, train

register()

CARTPOLE: dict[str, Any] = {
    "buffer_size": 1_000,
    "learning_starts": 60,
    "train_freq": 4,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
    "checkpoint_freq": 100,
}
SWEEP: dict[str, Any] = {
    "buffer_size": 800,
    "batch_size": 8,
    "n_envs": 2,
    "native_envs": False,
    "max_epochs": 1,
    "final_max_epochs": 1,
    "policy_kwargs": {"features_extractor_class": "NipsCNN"},
    "checkpoint_freq": 50,
}


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("algo", "env_id", "hyperparams", "n_timesteps"),
    [("dqn_custom", "CartPole-v1", CARTPOLE, 400), ("dqn_sweep", "BreakoutNoFrameskip-v4", SWEEP, 130)],
)
@pytest.mark.parametrize("harm", [flip_a_bit, Path.unlink], ids=["flipped", "missing"])
def test_a_run_goes_on_without_its_buffer(
    algo: str, env_id: str, hyperparams: dict[str, Any], n_timesteps: int, harm: Any, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = train(tmp_path, algo, env_id, n_timesteps, hyperparams, resumable=True, eval_freq=-1, log_interval=1)
    store = CheckpointStore(run / FOLDER)
    oldest = min(run.glob(f"{FOLDER}/memory-*.safetensors"))
    if algo == "dqn_custom":
        assert [oldest.name in path.read_text() for path in store.manifests()] == [True] * 3
    newest = store.read_manifest(store.manifests()[0])
    updates = store.read_state(newest)["model"]["counters"]["_n_updates"]
    # the other algorithm empties its memory now and then: checkpoints before and after that share nothing
    for file in [oldest] if algo == "dqn_custom" else run.glob(f"{FOLDER}/memory-*.safetensors"):
        harm(file)
    checkpoint, complaints = store.find_good()
    assert checkpoint == newest._replace(segments=[], has_buffer=False)
    assert len(complaints) == 1
    assert "memory-" in complaints[0]

    capsys.readouterr()
    steps = newest.num_timesteps + 100
    resume([str(run), "-n", str(steps)])
    said = "".join(capsys.readouterr())
    assert f"no checkpoint is whole: {newest.path.name} is used without its replay buffer" in said
    assert f"goes on at step {newest.num_timesteps} of {steps}" in said
    good, complaints = store.find_good()
    assert good.has_buffer
    assert good.num_timesteps >= steps
    state = store.read_state(good)
    if algo == "dqn_custom":
        # 60 steps to fill the buffer, and an update for each four after it
        assert state["model"]["counters"]["_n_updates"] == updates + (100 - 60) // 4
        assert state["memory"]["n_rows"] == 100
    else:
        assert state["model"]["counters"]["n_fits"] >= 1
    resume([str(run), "-n", str(steps + 20)])
    assert "no checkpoint is whole" not in "".join(capsys.readouterr())


def test_a_whole_one_before_it_is_preferred(tmp_path: Path) -> None:
    run = train(tmp_path, "dqn_custom", "CartPole-v1", 400, CARTPOLE, resumable=True, eval_freq=-1, log_interval=1)
    store = CheckpointStore(run / FOLDER)
    newest, before = (store.read_manifest(path) for path in store.manifests()[:2])
    [only] = {segment["name"] for segment in newest.segments} - {segment["name"] for segment in before.segments}
    flip_a_bit(store.folder / only)
    assert store.find_good()[0] == before


def test_its_model_can_still_be_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, "dqn_custom", "BreakoutNoFrameskip-v4", 130, {**SMALL, "checkpoint_freq": 50}, eval_freq=-1)
    (run / "BreakoutNoFrameskip-v4.zip").unlink()
    flip_a_bit(min(run.glob(f"{FOLDER}/memory-*.safetensors")))
    evaluate([str(run), "--protocol", "nature", "--episodes", "1"])
    assert "the model is not in it" in " ".join("".join(capsys.readouterr()).split())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert sb3_atari_dqn.load(run / FOLDER).num_timesteps >= 130
    assert any("the model is not in it" in str(warning.message) for warning in said)
