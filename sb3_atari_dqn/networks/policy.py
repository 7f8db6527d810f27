"""Policies of both algorithms: Stable-Baselines3's, with features extractors by name and no layers nobody asked for."""

import math
from functools import partial
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork

from sb3_atari_dqn.networks.extractors import TutorialCNN, check_image_size, resolve_extractor
from sb3_atari_dqn.networks.optimizers import resolve_optimizer


class MlpPolicy(DQNPolicy):
    """
    Policy for vector observations; see ``stable_baselines3.dqn.policies.DQNPolicy`` for the other parameters.

    :param observation_space: what the network takes
    :param action_space: what it chooses from
    :param lr_schedule: learning rate by remaining progress
    :param net_arch: units of the hidden layers between features and Q-values. If ``None``: [64, 64] behind
        ``FlattenExtractor`` and ``CombinedExtractor``, as in Stable-Baselines3, and none behind any other.
    :param features_extractor_class: a class, or a name as ``sb3_atari_dqn.networks.extractors.resolve_extractor`` takes
        it; ``FlattenExtractor`` if not given
    :param ortho_init: start from orthogonal weights (Saxe et al. 2014, https://arxiv.org/abs/1312.6120; gain sqrt(2), and 1
        for the Q-values) and zero biases, as Stable-Baselines3's actor-critic policies do, in place of PyTorch's weights,
        which are 0.4 times as large: with these, Adam's first steps, which all go one way, can switch off most units for
        good.
    :param optimizer_class: a class, or a name as ``sb3_atari_dqn.networks.optimizers.resolve_optimizer`` takes it
    :raises ValueError: for an unknown name, or observations that the extractor cannot take
    """

    default_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        features_extractor_class: str | type[BaseFeaturesExtractor] | None = None,
        ortho_init: bool = False,
        optimizer_class: str | type[th.optim.Optimizer] = th.optim.Adam,
        **kwargs: Any,
    ) -> None:
        if not isinstance(ortho_init, bool):
            raise ValueError(f"ortho_init={ortho_init!r} must be True or False")
        self.ortho_init = ortho_init
        if features_extractor_class is None:
            features_extractor_class = self.default_extractor
        extractor = resolve_extractor(features_extractor_class)
        check_image_size(extractor, observation_space)
        if net_arch is None and extractor not in (FlattenExtractor, CombinedExtractor):
            net_arch = []
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=net_arch,
            features_extractor_class=extractor,
            optimizer_class=resolve_optimizer(optimizer_class),
            **kwargs,
        )

    def make_q_net(self) -> QNetwork:
        """
        :return: features extractor and Q-values; behind TutorialCNN, these are initialised as it is
        """
        q_net = super().make_q_net()
        if self.ortho_init:
            q_net.apply(partial(self.init_weights, gain=math.sqrt(2)))
            self.init_weights(q_net.q_net[-1], gain=1)
        elif isinstance(q_net.features_extractor, TutorialCNN):
            q_net.q_net.apply(TutorialCNN.init_weights)
        return q_net

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "ortho_init": self.ortho_init}


class CnnPolicy(MlpPolicy):
    """
    Policy for images: ``MlpPolicy`` with ``NatureCNN`` unless another extractor is asked for.
    """

    default_extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """
    Policy for dictionaries of observations: ``MlpPolicy`` with ``CombinedExtractor`` unless another is asked for.
    """

    default_extractor = CombinedExtractor
