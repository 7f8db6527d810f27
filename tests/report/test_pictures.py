"""What a network sees and makes of it, as numbers and as pictures."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from matplotlib.figure import Figure
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_atari_dqn.report as report
from sb3_atari_dqn import CustomDQN, SweepDQN
from sb3_atari_dqn.report.network import find_q_network


class Images(gym.Env):
    """One bright square on a dark field; nothing ever happens."""

    observation_space = spaces.Box(0, 255, (36, 36, 2), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return image(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return image(), 0.0, False, False, {}


def image() -> np.ndarray:
    observation = np.zeros((36, 36, 2), dtype=np.uint8)
    observation[10:20, 12:22, 0] = 200
    observation[5:9, 3:30, 1] = 90
    return observation


def make(algorithm: Any = CustomDQN, extractor: str = "NipsCNN", **policy_kwargs: Any) -> BaseAlgorithm:
    if algorithm in (CustomDQN, SweepDQN):
        policy_kwargs["features_extractor_class"] = extractor
    kwargs: dict[str, Any] = {"batch_size": 16} if algorithm is SweepDQN else {}
    return algorithm("CnnPolicy", Images(), buffer_size=200, policy_kwargs=policy_kwargs, seed=1, **kwargs)


KINDS: dict[str, Any] = {
    "expectation": lambda: make(),
    "dueling, noisy": lambda: make(dueling=True, noisy_sigma=0.5),
    "categorical": lambda: make(distribution="categorical", distribution_kwargs={"n_atoms": 7, "v_min": -3, "v_max": 3}),
    "quantile": lambda: make(distribution="quantile", distribution_kwargs={"n_quantiles": 5}),
    "implicit-quantile": lambda: make(distribution="implicit-quantile", distribution_kwargs={"n_play_quantiles": 4}),
    "sweep": lambda: make(SweepDQN),
    "DQN": lambda: make(DQN),
    "QRDQN": lambda: make(QRDQN),
}


@pytest.mark.parametrize("kind", KINDS)
def test_q_values_are_those_that_the_model_plays_by(kind: str) -> None:
    model = KINDS[kind]()
    rng = np.random.default_rng(0)
    observations = rng.integers(0, 256, (40, 36, 36, 2), dtype=np.uint8)
    values = report.q_values(model, observations)
    assert values.shape == (40, 3)
    np.testing.assert_array_equal(values.argmax(axis=1), model.predict(observations, deterministic=True)[0])


@pytest.mark.parametrize("kind", ["categorical", "quantile", "implicit-quantile", "QRDQN"])
def test_the_mean_of_a_distribution_is_the_q_value(kind: str) -> None:
    model = KINDS[kind]()
    distribution = report.return_distribution(model, image())
    assert distribution is not None
    returns, probabilities = distribution
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((returns * probabilities).sum(axis=1), report.q_values(model, image())[0], rtol=1e-3, atol=1e-5)
    if kind == "categorical":
        np.testing.assert_array_equal(returns[0], [-3, -2, -1, 0, 1, 2, 3])


@pytest.mark.parametrize("kind", ["expectation", "dueling, noisy", "sweep", "DQN"])
def test_expected_returns_have_no_distribution(kind: str) -> None:
    assert report.return_distribution(KINDS[kind](), image()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_saliency_is_the_gradient(kind: str) -> None:
    """Against the difference that changing one pixel makes, for some that count much."""
    model = KINDS[kind]()
    network = find_q_network(model)
    maps = report.saliency(model, image(), action=2)
    assert maps.shape == (2, 36, 36)

    def value(pixels: np.ndarray) -> float:
        with th.no_grad():
            outputs = network(th.as_tensor(pixels[None], dtype=th.float32)).double()
        return float((outputs.mean(dim=1) if outputs.dim() == 3 else outputs)[0, 2])

    pixels = image().transpose(2, 0, 1).astype(np.float32)
    for index in np.argsort(maps.ravel())[-3:]:
        step = np.zeros(maps.size, dtype=np.float32)
        step[index] = 1.0  # grey level
        slope = (value(pixels + step.reshape(maps.shape)) - value(pixels - step.reshape(maps.shape))) / 2
        assert maps.ravel()[index] == pytest.approx(abs(slope), rel=0.05)


def test_outputs_and_weights_of_each_convolution() -> None:
    model = make()
    outputs, weights = report.layer_outputs(model, image()), report.layer_weights(model)
    assert {name: array.shape for name, array in outputs.items()} == {"conv1": (16, 8, 8), "conv2": (32, 3, 3)}
    assert {name: array.shape for name, array in weights.items()} == {"conv1": (16, 2, 8, 8), "conv2": (32, 16, 4, 4)}
    # the first layer worked out by hand at one place: filter 5, row 2, column 3
    patch = image().transpose(2, 0, 1)[:, 8:16, 12:20] / 255
    bias = model.get_parameters()["policy"]["q_net.features_extractor.cnn.0.bias"][5].item()
    assert outputs["conv1"][5, 2, 3] == pytest.approx(max((patch * weights["conv1"][5]).sum() + bias, 0), abs=1e-5)
    assert all((array >= 0).all() for array in outputs.values())


def test_residual_networks_have_their_convolutions_in_order() -> None:
    model = make(extractor="ImpalaCNN", features_extractor_kwargs={"spectral_norm": True})
    outputs = report.layer_outputs(model, image())
    assert list(outputs) == [f"conv{number}" for number in range(1, 16)]
    assert outputs.keys() == report.layer_weights(model).keys()


def shown(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(picture.get_array()) for axes in figure.axes for picture in axes.images]


def test_the_pictures_show_the_numbers() -> None:
    model = make()
    frames = shown(report.plot_observation(model, image()))
    np.testing.assert_array_equal(frames, image().transpose(2, 0, 1))
    np.testing.assert_array_equal(shown(report.plot_observation(model, image().transpose(2, 0, 1)))[1], image()[..., 1])
    np.testing.assert_allclose(
        shown(report.plot_observation(model, image(), show_saliency=True))[3], report.saliency(model, image())[1]
    )
    np.testing.assert_allclose(
        shown(report.plot_layer_outputs(model, image(), "conv2")), report.layer_outputs(model, image())["conv2"]
    )
    figure = report.plot_layer_weights(model, "conv2", channel=3)
    weights = report.layer_weights(model)["conv2"][:, 3]
    np.testing.assert_allclose(shown(figure)[: len(weights)], weights)
    assert f"minimum {weights.min():.5f}" in figure.get_suptitle()
    limits = {picture.get_clim() for axes in figure.axes for picture in axes.images}
    assert limits == {(-np.abs(weights).max(), np.abs(weights).max())}, "zero is not in the middle"


def test_bars_name_the_action_that_was_taken() -> None:
    model = make(distribution="categorical")
    figure = report.plot_q_values(model, image(), action=1, action_names=["NOOP", "FIRE", "RIGHT"])
    bars, distributions = figure.axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["NOOP", "FIRE (taken)", "RIGHT"]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], report.q_values(model, image())[0])  # type: ignore[attr-defined]  # rectangles
    assert len(distributions.lines) == 3
    assert distributions.lines[0].get_ydata()[-1] == pytest.approx(1)  # type: ignore[index]  # an array


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: report.plot_layer_outputs(model, image(), "conv9"), r"layer='conv9' is not one of .*conv1, conv2"),
        (lambda model: report.plot_layer_weights(model, "conv1", channel=2), r"channel=2 is not one of the 2 input channels"),
        (lambda model: report.plot_q_values(model, image(), action=3), "action=3 is not one of the 3 actions"),
        (lambda model: report.plot_q_values(model, image(), action_names=["a"]), "must name each of the 3 actions"),
        (lambda model: report.saliency(model, image(), action=-1), "action=-1 is not one of the 3 actions"),
        (lambda model: report.plot_observation(model, image()[:5]), r"shape \(5, 36, 2\) is not one image"),
    ],
)
def test_what_is_not_there_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(make())


def test_a_network_without_convolutions_says_so() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=100)
    observation = np.zeros(4, dtype=np.float32)
    assert report.q_values(model, observation).shape == (1, 2)
    with pytest.raises(ValueError, match="no convolutions"):
        report.layer_weights(model)
    with pytest.raises(ValueError, match="are not images"):
        report.plot_observation(model, observation)
