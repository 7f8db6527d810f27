"""Copies to compute with give what the network gives: values, gradients, after every change."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from sb3_atari_dqn.learning.learner import q_function
from sb3_atari_dqn.networks.compute_copy import PATCH, ComputeCopy, PatchConv2d, pixels_to_patches
from sb3_atari_dqn.networks.heads import ActionValues
from sb3_atari_dqn.networks.policy import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_atari_dqn.networks.q_network import ActionValueNetwork

TOLERANCE = {th.float32: 1e-5, th.bfloat16: 0.03}  # of the norm


def make_q_net(shape: tuple[int, ...] = (4, 84, 84), extractor: str = "NatureCNN", **kwargs: Any) -> ActionValueNetwork:
    th.manual_seed(0)
    space = spaces.Box(0, 255, shape, np.uint8)
    kwargs = {"features_extractor_class": extractor, **kwargs}
    return CnnPolicy(space, spaces.Discrete(6), lambda _: 1e-4, **kwargs).q_net


def random_pixels(shape: tuple[int, ...], batch_size: int = 8) -> th.Tensor:
    return th.randint(0, 256, (batch_size, *shape), dtype=th.uint8, generator=th.Generator().manual_seed(1))


def assert_close(ours: th.Tensor, theirs: th.Tensor, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert (ours - theirs).norm() <= tolerance * theirs.norm()


def test_patches_against_loops() -> None:
    images = random_pixels((2, 8, 12), batch_size=3)
    patches = pixels_to_patches(images)
    assert patches.shape == (3, 2 * 16, 2, 3)
    assert patches.is_contiguous(memory_format=th.channels_last)
    for channel in range(2):
        for row in range(8):
            for column in range(12):
                depth = (channel * PATCH + row % PATCH) * PATCH + column % PATCH
                assert th.equal(patches[:, depth, row // PATCH, column // PATCH], images[:, channel, row, column])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("shape", "kwargs", "takes_patches"),
    [
        ((4, 84, 84), {"extractor": "NatureCNN"}, True),
        ((4, 84, 84), {"extractor": "NipsCNN"}, True),
        ((2, 105, 80), {"extractor": "NatureCNN"}, False),  # 105 rows are no multiple of 4
        ((4, 84, 84), {"extractor": "NatureCNN", "normalize_images": False}, True),
        ((2, 105, 80), {"extractor": "TutorialCNN", "normalize_images": False}, False),
        ((4, 84, 84), {"extractor": "NatureCNN", "net_arch": [32]}, True),
        ((4, 84, 84), {"features_extractor_kwargs": {"features_dim": None}, "net_arch": [32], "dueling": True}, True),
        ((4, 84, 84), {"distribution": "categorical", "dueling": True}, True),
        ((4, 84, 84), {"distribution": "quantile"}, True),
        ((4, 84, 84), {"extractor": "ImpalaCNN"}, False),  # its first convolution has stride 1
    ],
)
def test_same_values_and_gradients(
    shape: tuple[int, ...], kwargs: dict[str, Any], takes_patches: bool, dtype: th.dtype
) -> None:
    q_net = make_q_net(shape, **kwargs)
    copy, pixels = ComputeCopy(q_net, dtype), random_pixels(shape)
    assert any(isinstance(module, PatchConv2d) for module in copy.modules()) == takes_patches
    theirs, ours = q_net(pixels), copy(pixels).q_values
    assert_close(ours, theirs, TOLERANCE[dtype])

    weights = th.linspace(-1, 1, 6)
    gradients = th.autograd.grad((ours * weights).sum(), list(copy.parameters()))
    copy.set_gradients(gradients)
    of_copy = [parameter.grad for parameter in q_net.parameters()]
    q_net.zero_grad()
    (theirs * weights).sum().backward()
    for parameter, gradient in zip(q_net.parameters(), of_copy, strict=True):
        assert parameter.grad is not None
        assert gradient is not None
        assert_close(gradient, parameter.grad, 6 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_follows_the_network_when_told(dtype: th.dtype) -> None:
    q_net, pixels = make_q_net(), random_pixels((4, 84, 84))
    copy = ComputeCopy(q_net, dtype)
    before = copy(pixels).q_values
    with th.no_grad():
        for parameter in q_net.features_extractor.parameters():
            parameter.mul_(1.5)
    if dtype is th.bfloat16:  # in float32, parameters that lie as they should are shared
        assert th.equal(copy(pixels).q_values, before)
    copy.refresh()
    assert not th.allclose(copy(pixels).q_values, before, rtol=0.1)
    assert_close(copy(pixels).q_values, q_net(pixels), TOLERANCE[dtype])


def test_the_network_itself_stays_as_it_was() -> None:
    q_net = make_q_net()
    before = {name: parameter.clone() for name, parameter in q_net.named_parameters()}
    strides = {name: parameter.stride() for name, parameter in q_net.named_parameters()}
    ComputeCopy(q_net, th.bfloat16)(random_pixels((4, 84, 84)))
    for name, parameter in q_net.named_parameters():
        assert th.equal(parameter, before[name])
        assert parameter.stride() == strides[name]
        assert parameter.dtype is th.float32


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_vectors_too(dtype: th.dtype) -> None:
    space = spaces.Box(-1, 1, (5,), np.float32)
    q_net = MlpPolicy(space, spaces.Discrete(3), lambda _: 1e-3).q_net
    states = th.rand(7, 5, generator=th.Generator().manual_seed(2)) * 2 - 1
    assert_close(ComputeCopy(q_net, dtype)(states).q_values, q_net(states), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_spectral_normalisation_goes_on_in_the_copy_and_comes_back(dtype: th.dtype) -> None:
    kwargs = {"features_extractor_kwargs": {"features_dim": 32, "spectral_norm": True}}
    q_net, twin = (make_q_net((4, 36, 36), "ImpalaCNN", **kwargs) for _ in range(2))
    copy, pixels = ComputeCopy(q_net, dtype), random_pixels((4, 36, 36))
    names = [name for name, _ in q_net.named_buffers()]
    assert len(names) == 24
    before = [buffer.clone() for buffer in q_net.buffers()]
    for module in (copy, twin):
        module.train(True)
    loss = copy(pixels).q_values.square().sum()
    copy.set_gradients(th.autograd.grad(loss, list(copy.parameters())))
    twin(pixels).square().sum().backward()
    for was, ours, theirs in zip(before, q_net.buffers(), twin.buffers(), strict=True):
        assert not th.equal(ours, was)
        assert_close(ours, theirs, 0.05)
    for ours, theirs in zip(q_net.parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert_close(ours.grad, theirs.grad, max(8 * TOLERANCE[dtype], 2e-3))
    with th.no_grad():
        for buffer in q_net.buffers():
            buffer.copy_(th.randn_like(buffer))
    copy.refresh()
    assert all(th.allclose(own.float(), of, atol=0.02) for own, of in zip(copy.buffers(), q_net.buffers(), strict=True))


class CustomCNN(NatureCNN):
    """An extractor of a user's own: its first layer is not the first of ``cnn``."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return super().forward(observations.flip(3))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_an_extractor_that_does_something_before_its_convolutions(dtype: th.dtype) -> None:
    q_net, pixels = make_q_net(features_extractor_class=CustomCNN), random_pixels((4, 84, 84))
    assert_close(ComputeCopy(q_net, dtype)(pixels).q_values, q_net(pixels), TOLERANCE[dtype])


