"""Models from checkpoints, without their runs."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.monitor import Monitor

import sb3_atari_dqn
from sb3_atari_dqn import CustomDQN, SweepDQN
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.checkpoints.watcher import Watcher
from sb3_atari_dqn.saving.model_files import save_model
from sb3_atari_dqn.saving.trust import UntrustedFileError
from tests.saving.models import Images, custom_dqn, observations_for, sweep_dqn
from tests.saving.test_model_files import MODELS, TwoLayers


def learn(model: QLearningAlgorithm, run: Path, steps: int, every: int | None = None) -> Path:
    """Folder of checkpoints that it has written meanwhile."""
    store = CheckpointStore(run / "checkpoints")
    with Watcher(model, store, run, every):
        model.learn(steps)
    return store.folder


@pytest.mark.parametrize("name", MODELS)
def test_a_model_plays_and_learns_on_as_one_that_was_exported(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    folder = learn(model, tmp_path, 40)
    assert model._n_updates > 0
    save_model(model, tmp_path / "exported")

    loaded = sb3_atari_dqn.load(folder)
    assert type(loaded) is type(model)
    observations = observations_for(model)
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    both = []
    for path in (folder / "000001.json", tmp_path / "exported"):
        env = gym.make("CartPole-v1") if name == "vectors" else Images()
        both.append(sb3_atari_dqn.load(path, env=Monitor(env)))
        both[-1].learn(40, reset_num_timesteps=False)
    for key, value in both[0].get_parameters()["policy"].items():
        assert th.equal(value, both[1].get_parameters()["policy"][key]), key
    assert both[0]._n_updates == both[1]._n_updates > model._n_updates
    assert both[0].num_timesteps >= 80


def test_exploration_goes_on_as_it_was_planned(tmp_path: Path) -> None:
    model = custom_dqn(exploration_fraction=0.5)
    folder = learn(model, tmp_path, 100, every=40)
    path = CheckpointStore(folder).manifests()[-1]
    loaded = sb3_atari_dqn.load(path, env=Images())
    assert loaded.num_timesteps == 40
    loaded.learn(4, reset_num_timesteps=False)
    assert isinstance(loaded, CustomDQN)
    assert loaded.exploration_rate == pytest.approx(1 - 0.95 * 44 / 50)


def test_a_broken_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path) -> None:
    folder = learn(custom_dqn(), tmp_path, 40, every=16)
    broken, before = CheckpointStore(folder).manifests()[:2]
    arrays = folder / f"{broken.stem}.arrays.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{arrays.name}' is not what was written.*; the checkpoint before it is used"):
        assert sb3_atari_dqn.load(folder).num_timesteps == 32
    assert sb3_atari_dqn.load(before).num_timesteps == 32
    with pytest.raises(ValueError, match=rf"{arrays.name}' is not what was written"):
        sb3_atari_dqn.load(broken)
    with pytest.raises(ValueError, match=r"000099.json' does not exist"):
        sb3_atari_dqn.load(folder / "000099.json")
    for path in folder.glob("*.state.json"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no checkpoint that is whole"):
        sb3_atari_dqn.load(folder)


def test_a_network_of_ones_own_needs_trust(tmp_path: Path) -> None:
    folder = learn(custom_dqn(policy_kwargs={"features_extractor_class": TwoLayers}), tmp_path, 16)
    with pytest.raises(UntrustedFileError, match=r"000001.json' is refused: .*test_model_files.TwoLayers'.*trust=True"):
        sb3_atari_dqn.load(folder)
    assert isinstance(sb3_atari_dqn.load(folder, trust=True).policy.q_net.features_extractor, TwoLayers)


def with_description(folder: Path, target: Path, change: Any) -> Path:
    """A checkpoint like the newest one in a folder, that describes its model in another way; its checksums are right."""
    store, other = CheckpointStore(folder), CheckpointStore(target)
    checkpoint = store.find_good()[0]
    state = store.read_state(checkpoint)
    state["description"] = change(json.loads(state["description"]))
    other.prepare()
    return other.write(checkpoint.num_timesteps, checkpoint.n_timesteps, state, [], "changed").path


def test_names_in_a_checkpoint_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = learn(custom_dqn(), tmp_path, 16)
    path = with_description(folder, tmp_path / "evil", lambda found: json.dumps(found | {"policy": "evil_module.Policy"}))
    with pytest.raises(UntrustedFileError, match=r"000001.json' is refused: it names 'evil_module.Policy'"):
        sb3_atari_dqn.load(path)
    assert not marker.exists()
    assert "evil_module" not in sys.modules
    with pytest.raises(ValueError, match="which is not there"):
        sb3_atari_dqn.load(path, trust=True)
    assert marker.exists(), "the check above shows something"
    del sys.modules["evil_module"]


def test_a_checkpoint_that_does_not_describe_its_model(tmp_path: Path) -> None:
    folder = learn(custom_dqn(learning_rate=lambda left: 1e-3 * left), tmp_path, 16)
    with pytest.raises(ValueError, match=r"000001.json' does not describe its model: .* It can only be resumed"):
        sb3_atari_dqn.load(folder)
    good = learn(sweep_dqn(), tmp_path / "sweep", 16)
    assert isinstance(sb3_atari_dqn.load(good), SweepDQN)
    for change, message in (
        (lambda _: 5, "does not describe a model of this package"),
        (lambda _: "junk", "does not describe a model of this package"),
        (lambda found: json.dumps(found | {"format": 2}), "has format 2, and this version reads format 1"),
        (lambda found: json.dumps(found | {"algorithm": "PPO"}), "cannot be loaded: what it says of the model is not"),
    ):
        with pytest.raises(ValueError, match=message):
            sb3_atari_dqn.load(with_description(good, tmp_path / "odd", change))


def test_a_state_that_makes_no_sense(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for state in ({}, {"model": 5}, {"model": {"policy": {"weight": "text"}, "optimizer": {}}}):
        with pytest.raises(ValueError, match="is not a checkpoint that this version writes"):
            sb3_atari_dqn.load(store.write(16, 16, state, [], "changed").path)
