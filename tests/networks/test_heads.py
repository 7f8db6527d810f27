"""What stands behind the features: dueling streams, noise, distributions; numbers by hand, and what cannot be."""

import math
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from stable_baselines3.dqn.policies import CnnPolicy as SB3CnnPolicy
from torch import nn

from sb3_atari_dqn.networks.heads import (
    DISTRIBUTIONS,
    Categorical,
    DuelingStreams,
    ImplicitQuantile,
    Quantile,
    make_distribution,
    make_streams,
    streams_of,
)
from sb3_atari_dqn.networks.noisy import NoisyLinear, without_noise
from sb3_atari_dqn.networks.policy import CnnPolicy, MlpPolicy

IMAGES, VECTORS = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Box(-1, 1, (5,), np.float32)
ACTIONS = spaces.Discrete(3)


def constant(values: list[float]) -> nn.Sequential:
    """A stream that gives these numbers whatever comes in."""
    layer = nn.Linear(2, len(values))
    with th.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(th.tensor(values))
    return nn.Sequential(layer)


def make_policy(space: spaces.Box = VECTORS, **kwargs: Any) -> MlpPolicy:
    th.manual_seed(0)
    return (CnnPolicy if space is IMAGES else MlpPolicy)(space, ACTIONS, lambda _: 1e-3, **kwargs)


def test_dueling_by_hand() -> None:
    # advantages 1, 2, 6 of mean 3, value 10
    q_values = DuelingStreams(constant([10.0]), constant([1.0, 2.0, 6.0]), 3)(th.zeros(1, 2))
    assert q_values.tolist() == [[8.0, 9.0, 13.0]]
    # two numbers for each of two actions; each has a mean of its own: 2 and 4
    outputs = DuelingStreams(constant([10.0, 20.0]), constant([1.0, 2.0, 3.0, 6.0]), 2)(th.zeros(1, 2))
    assert outputs.tolist() == [[9.0, 18.0, 11.0, 22.0]]


def test_categorical_by_hand() -> None:
    # probabilities (1/4, 3/4) and (1/2, 1/2) of returns -1 and 3
    values = Categorical(2, 2, -1.0, 3.0)(th.zeros(1, 2), constant([0.0, math.log(3), 5.0, 5.0]), 2)
    assert values.q_values[0].tolist() == pytest.approx([2.0, 1.0])
    assert values.positions is not None
    assert values.positions.tolist() == [-1.0, 3.0]
    assert values.outputs.shape == (1, 2, 2)


def test_quantiles_by_hand() -> None:
    values = Quantile(2, 4)(th.zeros(1, 2), constant([1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 8.0]), 2)
    assert values.q_values.tolist() == [[3.0, 2.0]]
    assert values.positions is not None
    assert values.positions.tolist() == [0.125, 0.375, 0.625, 0.875]


def test_implicit_quantiles_by_hand() -> None:
    """Equation 4 of Dabney et al. 2018b, with weights of the embedding that pick single cosines."""
    distribution = ImplicitQuantile(2, n_quantiles=5, n_play_quantiles=2, n_cosines=3)
    streams = nn.Sequential(nn.Linear(2, 2, bias=False))
    layer = distribution.embedding[0]
    assert isinstance(layer, nn.Linear)
    with th.no_grad():
        layer.weight.copy_(th.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))  # cos(0) = 1, 2 * cos(pi * f)
        layer.bias.copy_(th.tensor([0.0, 1.0]))
        next(streams.parameters()).copy_(th.eye(2))
    features = th.tensor([[3.0, 5.0]])
    values = distribution.play(features, streams, 2)
    # fractions 1/4 and 3/4: cosines of the second feature 2 * 0.7071 + 1 and relu(2 * -0.7071 + 1) = 0
    expected = 5 * (math.sqrt(2) + 1)
    assert values.outputs[0].tolist() == [[3.0, 3.0], pytest.approx([expected, 0.0])]
    assert values.q_values[0].tolist() == pytest.approx([3.0, expected / 2])

    drawn = distribution(features.expand(7, -1), streams, 2)
    assert drawn.outputs.shape == (7, 2, 5)
    assert drawn.positions is not None
    assert len(drawn.positions.unique()) == 35
    fractions, outputs = drawn.positions.double(), drawn.outputs[:, 1].double()
    assert th.allclose(outputs, 5 * (2 * (math.pi * fractions).cos() + 1).clamp(min=0), atol=1e-5)


