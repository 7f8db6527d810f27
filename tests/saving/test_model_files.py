"""Safetensors files: models that play and learn on as the saved ones, and files that are refused."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from safetensors.torch import save_file
from stable_baselines3 import DQN
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

import sb3_atari_dqn
from sb3_atari_dqn import CustomDQN, SweepDQN
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.saving.model_files import KEY, read_model, save_model
from sb3_atari_dqn.saving.trust import UntrustedFileError
from sb3_atari_dqn.saving.values import from_json, to_json
from tests.saving.models import Images, custom_dqn, observations_for, sweep_dqn


def rainbow(**kwargs: Any) -> CustomDQN:
    heads = {"dueling": True, "noisy_sigma": 0.5, "distribution": "categorical", "distribution_kwargs": {"n_atoms": 11}}
    memory = {"n_stack": 2, "priority_exponent": 0.5}
    return custom_dqn(
        policy_kwargs=heads | {"optimizer_class": th.optim.RMSprop, "activation_fn": nn.ELU},
        replay_buffer_kwargs=memory,
        n_steps=3,
        double_q=True,
        learning_rate=LinearSchedule(1e-3, 1e-4, 0.5),
        **kwargs,
    )


CARTPOLE: dict[str, Any] = {"seed": 1, "buffer_size": 50, "learning_starts": 8, "train_freq": (1, "episode")}

MODELS: dict[str, Callable[[], QLearningAlgorithm]] = {
    "plain": custom_dqn,
    "rainbow": rainbow,
    "no target network": lambda: custom_dqn(target_update_interval=None, update_period=2),
    "spectral norm": lambda: custom_dqn(
        policy_kwargs={"features_extractor_class": "ImpalaCNN", "features_extractor_kwargs": {"spectral_norm": True}}
    ),
    "SB3's memory": lambda: custom_dqn(replay_buffer_class=None, replay_buffer_kwargs=None, n_steps=2, max_grad_norm=0.5),
    "vectors": lambda: CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE),
    "sweep": sweep_dqn,
}


def header_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])


def rewritten(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a file that describes its model in another way."""
    description, arrays = read_model(source)
    save_file(arrays, target, {KEY: json.dumps(description | changes)})
    return target


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    save_model(custom_dqn().learn(16), path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_model_plays_and_learns_on_as_the_saved_one(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    model.learn(40)
    assert model._n_updates > 0
    model.save(tmp_path / "model.zip")
    save_model(model, tmp_path / "model.safetensors")

    loaded = sb3_atari_dqn.load(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    observations = observations_for(model)
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    assert (loaded.observation_space, loaded.action_space) == (model.observation_space, model.action_space)

    both = []
    for kind in ("safetensors", "zip"):  # one after the other: loading seeds what is random
        env = gym.make("CartPole-v1") if name == "vectors" else Images()
        both.append(sb3_atari_dqn.load(tmp_path / f"model.{kind}", env=Monitor(env)))
        if isinstance(both[-1], SweepDQN):  # whose generator the zip file has
            both[-1]._random_generator = np.random.default_rng(1)
        both[-1].learn(40, reset_num_timesteps=False)
    for key, value in both[0].get_parameters()["policy"].items():
        assert th.equal(value, both[1].get_parameters()["policy"][key]), key
    for attribute in ("num_timesteps", "_n_updates", "_episode_num", "n_states", "n_episodes", "exploration_rate"):
        assert getattr(both[0], attribute, None) == getattr(both[1], attribute, None), attribute
    assert both[0].num_timesteps >= 80
    assert both[0]._n_updates > model._n_updates


def test_no_keyword_changes(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "munchausen": True,
        "munchausen_kwargs": {"clip": -2.0},
        "eval_epsilon": 0.5,
        "stats_window_size": 7,
        "gamma": 0.9,
    }
    model = custom_dqn(**settings, exploration_fraction=0.3, clip_rewards=True, loss="huber", huber_delta=2.0)
    save_model(model, tmp_path / "model")
    loaded = sb3_atari_dqn.load(tmp_path / "model")
    for name in CustomDQN.keywords() - {"policy", "env", "stats_window_size", "learning_rate", "_init_setup_model"}:
        assert getattr(loaded, name) == getattr(model, name), name
    assert loaded._stats_window_size == 7


def test_a_learning_rate_that_is_a_tensor_is_a_number_in_the_file(tmp_path: Path) -> None:
    model = custom_dqn()
    model.policy.optimizer.param_groups[0]["lr"] = th.tensor(0.25)  # as where updates are compiled or captured
    save_model(model, tmp_path / "model.safetensors")
    description, _ = read_model(tmp_path / "model.safetensors")
    assert description["optimizer"]["param_groups"][0]["lr"] == 0.25


def test_without_the_optimizer(tmp_path: Path) -> None:
    model = custom_dqn().learn(20)
    save_model(model, tmp_path / "with")
    save_model(model, tmp_path / "without", optimizer=False)
    assert (tmp_path / "without").stat().st_size < 0.55 * (tmp_path / "with").stat().st_size
    assert sb3_atari_dqn.load(tmp_path / "with").policy.optimizer.state_dict()["state"]
    loaded = sb3_atari_dqn.load(tmp_path / "without", env=Images())
    assert not loaded.policy.optimizer.state_dict()["state"]
    loaded.learn(20)


def test_the_file_is_arrays_and_json(saved: Path) -> None:
    header = header_of(saved)
    assert set(header.pop("__metadata__")) == {KEY}
    assert {array["dtype"] for array in header.values()} == {"F32"}
    assert b"builtins" not in saved.read_bytes()


class TwoLayers(BaseFeaturesExtractor):
    """An extractor of a user's."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 8)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(observation_space.shape)), 8))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)


def test_a_network_of_ones_own_needs_trust(tmp_path: Path) -> None:
    for extractor in (TwoLayers, f"{TwoLayers.__module__}.TwoLayers"):
        model = custom_dqn(policy_kwargs={"features_extractor_class": extractor})
        save_model(model, tmp_path / "model")
        with pytest.raises(UntrustedFileError, match=r"'tests.saving.test_model_files.TwoLayers'.*trust=True"):
            sb3_atari_dqn.load(tmp_path / "model")
        loaded = sb3_atari_dqn.load(tmp_path / "model", trust=True)
        assert isinstance(loaded.policy.q_net.features_extractor, TwoLayers)


def test_names_in_a_file_import_nothing(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = read_model(saved)[0]["settings"]
    evil: list[dict[str, Any]] = [
        {"policy": "evil_module.Policy"},
        {"policy": "os.system"},
        {"settings": settings | {"replay_buffer_class": {"$": "class", "name": "evil_module.Buffer"}}},
        {"settings": settings | {"policy_kwargs": {"features_extractor_class": "evil_module.Net"}}},
        {"settings": settings | {"policy_kwargs": {"activation_fn": {"$": "class", "name": "builtins.exec"}}}},
    ]
    for changes in evil:
        with pytest.raises(UntrustedFileError, match="is refused: it names"):
            sb3_atari_dqn.load(rewritten(saved, tmp_path / "evil", **changes))
    assert "evil_module" not in sys.modules
    assert not marker.exists()


def test_settings_of_another_version(saved: Path, tmp_path: Path) -> None:
    description = read_model(saved)[0]
    versions = description["versions"] | {"sb3-atari-dqn": "9.9"}
    settings = description["settings"] | {"doubel_q": True}
    path = rewritten(saved, tmp_path / "newer", settings=settings, versions=versions)
    message = r"has no argument 'doubel_q'; did you mean 'double_q'\?. It was written by sb3-atari-dqn 9.9 \(here 0.1.0\)"
    with pytest.raises(ValueError, match=message):
        sb3_atari_dqn.load(path)
    path = rewritten(saved, tmp_path / "older", settings=description["settings"] | {"loss": "l1"}, versions=versions)
    with pytest.raises(ValueError, match=r"loss='l1'.*It was written by sb3-atari-dqn 9\.9"):
        sb3_atari_dqn.load(path)
    fewer = {name: value for name, value in description["settings"].items() if name != "munchausen"}
    assert sb3_atari_dqn.load(rewritten(saved, tmp_path / "fewer", settings=fewer)).munchausen is False  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has format 2, and this version reads format 1"):
        sb3_atari_dqn.load(rewritten(saved, tmp_path / "format", format=2))
    wider = description["settings"] | {"policy_kwargs": {"features_extractor_class": "NatureCNN"}}
    with pytest.raises(ValueError, match=r"cnn\.0\.bias' has shape \(16,\) in the file, and \(32,\)"):
        sb3_atari_dqn.load(rewritten(saved, tmp_path / "wider", settings=wider))


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "PPO"},
        {"algorithm": None},
        {"settings": []},
        {"progress": {"predict": 1}},
        {"observation_space": {"$": "Box"}},
        {"observation_space": {"$": "Sphere"}},
        {"observation_space": {"$": "Box", "low": {"dtype": "object", "shape": [1], "values": [0]}, "high": None}},
        {"action_space": 5},
        {"n_envs": "two"},
        {"optimizer": {"param_groups": [], "state": {}}},
        {"optimizer": {"param_groups": [{"lr": 0.1}], "state": {}}},
        {"optimizer": 1},
    ],
)
def test_descriptions_that_make_no_sense(changes: dict[str, Any], saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be loaded: "):
        sb3_atari_dqn.load(rewritten(saved, tmp_path / "odd", **changes))


def test_files_that_are_no_models(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    header = struct.unpack("<Q", content[:8])[0]
    save_file({"weights": th.zeros(2)}, tmp_path / "others")
    save_file({"weights": th.zeros(2)}, tmp_path / "junk", {KEY: "junk"})
    files = {
        "truncated": content[:-100],
        "header": content[: header // 2],
        "short": content[:4],
        "flipped": content[:20] + b"\x00" + content[21:],
        "text": b"not a model at all",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name, message in {
        "missing": "does not exist",
        ".": "is a folder, not a model's file",
        "truncated": "is damaged: .*[Mm]etadata|is damaged",
        "header": "is damaged",
        "flipped": "is damaged",
        "short": "is not a model that Stable-Baselines3 saved, a zip file, nor one that `export --safetensors` wrote",
        "text": "other files are not read",
        "others": "does not hold a model of this package: its metadata have no 'sb3_atari_dqn'",
        "junk": "does not describe a model of this package",
    }.items():
        with pytest.raises(ValueError, match=message):
            sb3_atari_dqn.load(tmp_path / name)


def test_another_environment(saved: Path) -> None:
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        sb3_atari_dqn.load(saved, env=Images(20))


def test_what_cannot_be_saved_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    no_data = "learning_rate: .*cannot be written as JSON"
    local = type("Local", (TwoLayers,), {"__module__": "__main__"})
    for model, path, message in (
        (custom_dqn(learning_rate=lambda left: 1e-3 * left), "model", no_data),
        (custom_dqn(policy_kwargs={"features_extractor_class": local}), "model", "policy_kwargs: .*Local.* cannot be named"),
        (
            DQN("MlpPolicy", "CartPole-v1", buffer_size=2),
            "model",
            "DQN cannot be written.*; what can is CustomDQN and SweepDQN",
        ),
        (custom_dqn(), "folder", "folder' is a folder: give the name of a file"),
    ):
        with pytest.raises(ValueError, match=message):
            save_model(model, tmp_path / path)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_write_leaves_the_old_file(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    path.write_bytes(saved.read_bytes())
    model = custom_dqn()
    monkeypatch.setattr(model, "num_timesteps", float("nan"))  # JSON has none
    model._total_timesteps = th.zeros(1)  # type: ignore[assignment]  # nor this
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        save_model(model, path)
    assert path.read_bytes() == saved.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_json_and_back() -> None:
    for value in (
        None,
        True,
        3,
        2.5,
        float("inf"),
        "text",
        [1, [2]],
        {"a": (1, (2.0, None))},
        nn.ReLU,
        th.optim.Adam,
        np.float32(0.5),
    ):
        assert from_json(json.loads(json.dumps(to_json(value), allow_nan=False))) == value
    for bad in ({1: 2}, {"$": "class"}, 1j, object(), {"a": lambda: 0}):
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            to_json(bad)


def test_sweep_dqn_does_not_write_where_the_file_says(tmp_path: Path) -> None:
    model = sweep_dqn(run_folder=str(tmp_path / "run"), tensorboard_log=str(tmp_path / "tb"))
    save_model(model, tmp_path / "model")
    loaded = sb3_atari_dqn.load(tmp_path / "model", env=Monitor(Images()))
    assert isinstance(loaded, SweepDQN)
    assert loaded.run_folder is None
    assert loaded.tensorboard_log is None
    loaded.learn(40)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
