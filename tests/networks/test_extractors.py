"""Sizes from the papers, and TutorialCNN beside a plain implementation on states of real games."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_atari_dqn import CustomDQN, ImpalaCNN, MotionTracer, NatureCNN, NipsCNN, TutorialCNN
from tests.envs.games import GAMES


class Images(gym.Env):
    """Images of a size, with a number of actions; nothing happens."""

    def __init__(self, shape: tuple[int, ...], n_actions: int = 4) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(n_actions)


def q_network(extractor: str, shape: tuple[int, ...]) -> nn.Module:
    model = CustomDQN("CnnPolicy", Images(shape), buffer_size=1, policy_kwargs={"features_extractor_class": extractor})
    return model.q_net


@pytest.mark.parametrize(
    ("extractor", "shape", "n_parameters"),
    [
        ("NipsCNN", (4, 84, 84), 677_172),
        ("NatureCNN", (4, 84, 84), 1_686_180),
        ("ImpalaCNN", (4, 84, 84), 1_090_260),
        ("TutorialCNN", (2, 105, 80), 38_566_804),
    ],
)
def test_number_of_parameters(extractor: str, shape: tuple[int, ...], n_parameters: int) -> None:
    q_net = q_network(extractor, shape)
    assert sum(parameter.numel() for parameter in q_net.parameters()) == n_parameters
    assert q_net(th.zeros(3, *shape)).shape == (3, 4)


IMAGES = spaces.Box(0, 255, (4, 84, 84), np.uint8)


@pytest.mark.parametrize(("extractor", "n_features"), [(NipsCNN, 2592), (NatureCNN, 3136), (ImpalaCNN, 3872)])
def test_convolutions_alone(extractor: type[Any], n_features: int) -> None:
    """84 -> 20 -> 9, 84 -> 20 -> 9 -> 7, 84 -> 42 -> 21 -> 11, times 32, 64, 32."""
    th.manual_seed(0)
    whole = extractor(IMAGES)
    th.manual_seed(0)
    convolutions = extractor(IMAGES, features_dim=None)
    assert convolutions.features_dim == n_features
    images = th.rand(2, 4, 84, 84)
    assert th.equal(convolutions(images), whole.cnn(images))
    assert th.equal(whole.linear(convolutions(images)), whole(images))


def test_impala_width_and_pool() -> None:
    network = ImpalaCNN(IMAGES, features_dim=None, width=2, pool_size=6)
    assert [layer.out_channels for layer in network.cnn if isinstance(layer, nn.Conv2d)] == [32, 64, 64]
    assert network.features_dim == 64 * 6 * 6
    assert network(th.rand(2, 4, 84, 84)).min() >= 0


def test_residual_blocks_leave_the_image_where_their_weights_are_zero() -> None:
    network = ImpalaCNN(IMAGES, features_dim=None)
    for name, parameter in network.named_parameters():
        if ".layers." in name:
            nn.init.zeros_(parameter)
    x = images = th.rand(2, 4, 84, 84)
    for layer in network.cnn:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            x = layer(x)
    assert th.equal(network(images), x.relu().flatten(1))


def test_spectral_norm_keeps_singular_values_at_one() -> None:
    network = ImpalaCNN(IMAGES, features_dim=None, spectral_norm=True)
    normalized = [module for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and ".layers." in name]
    assert len(normalized) == 12
    with th.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
        for _ in range(30):
            network(th.rand(1, 4, 84, 84))
    for layer in normalized:
        assert th.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"width": 0}, "width=0 must be a whole number of times, at least 1$"),
        ({"pool_size": 1.5}, "pool_size=1.5 must be a whole number of rows and columns, at least 1"),
        ({"features_dim": 0}, "features_dim=0 must be"),
        ({"spectral_norm": 1}, "spectral_norm=1 must be True or False"),
    ],
)
def test_bad_values_of_impala(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImpalaCNN(IMAGES, **kwargs)


def test_tutorial_layers_have_its_shapes() -> None:
    network = TutorialCNN(spaces.Box(0, 255, (2, 105, 80), np.uint8))
    x, shapes = th.zeros(1, 2, 105, 80), []
    for layer in network.cnn:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 53, 40), (32, 27, 20), (64, 27, 20)]
    assert [layer.out_features for layer in network.linear if isinstance(layer, nn.Linear)] == [1024] * 4


def test_tutorial_weights_are_truncated_normal() -> None:
    q_net = q_network("TutorialCNN", (2, 105, 80))
    weights = [layer.weight for layer in q_net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(weights) == 8, "three convolutions, four hidden layers and the Q-values"
    everything = th.cat([weight.flatten() for weight in weights])
    assert everything.abs().max() <= 0.04
    # a normal distribution cut off at two deviations keeps 0.8796 of its own
    assert everything.std().item() == pytest.approx(0.02 * 0.8796, rel=1e-2)
    assert everything.mean().item() == pytest.approx(0, abs=1e-4)
    assert weights[-1].std().item() == pytest.approx(0.02 * 0.8796, rel=0.1)
    assert all(not parameter.any() for name, parameter in q_net.named_parameters() if name.endswith("bias"))


def convolve_same(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's SAME convolution, output pixel by output pixel; image (rows, columns, in), kernel (3, 3, in, out)."""
    rows, columns, _ = image.shape
    n_rows, n_columns = math.ceil(rows / stride), math.ceil(columns / stride)
    top = max((n_rows - 1) * stride + 3 - rows, 0) // 2
    left = max((n_columns - 1) * stride + 3 - columns, 0) // 2
    output = np.empty((n_rows, n_columns, kernel.shape[3]))
    for row in range(n_rows):
        for column in range(n_columns):
            total = bias.copy()
            for i in range(3):
                for j in range(3):
                    y, x = row * stride - top + i, column * stride - left + j
                    if 0 <= y < rows and 0 <= x < columns:
                        total += image[y, x] @ kernel[i, j]
            output[row, column] = np.maximum(total, 0)
    return output