def test_noise_has_the_papers_shape() -> None:
    """Factorised noise f(x) = sign(x) * sqrt(|x|): mean 0, variance E|x| = sqrt(2 / pi), one draw for the whole batch."""
    th.manual_seed(0)
    layer = NoisyLinear(64, 32, sigma=0.5)
    assert th.all(layer.weight_sigma == 0.5 / 8)
    assert th.all(layer.bias_sigma == 0.5 / 8)
    assert layer.weight.abs().max() <= 1 / 8
    with th.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        outputs = layer(th.eye(64).repeat(2, 1))
        assert th.equal(outputs[:64], outputs[64:])
        assert not th.equal(layer(th.eye(64)), outputs[:64])  # drawn anew
        bias_noise = layer(th.zeros(1, 64))
        assert bias_noise.abs().min() > 0
        draws = th.stack([layer(th.eye(64)) for _ in range(400)]) / (0.5 / 8)
    # noise_out * noise_in + noise_out
    assert draws.mean().abs() < 0.03
    assert draws.var().item() == pytest.approx(2 / math.pi + math.sqrt(2 / math.pi), rel=0.05)
    with without_noise(layer):
        assert th.equal(layer(th.eye(64)), th.zeros(64, 32))
    assert layer(th.eye(64)).abs().max() > 0


def test_noise_of_a_layer_has_rank_one() -> None:
    layer = NoisyLinear(6, 4)
    with th.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias_sigma.zero_()
        noise = layer(th.eye(6))
    assert th.linalg.matrix_rank(noise) == 1


def test_without_sigma_a_noisy_network_is_an_ordinary_one() -> None:
    noisy, plain = make_policy(noisy_sigma=0.0), make_policy()
    states = th.rand(9, 5)
    assert th.equal(noisy.q_net.action_values(states).q_values, plain.q_net(states))


def test_plays_without_chance_and_learns_with_it() -> None:
    states = th.rand(9, 5)
    for kwargs in ({"noisy_sigma": 0.5}, {"distribution": "implicit-quantile"}):
        q_net = make_policy(**kwargs).q_net
        assert th.equal(q_net(states), q_net(states))
        assert not th.equal(q_net.action_values(states).q_values, q_net.action_values(states).q_values)


@pytest.mark.parametrize("extractor", ["NatureCNN", "NipsCNN", "ImpalaCNN"])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("distribution", list(DISTRIBUTIONS))
def test_every_head_goes_with_every_extractor(extractor: str, dueling: bool, distribution: str | None) -> None:
    policy = make_policy(
        IMAGES,
        features_extractor_class=extractor,
        features_extractor_kwargs={"features_dim": None},
        net_arch=[16],
        dueling=dueling,
        noisy_sigma=0.5,
        distribution=distribution,
    )
    pixels = th.randint(0, 256, (2, 4, 84, 84), dtype=th.uint8)
    assert policy.q_net(pixels).shape == (2, 3)
    values = policy.q_net.action_values(pixels)
    assert values.q_values.shape == (2, 3)
    assert values.outputs.shape[:2] == (2, 3)
    assert len(streams_of(policy.q_net.q_net)) == 1 + dueling
    noisy = [module for module in policy.q_net.modules() if isinstance(module, nn.Linear)]
    noisy = [module for module in noisy if module not in set(policy.q_net.distribution.modules())]
    assert len(noisy) == 2 * (1 + dueling)
    assert all(isinstance(module, NoisyLinear) for module in noisy)


def test_with_nothing_chosen_it_is_sb3s_network() -> None:
    th.manual_seed(3)
    theirs = SB3CnnPolicy(IMAGES, ACTIONS, lambda _: 1e-3)
    state = th.random.get_rng_state()
    th.manual_seed(3)
    ours = CnnPolicy(IMAGES, ACTIONS, lambda _: 1e-3)
    assert th.equal(th.random.get_rng_state(), state)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(th.equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())
    pixels = th.randint(0, 256, (2, 4, 84, 84), dtype=th.uint8)
    assert th.equal(ours.q_net(pixels), theirs.q_net(pixels))
    assert isinstance(ours.q_net.features_extractor, SB3NatureCNN)


