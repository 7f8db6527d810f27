"""Policies of ``CustomDQN``: Stable-Baselines3's, with features extractors by name and no layers nobody asked for."""

from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork

from sb3_atari_dqn.networks.extractors import TutorialCNN, check_image_size, resolve_extractor


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
        **kwargs: Any,
    ) -> None:
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
            **kwargs,
        )

    def make_q_net(self) -> QNetwork:
        """
        :return: features extractor and Q-values; behind TutorialCNN, these are initialised as it is
        """
        q_net = super().make_q_net()
        if isinstance(q_net.features_extractor, TutorialCNN):
            q_net.q_net.apply(TutorialCNN.init_weights)
        return q_net


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
