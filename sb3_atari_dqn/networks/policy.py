"""Policies of both algorithms: Stable-Baselines3's, with features extractors by name and no layers nobody asked for."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from sb3_atari_dqn.checks import check_number, check_switch, check_whole_number
from sb3_atari_dqn.networks.extractors import NatureCNN, TutorialCNN, check_image_size, resolve_extractor
from sb3_atari_dqn.networks.heads import make_distribution, resolve_activation, streams_of
from sb3_atari_dqn.networks.optimizers import resolve_optimizer
from sb3_atari_dqn.networks.q_network import ActionValueNetwork


def check_policy_kwargs(policy_kwargs: Mapping[str, Any]) -> None:
    """
    :param policy_kwargs: arguments of a policy by name, those that are given
    :raises ValueError: for a choice of last layers that is not allowed
    :raises TypeError: for one of ``distribution_kwargs`` that the distribution does not have
    """
    for name in ("ortho_init", "dueling"):
        check_switch(policy_kwargs, name)
    if policy_kwargs.get("noisy_sigma") is not None:
        check_number(policy_kwargs, "noisy_sigma", 0)
    with th.device("meta"):  # without weights, which would take random numbers
        make_distribution(policy_kwargs.get("distribution"), policy_kwargs.get("distribution_kwargs"), n_features=1)


def check_hidden_layers(policy_kwargs: Mapping[str, Any]) -> None:
    """
    :param policy_kwargs: arguments of one of these policies by name, those that are given
    :raises ValueError: for hidden layers that are not allowed
    """
    resolve_activation(policy_kwargs.get("activation_fn", nn.ReLU))
    net_arch = policy_kwargs.get("net_arch")
    if net_arch is not None and not isinstance(net_arch, list | tuple):
        raise ValueError(f"net_arch={net_arch!r} must be a list of the hidden layers' units")
    for n_units in net_arch or []:
        check_whole_number({"net_arch": n_units}, "net_arch", 1, "units in each hidden layer")


#: as many as PyTorch makes when spectral normalisation begins
_POWER_ITERATIONS = 15


@th.no_grad()
def _init_orthogonal(module: nn.Module, gain: float) -> None:
    """
    :param module: a layer; others than convolutions and fully connected ones are left alone
    :param gain: of its weights
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        weight = th.empty_like(module.weight)
        nn.init.orthogonal_(weight, gain)
        if is_parametrized(module, "weight"):  # spectral normalisation computes the weight from one behind it
            module.weight = weight  # which sets that one
            was_training = module.training
            module.train(True)
            for _ in range(_POWER_ITERATIONS):  # the largest singular value that it divides by is still that of before
                module.weight  # noqa: B018  # each access in training mode is one iteration
            module.train(was_training)
        else:
            module.weight.copy_(weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class MlpPolicy(DQNPolicy):
    """
    Policy for vector observations; see ``stable_baselines3.dqn.policies.DQNPolicy`` for the other parameters.

    :param observation_space: what the network takes
    :param action_space: what it chooses from
    :param lr_schedule: learning rate by remaining progress
    :param net_arch: units of the hidden layers between features and Q-values. If ``None``: [64, 64] behind
        ``FlattenExtractor`` and ``CombinedExtractor``, as in Stable-Baselines3, and none behind any other.
    :param activation_fn: behind each hidden layer, a class, or a name as
        ``sb3_atari_dqn.networks.heads.resolve_activation`` takes it
    :param features_extractor_class: a class, or a name as ``sb3_atari_dqn.networks.extractors.resolve_extractor`` takes
        it; ``FlattenExtractor`` if not given
    :param ortho_init: start from orthogonal weights (Saxe et al. 2014, https://arxiv.org/abs/1312.6120; gain sqrt(2), 1 for
        the Q-values, and what ``orthogonal_gains()`` of the features extractor says, if it has that method) and zero biases,
        as Stable-Baselines3's actor-critic policies do, in place of PyTorch's weights,
        which are 0.4 times as large: with these, Adam's first steps, which all go one way, can switch off most units for
        good.
    :param optimizer_class: a class, or a name as ``sb3_atari_dqn.networks.optimizers.resolve_optimizer`` takes it
    :param dueling: the state's value and the actions' advantages have hidden layers of ``net_arch`` and outputs of their own
        (Wang et al. 2016, https://arxiv.org/abs/1511.06581)
    :param noisy_sigma: the fully connected layers behind the features extractor are noisy, with this sigma_0 (Fortunato et
        al. 2018, https://arxiv.org/abs/1706.10295: 0.5); ``None`` for layers without noise
    :param distribution: what is learnt of returns: ``None`` for their expectation, ``"categorical"`` (C51), ``"quantile"``
        (QR-DQN) or ``"implicit-quantile"`` (IQN)
    :param distribution_kwargs: its arguments: ``n_atoms``, ``v_min``, ``v_max`` of
        ``sb3_atari_dqn.networks.heads.Categorical``; ``n_quantiles`` of ``Quantile``; ``n_quantiles``, ``n_play_quantiles``,
        ``n_cosines`` of ``ImplicitQuantile``
    :raises ValueError: for an unknown name, a value that is not allowed, or observations that the extractor cannot take
    """

    default_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    q_net: ActionValueNetwork
    q_net_target: ActionValueNetwork

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: str | type[nn.Module] = nn.ReLU,
        features_extractor_class: str | type[BaseFeaturesExtractor] | None = None,
        ortho_init: bool = False,
        optimizer_class: str | type[th.optim.Optimizer] = th.optim.Adam,
        dueling: bool = False,
        noisy_sigma: float | None = None,
        distribution: str | None = None,
        distribution_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.ortho_init = ortho_init
        self.dueling = dueling
        self.noisy_sigma = noisy_sigma
        self.distribution = distribution
        self.distribution_kwargs = distribution_kwargs
        check_policy_kwargs({"ortho_init": ortho_init, **self._head_kwargs()})
        check_hidden_layers({"net_arch": net_arch, "activation_fn": activation_fn})
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
            activation_fn=resolve_activation(activation_fn),
            features_extractor_class=extractor,
            optimizer_class=resolve_optimizer(optimizer_class),
            **kwargs,
        )

    def _head_kwargs(self) -> dict[str, Any]:
        names = ("dueling", "noisy_sigma", "distribution", "distribution_kwargs")
        return {name: getattr(self, name) for name in names}

    def make_q_net(self) -> ActionValueNetwork:
        """
        :return: features extractor and Q-values; behind TutorialCNN, these are initialised as it is
        """
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        q_net = ActionValueNetwork(**net_args, **self._head_kwargs()).to(self.device)
        if self.ortho_init:
            gains = {stream[-1]: 1.0 for stream in streams_of(q_net.q_net)}
            gains |= getattr(q_net.features_extractor, "orthogonal_gains", dict)()
            for module in q_net.modules():
                _init_orthogonal(module, gains.get(module, math.sqrt(2)))
        elif isinstance(q_net.features_extractor, TutorialCNN):
            q_net.q_net.apply(TutorialCNN.init_weights)
        return q_net

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "ortho_init": self.ortho_init, **self._head_kwargs()}


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