def test_orthogonal_start_reaches_both_streams() -> None:
    q_net = make_policy(ortho_init=True, dueling=True, net_arch=[8]).q_net
    for stream in streams_of(q_net.q_net):
        hidden, _, output, _ = stream.parameters()
        assert th.allclose(hidden.T @ hidden, 2 * th.eye(5), atol=1e-5)
        assert th.allclose(output @ output.T, th.eye(len(output)), atol=1e-5)


def test_orthogonal_start_reaches_what_spectral_normalisation_computes_from() -> None:
    kwargs = {"features_extractor_class": "ImpalaCNN", "features_extractor_kwargs": {"spectral_norm": True}}
    q_net = make_policy(IMAGES, ortho_init=True, **kwargs).q_net
    originals = [value.flatten(1) for name, value in q_net.named_parameters() if name.endswith("weight.original")]
    assert len(originals) == 12
    for original, square in zip(originals, [2, 1] * 6, strict=True):  # a block's second layer is not followed by ReLU
        assert th.allclose(original @ original.T, square * th.eye(len(original)), atol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"dueling": 1}, ValueError, "dueling=1 must be True or False"),
        ({"noisy_sigma": -0.5}, ValueError, "noisy_sigma=-0.5 must be a number of at least 0"),
        ({"noisy_sigma": True}, ValueError, "noisy_sigma=True must be"),
        (
            {"distribution": "c51"},
            ValueError,
            "distribution='c51' is not known; choose one of None, 'categorical', 'quantile'",
        ),
        (
            {"distribution": "categorical", "distribution_kwargs": {"v_min": 1, "v_max": 1}},
            ValueError,
            "v_min=1 must be below",
        ),
        ({"distribution": "categorical", "distribution_kwargs": {"v_min": None}}, ValueError, "v_min=None must be a finite"),
        (
            {"distribution": "categorical", "distribution_kwargs": {"n_atoms": 1}},
            ValueError,
            "n_atoms=1 must be a whole number of atoms, at least 2",
        ),
        ({"distribution": "quantile", "distribution_kwargs": {"n_quantiles": 0}}, ValueError, "n_quantiles=0 must be a whole"),
        (
            {"distribution": "implicit-quantile", "distribution_kwargs": {"n_cosines": 1.5}},
            ValueError,
            "n_cosines=1.5 must be",
        ),
        (
            {"distribution": "quantile", "distribution_kwargs": {"n_atoms": 51}},
            TypeError,
            "distribution='quantile' has no argument 'n_atoms' in distribution_kwargs; it has n_quantiles",
        ),
        ({"distribution_kwargs": {"n_atoms": 51}}, TypeError, "distribution=None has no argument 'n_atoms'.*; it has none"),
    ],
)
def test_bad_choices(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_policy(**kwargs)


def test_streams_have_hidden_layers_of_their_own() -> None:
    streams = make_streams(10, 3, 5, [8, 6], nn.Tanh, dueling=True, noisy_sigma=None)
    shapes = {name: tuple(value.shape) for name, value in streams.state_dict().items() if "weight" in name}
    assert shapes == {
        "value.0.weight": (8, 10),
        "value.2.weight": (6, 8),
        "value.4.weight": (5, 6),
        "advantage.0.weight": (8, 10),
        "advantage.2.weight": (6, 8),
        "advantage.4.weight": (15, 6),
    }


def test_defaults_are_the_papers() -> None:
    categorical = make_distribution("categorical", None, 1)
    assert isinstance(categorical, Categorical)
    assert (categorical.n_values, categorical.v_min, categorical.v_max) == (51, -10, 10)
    assert make_distribution("quantile", None, 1).n_values == 200
    implicit = make_distribution("implicit-quantile", None, 1)
    assert isinstance(implicit, ImplicitQuantile)
    assert (implicit.n_quantiles, implicit.n_play_quantiles, implicit.n_cosines) == (64, 32, 64)
