"""Q-networks whose last layers a user can choose: dueling streams, noisy layers, distributions of returns."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import QNetwork
from torch import nn

from sb3_atari_dqn.networks.heads import ActionValues, make_distribution, make_streams
from sb3_atari_dqn.networks.noisy import without_noise


class ActionValueNetwork(QNetwork):
    """
    Stable-Baselines3's Q-network with layers of one's choice behind the features extractor; with none of the choices taken it
    is SB3's, bit for bit.

    :param observation_space: see ``stable_baselines3.dqn.policies.QNetwork``, like the others that are not explained here
    :param action_space: see there
    :param features_extractor: see there
    :param features_dim: see there
    :param net_arch: see there
    :param activation_fn: see there
    :param normalize_images: see there
    :param dueling: see ``sb3_atari_dqn.networks.policy.MlpPolicy``, like those that follow
    :param noisy_sigma: see there
    :param distribution: see there
    :param distribution_kwargs: see there
    """

    q_net: nn.Module  # type: ignore[assignment]  # SB3's is always a sequence of layers

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        dueling: bool = False,
        noisy_sigma: float | None = None,
        distribution: str | None = None,
        distribution_kwargs: dict[str, Any] | None = None,
    ) -> None:
        with th.random.fork_rng(devices=[]):  # its layers are replaced by ours, which draw what they would have drawn
            super().__init__(
                observation_space, action_space, features_extractor, features_dim, net_arch, activation_fn, normalize_images
            )
        self.n_actions = int(action_space.n)
        self.dueling = dueling
        self.noisy_sigma = noisy_sigma
        self.distribution_name = distribution
        self.distribution_kwargs = distribution_kwargs
        self.distribution = make_distribution(distribution, distribution_kwargs, features_dim)
        self.q_net = make_streams(
            features_dim, self.n_actions, self.distribution.n_values, self.net_arch, activation_fn, dueling, noisy_sigma
        )

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: observations, a batch of them
        :return: Q-values to play with, without chance, float (batch, n_actions)
        """
        return self.play_values(obs).q_values

    def play_values(self, obs: PyTorchObs) -> ActionValues:
        """
        :param obs: observations, a batch of them
        :return: action values to play with, without chance
        """
        with without_noise(self):
            features = self.extract_features(obs, self.features_extractor)
            return self.distribution.play(features, self.q_net, self.n_actions)

    def action_values(self, obs: PyTorchObs) -> ActionValues:
        """
        :param obs: observations, a batch of them
        :return: what is learnt from, and explored with: with noise and random quantiles, new ones each time
        """
        return self.distribution(self.extract_features(obs, self.features_extractor), self.q_net, self.n_actions)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "dueling": self.dueling,
            "noisy_sigma": self.noisy_sigma,
            "distribution": self.distribution_name,
            "distribution_kwargs": self.distribution_kwargs,
        }
