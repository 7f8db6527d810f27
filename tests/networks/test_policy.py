"""Policies: extractors by name, and hidden layers only where they are asked for."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from sb3_atari_dqn import CustomDQN, NatureCNN, NipsCNN
from sb3_atari_dqn.networks.policy import MlpPolicy
from tests.networks.test_extractors import Images


class OwnNatureCNN(NatureCNN):
    """SB3 would put two hidden layers behind it: it is not exactly NatureCNN."""


def hidden_layers(policy: str, env: gym.Env, **policy_kwargs: Any) -> list[int]:
    model = CustomDQN(policy, env, buffer_size=1, policy_kwargs=policy_kwargs)
    return [layer.out_features for layer in model.q_net.q_net if isinstance(layer, nn.Linear)][:-1]


OWN = "tests.networks.test_policy.OwnNatureCNN"


@pytest.mark.parametrize("extractor", ["NipsCNN", "NatureCNN", "TutorialCNN", NipsCNN, OwnNatureCNN, OWN])
def test_nothing_is_added_behind_an_image_network(extractor: str | type[BaseFeaturesExtractor]) -> None:
    images = Images((1, 42, 42))
    assert hidden_layers("CnnPolicy", images, features_extractor_class=extractor) == []
    assert hidden_layers("MlpPolicy", images, features_extractor_class=extractor) == []
    assert hidden_layers("CnnPolicy", images, features_extractor_class=extractor, net_arch=[32]) == [32]


def test_vectors_and_dictionaries_keep_sb3s_layers() -> None:
    class Both(Images):
        def __init__(self) -> None:
            super().__init__((1, 42, 42))
            self.observation_space = spaces.Dict(
                {"image": self.observation_space, "vector": spaces.Box(-1, 1, (3,), np.float32)}
            )

    assert hidden_layers("MlpPolicy", gym.make("CartPole-v1")) == [64, 64]
    assert hidden_layers("MlpPolicy", gym.make("CartPole-v1"), features_extractor_class=FlattenExtractor) == [64, 64]
    assert hidden_layers("MultiInputPolicy", Both()) == [64, 64]


@pytest.mark.parametrize("name", ["NatureCMM", "nowhere.NatureCNN", "torch.nn.NatureCNN", ""])
def test_refuses_an_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"features_extractor_class='{name}' is not known; choose one of NipsCNN, NatureCNN"):
        CustomDQN("CnnPolicy", Images((1, 42, 42)), buffer_size=1, policy_kwargs={"features_extractor_class": name})


def test_refuses_what_is_no_extractor() -> None:
    with pytest.raises(ValueError, match=r"is <function join.*not a features extractor"):
        CustomDQN("CnnPolicy", Images((1, 42, 42)), policy_kwargs={"features_extractor_class": "os.path.join"})


def test_names_and_classes_are_the_same() -> None:
    models = [
        CustomDQN("CnnPolicy", Images((1, 42, 42)), buffer_size=1, policy_kwargs={"features_extractor_class": extractor})
        for extractor in ("NipsCNN", NipsCNN)
    ]
    assert type(models[0].q_net.features_extractor) is type(models[1].q_net.features_extractor) is NipsCNN


def test_starts_from_orthogonal_weights_if_asked_to() -> None:
    model = CustomDQN(
        "CnnPolicy",
        Images((4, 42, 42)),
        buffer_size=1,
        policy_kwargs={"features_extractor_class": "NipsCNN", "ortho_init": True},
    )
    layers = [layer for layer in model.q_net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, gain in zip(layers, [2**0.5, 2**0.5, 2**0.5, 1.0], strict=True):
        rows = layer.weight.detach().flatten(1)
        singular_values = th.linalg.svdvals(rows)
        assert th.allclose(singular_values, th.full_like(singular_values, gain), atol=1e-4)
        assert layer.bias is not None
        assert not layer.bias.any()
    for online, target in zip(model.q_net.parameters(), model.q_net_target.parameters(), strict=True):
        assert th.equal(online, target)


def test_orthogonal_weights_are_saved_with_the_policy(tmp_path: Path) -> None:
    model = CustomDQN("MlpPolicy", gym.make("CartPole-v1"), buffer_size=1, policy_kwargs={"ortho_init": True})
    model.policy.save(str(tmp_path / "policy"))
    assert MlpPolicy.load(str(tmp_path / "policy")).ortho_init is True
    with pytest.raises(ValueError, match="ortho_init='yes' must be True or False"):
        CustomDQN("MlpPolicy", gym.make("CartPole-v1"), policy_kwargs={"ortho_init": "yes"})


def test_activation_functions_by_name() -> None:
    for name in ("Tanh", "torch.nn.Tanh", "torch.nn.modules.activation.Tanh", nn.Tanh):
        kwargs = {"activation_fn": name, "net_arch": [8]}
        model = CustomDQN("MlpPolicy", gym.make("CartPole-v1"), buffer_size=1, policy_kwargs=kwargs)
        assert [type(layer) for layer in model.q_net.q_net.children()] == [nn.Linear, nn.Tanh, nn.Linear]


@pytest.mark.parametrize("name", ["NipsCNN", "NatureCNN", "ImpalaCNN", "TutorialCNN"])
def test_refuses_a_number_of_features_that_is_none(name: str) -> None:
    kwargs = {"features_extractor_class": name, "features_extractor_kwargs": {"features_dim": -3}}
    with pytest.raises(ValueError, match="features_dim=-3 must be a whole number of units, at least 1"):
        CustomDQN("CnnPolicy", Images((1, 42, 42)), buffer_size=1, policy_kwargs=kwargs)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_orthogonal_weights_start_where_other_networks_do(spectral_norm: bool) -> None:
    """Residual blocks do not make Q-values larger, and spectral normalisation divides by the norm of the new weights."""
    observations = th.randint(0, 256, (8, 4, 84, 84), dtype=th.uint8, generator=th.Generator().manual_seed(0))
    sizes = {}
    for extractor, kwargs in (("NatureCNN", {}), ("ImpalaCNN", {"spectral_norm": spectral_norm})):
        model = CustomDQN(
            "CnnPolicy",
            Images((4, 84, 84)),
            buffer_size=1,
            seed=0,
            policy_kwargs={
                "features_extractor_class": extractor,
                "features_extractor_kwargs": kwargs,
                "ortho_init": True,
            },
        )
        for network in (model.q_net, model.q_net_target):
            network.train(False)
            with th.no_grad():
                sizes[extractor, network is model.q_net] = network(observations).abs().mean().item()
            for layer in network.modules():
                if is_parametrized(layer):
                    assert isinstance(layer, nn.Conv2d)
                    norm = th.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
                    assert norm.item() == pytest.approx(1, rel=1e-4)
    for is_online in (True, False):
        assert 1 / 4 < sizes["ImpalaCNN", is_online] / sizes["NatureCNN", is_online] < 4


def test_checks_take_no_random_numbers() -> None:
    state = th.get_rng_state()
    CustomDQN.check_values({"policy_kwargs": {"distribution": "implicit-quantile", "noisy_sigma": 0.5}, "n_steps": 3})
    assert th.equal(th.get_rng_state(), state)
