"""ONNX files in onnxruntime, beside PyTorch."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_atari_dqn
from sb3_atari_dqn import AleVecEnv, CustomDQN, NipsCNN
from sb3_atari_dqn.evaluation.play import play_episodes
from sb3_atari_dqn.saving.model_files import save_model
from sb3_atari_dqn.saving.onnx_files import export_onnx, q_values_in_pytorch
from tests.saving.models import custom_dqn, observations_for, session_of, sweep_dqn

HEADS: dict[str, dict[str, Any]] = {
    "plain": {"net_arch": [16]},
    "dueling": {"dueling": True, "net_arch": [16]},
    "noisy": {"noisy_sigma": 0.5, "net_arch": [16]},
    "categorical": {"distribution": "categorical"},
    "quantile": {"distribution": "quantile", "distribution_kwargs": {"n_quantiles": 7}},
    "implicit quantile": {"distribution": "implicit-quantile"},
    "all of it": {"distribution": "implicit-quantile", "dueling": True, "noisy_sigma": 0.5, "net_arch": [16]},
}

EXTRACTORS: dict[str, dict[str, Any]] = {
    "NipsCNN": {"features_extractor_class": "NipsCNN"},
    "NatureCNN": {"features_extractor_class": "NatureCNN"},
    "ImpalaCNN": {"features_extractor_class": "ImpalaCNN"},
    "BTR's": {
        "features_extractor_class": "ImpalaCNN",
        "features_extractor_kwargs": {"spectral_norm": True, "pool_size": 3, "features_dim": None},
    },
    "TutorialCNN": {  # four layers of 1024 units are slow: not learnt here
        "features_extractor_class": "TutorialCNN",
        "features_extractor_kwargs": {"dropout": 0.1, "features_dim": 16},
        "normalize_images": False,
    },
    "NatureCNN without units": {"features_extractor_class": "NatureCNN", "features_extractor_kwargs": {"features_dim": None}},
}


def check_agreement(model: BaseAlgorithm, path: Path) -> None:
    export_onnx(model, path)
    session = session_of(path)
    for batch in (1, 5):
        observations = observations_for(model, batch)
        (q_values,) = session.run(["q_values"], {"observations": observations})
        expected = q_values_in_pytorch(model, observations)
        assert q_values.shape == (batch, model.action_space.n)  # type: ignore[attr-defined]
        np.testing.assert_allclose(q_values, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
        np.testing.assert_array_equal(q_values.argmax(1), model.predict(observations, deterministic=True)[0])


@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees(head: str, tmp_path: Path) -> None:
    check_agreement(custom_dqn(policy_kwargs=HEADS[head], learning_rate=0.01).learn(24), tmp_path / "model.onnx")


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_every_extractor_agrees(extractor: str, tmp_path: Path) -> None:
    size, steps = (20, 4) if extractor == "TutorialCNN" else (36, 24)
    model = custom_dqn(size, policy_kwargs=EXTRACTORS[extractor], learning_rate=0.001).learn(steps)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    check_agreement(model, tmp_path / "model.onnx")
    model.learn(8, reset_num_timesteps=False)
    after = model.policy.state_dict()
    assert before.keys() == after.keys(), "the model itself is not taken apart"
    assert not all(th.equal(before[name], after[name]) for name in before)


def test_other_algorithms_agree(tmp_path: Path) -> None:
    small: dict[str, Any] = {"buffer_size": 20, "seed": 1}
    for model in (
        sweep_dqn(),
        DQN("MlpPolicy", "CartPole-v1", **small),
        QRDQN("MlpPolicy", "CartPole-v1", **small),
        CustomDQN("MlpPolicy", "CartPole-v1", **small),
    ):
        check_agreement(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("size", [36, 37, 50])
def test_adaptive_pooling_of_any_size(size: int, tmp_path: Path) -> None:
    kwargs = {"features_extractor_class": "ImpalaCNN", "features_extractor_kwargs": {"pool_size": 4, "features_dim": 8}}
    check_agreement(custom_dqn(size, policy_kwargs=kwargs), tmp_path / "model.onnx")


def test_an_exported_model_plays_a_whole_game(tmp_path: Path) -> None:
    def games() -> AleVecEnv:
        return AleVecEnv("BreakoutNoFrameskip-v4", 1, seed=3)

    kwargs: dict[str, Any] = {"features_extractor_class": "NipsCNN", "dueling": True, "net_arch": [32]}
    model = CustomDQN("CnnPolicy", games(), buffer_size=4, seed=2, policy_kwargs=kwargs)
    save_model(model, tmp_path / "model.safetensors", optimizer=False)
    export_onnx(sb3_atari_dqn.load(tmp_path / "model.safetensors"), tmp_path / "model.onnx")
    session = session_of(tmp_path / "model.onnx")

    def in_onnxruntime(observations: np.ndarray, _: np.ndarray) -> np.ndarray:
        return session.run(None, {"observations": observations})[0].argmax(axis=1)

    (game,) = play_episodes(games(), in_onnxruntime, 1, seed=3)
    assert 100 < game.steps < 1_000, "five lives, not the limit of time"
    assert [game] == play_episodes(games(), lambda states, _: model.predict(states, deterministic=True)[0], 1, seed=3)


def test_the_example_of_the_docs_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    kwargs: dict[str, Any] = {"features_extractor_class": "NipsCNN"}
    env = AleVecEnv("BreakoutNoFrameskip-v4")
    export_onnx(CustomDQN("CnnPolicy", env, buffer_size=4, seed=2, policy_kwargs=kwargs), tmp_path / "model.onnx")
    text = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    example = next(block for block in text.split("```python\n")[1:] if "onnxruntime" in block).partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.startswith("score ")


class Unknown(NipsCNN):
    """A network with something that ONNX does not have."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return super().forward(observations) * th.vdot(observations.flatten(), observations.flatten())


class Random(NipsCNN):
    """A network that never gives the same."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return super().forward(observations) + th.rand(1)


def test_bad_input_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()

    def with_network(network: type[NipsCNN]) -> CustomDQN:
        return custom_dqn(policy_kwargs={"features_extractor_class": network})

    for model, path, message in (
        (PPO("MlpPolicy", "CartPole-v1", n_steps=64), "model", "PPO has no Q-values to export"),
        (
            DQN("MlpPolicy", "FrozenLake-v1", buffer_size=2),
            "model",
            r"Discrete\(16\) cannot be exported: they must be one array",
        ),
        (with_network(Unknown), "model", "cannot be written as ONNX: .*vdot"),
        (with_network(Random), "model", "computes something else in onnxruntime: Q-values differ by"),
        (custom_dqn(), "folder", "folder' is a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            export_onnx(model, tmp_path / path)

    real_import = builtins.__import__

    def without_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", without_onnx)
    with pytest.raises(ValueError, match="pip install onnx onnxruntime"):
        export_onnx(custom_dqn(), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