def plain_tutorial_network(network: TutorialCNN, state: np.ndarray) -> np.ndarray:
    """The network's features of one state (rows, columns, channels), from its weights and loops."""
    x = state.astype(np.float64)
    for layer, stride in zip((layer for layer in network.cnn if isinstance(layer, nn.Conv2d)), (2, 2, 1), strict=True):
        assert layer.bias is not None
        kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        x = convolve_same(x, kernel, layer.bias.detach().numpy(), stride)
    x = x.transpose(2, 0, 1).ravel()
    for dense in (layer for layer in network.linear if isinstance(layer, nn.Linear)):
        x = np.maximum(dense.weight.detach().numpy() @ x + dense.bias.detach().numpy(), 0)
    return x


@pytest.mark.parametrize("game", GAMES)
def test_tutorial_network_agrees_with_a_plain_one_over_a_full_game(game: str) -> None:
    th.manual_seed(0)
    network = TutorialCNN(spaces.Box(0, 255, (2, 105, 80), np.uint8)).double()
    for parameter in network.parameters():  # biases that are not zero can be compared
        nn.init.normal_(parameter, std=0.02)
    env = MotionTracer(gym.make(f"ALE/{game}-v5"))
    env.action_space.seed(0)
    state, _ = env.reset(seed=0)
    step, over, compared = 0, False, 0
    while not over:
        state, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over, step = terminated or truncated, step + 1
        if step % 60 == 0:
            features = network(th.tensor(state.transpose(2, 0, 1)[None], dtype=th.float64))[0].detach().numpy()
            assert features.max() > 0
            np.testing.assert_allclose(features, plain_tutorial_network(network, state), rtol=1e-9, atol=1e-12)
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("size", [(53, 40), (54, 41), (1, 7)])
def test_same_padding_gives_the_ceiling_for_any_size(size: tuple[int, int]) -> None:
    network = TutorialCNN(spaces.Box(0, 255, (1, *size), np.uint8))
    convolved = network.cnn[:-1](th.zeros(1, 1, *size))
    assert convolved.shape[2:] == tuple(math.ceil(math.ceil(n / 2) / 2) for n in size)


@pytest.mark.parametrize(
    ("extractor", "shape", "message"),
    [
        ("NipsCNN", (4, 19, 84), "NipsCNN takes images of at least 20x20 pixels, not 19x84"),
        ("NatureCNN", (4, 84, 35), "NatureCNN takes images of at least 36x36 pixels, not 84x35"),
        ("TutorialCNN", (4,), r"TutorialCNN takes images \(channels, height, width\), not observations of shape \(4,\)"),
    ],
)
def test_refuses_observations_of_another_size(extractor: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        q_network(extractor, shape)


@pytest.mark.parametrize(("extractor", "size"), [("NipsCNN", 20), ("NatureCNN", 36)])
def test_takes_the_smallest_size_it_names(extractor: str, size: int) -> None:
    assert q_network(extractor, (1, size, size))(th.zeros(1, 1, size, size)).shape == (1, 4)