class NormalizingCNN(NatureCNN):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cnn.insert(1, nn.BatchNorm2d(32))


def test_refuses_running_statistics() -> None:
    q_net = make_q_net(features_extractor_class=NormalizingCNN)
    with pytest.raises(
        ValueError, match=r"ActionValueNetwork cannot be accelerated: it keeps running statistics \(features_ext"
    ):
        ComputeCopy(q_net, th.float32)


@pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.MultiDiscrete([2, 3]), spaces.Dict({"a": spaces.Discrete(2)})])
def test_refuses_observations_that_are_not_one_array(space: spaces.Space[Any]) -> None:
    policy = MlpPolicy if not isinstance(space, spaces.Dict) else MultiInputPolicy
    q_net = policy(space, spaces.Discrete(3), lambda _: 1e-3).q_net
    with pytest.raises(ValueError, match="cannot be accelerated: they are not one array"):
        ComputeCopy(q_net, th.float32)


class AddingQNetwork(ActionValueNetwork):
    def action_values(self, obs: Any) -> ActionValues:
        values = super().action_values(obs)
        return values._replace(q_values=values.q_values + 1)


class ScalingQNetwork(ActionValueNetwork):
    def forward(self, obs: Any) -> th.Tensor:
        return super().forward(obs) * 2


@pytest.mark.parametrize("network", [AddingQNetwork, ScalingQNetwork])
def test_refuses_networks_put_together_in_another_way(network: type[ActionValueNetwork]) -> None:
    q_net = make_q_net()
    q_net.__class__ = network
    with pytest.raises(ValueError, match=f"{network.__name__} cannot be accelerated"):
        ComputeCopy(q_net, th.float32)


def test_a_network_is_learnt_as_it_plays() -> None:
    pixels = random_pixels((4, 84, 84), 2)
    for network in (ActionValueNetwork, ScalingQNetwork):
        q_net = make_q_net()
        q_net.__class__ = network
        assert th.equal(q_function(q_net)(pixels).q_values, q_net(pixels))
    q_net.__class__ = AddingQNetwork
    assert th.equal(q_function(q_net)(pixels).q_values, q_net(pixels) + 1)
