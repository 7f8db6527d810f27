"""What ``CustomDQN`` and ``SweepDQN`` have in common: arguments by name, a learner, and epsilon-greedy play."""

import io
import pathlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_atari_dqn.checks import check_names, keyword_names
from sb3_atari_dqn.learning.accelerate import make_learner
from sb3_atari_dqn.learning.learner import Learner
from sb3_atari_dqn.learning.losses import Loss
from sb3_atari_dqn.networks.compute_copy import ComputeCopy

SelfQLearningAlgorithm = TypeVar("SelfQLearningAlgorithm", bound="QLearningAlgorithm")


class QLearningAlgorithm(BaseAlgorithm):
    """
    An algorithm that chooses actions by Q-values. Epsilon is drawn for each environment on its own.
    """

    policy: DQNPolicy
    eval_epsilon: float
    precision: str
    accelerate: str
    max_grad_norm: Any  # a number, or None for no clipping; DQN knows numbers only
    learner: Learner

    @classmethod
    def keywords(cls) -> set[str]:
        """
        :return: names of all arguments that the constructor takes
        """
        return keyword_names(cls)

    @classmethod
    def check_keywords(cls, names: Iterable[str], others: Iterable[str] = ()) -> None:
        """
        :param names: arguments that somebody wants to give
        :param others: names that are allowed as well
        :raises TypeError: if one of them does not exist, naming the nearest one that does
        """
        check_names(cls.__name__, names, cls.keywords().union(others))

    @classmethod
    @abstractmethod
    def check_values(cls, settings: Mapping[str, Any]) -> None:
        """
        :param settings: arguments of the constructor by name, those that are given
        :raises ValueError: for one that is out of its range
        """

    @abstractmethod
    def _make_loss(self) -> Loss:
        """
        :return: what updates make smaller
        """

    def _make_learner(self) -> None:
        """Make what computes the updates; a model that only plays needs neither processor nor compiler of its training."""
        only_plays = self.env is None
        self.learner = make_learner(
            self.policy.q_net,
            self.policy.q_net_target,
            self.policy.optimizer,
            self._make_loss(),
            self.max_grad_norm,
            "float32" if only_plays else self.precision,
            "none" if only_plays else self.accelerate,
            make_copy=ComputeCopy,
        )

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Take an environment to learn from, as Stable-Baselines3 does.

        :param env: the environment
        :param force_reset: whether to reset it before learning goes on
        """
        only_played = self.env is None
        super().set_env(env, force_reset)
        if only_played:
            self._make_learner()

    def set_parameters(
        self,
        load_path_or_dict: str | pathlib.Path | io.BufferedIOBase | dict[str, Any],
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """
        Load parameters as Stable-Baselines3 does.

        :param load_path_or_dict: file written by ``save``, or what ``get_parameters`` returned
        :param exact_match: whether all parameters must be there
        :param device: where to put them
        """
        super().set_parameters(load_path_or_dict, exact_match, device)  # type: ignore[arg-type]  # it takes paths and files too
        self.learner.take_over_optimizer()
        self.learner.refresh()

    @classmethod
    def load(
        cls: type[SelfQLearningAlgorithm],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfQLearningAlgorithm:
        """
        Load a model as Stable-Baselines3 does. Its replay memory is allocated when it starts to learn, not before.

        :param path: file written by ``save``
        :param env: environment to go on with; none is needed to play
        :param device: where the networks live
        :param custom_objects: replacements for what the file holds, by name
        :param print_system_info: print the systems of saver and loader
        :param force_reset: reset the environment before learning goes on
        :param kwargs: arguments of the constructor to change; one that another stands for, such as ``train_freq`` for
            ``CustomDQN``'s ``update_period``, replaces it
        :return: the model
        :raises TypeError: for an argument that does not exist
        :raises ValueError: if the environment's observations or actions are not those of the model
        """
        cls.check_keywords(kwargs)
        changes = cls._changes_on_load(kwargs)
        return super().load(path, env, device, custom_objects, print_system_info, force_reset, **changes)

    @classmethod
    def _changes_on_load(cls, changes: dict[str, Any]) -> dict[str, Any]:
        """
        :param changes: arguments of the constructor to change
        :return: the same, with those that have to change with them
        """
        return changes

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose actions to play, not to explore.

        :param observation: one observation, or a batch of them
        :param state: not used, handed through
        :param episode_start: not used
        :param deterministic: the best actions; otherwise each is random with probability ``eval_epsilon``
        :return: actions, int64 (batch,) or one of them, and ``state``
        """
        if deterministic:
            return self.policy.predict(observation, state, episode_start, deterministic=True)
        actions = self._epsilon_greedy(
            observation, self.eval_epsilon, lambda observations: self.policy.predict(observations, deterministic=True)[0]
        )
        return actions, state

    def _epsilon_greedy(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        epsilon: float,
        greedy_actions: Callable[[np.ndarray | dict[str, np.ndarray]], np.ndarray],
    ) -> np.ndarray:
        """
        :param observation: one observation, or a batch of them
        :param epsilon: probability of a random action, drawn for each observation on its own
        :param greedy_actions: observations to the actions otherwise
        :return: actions, int64 (batch,) or one of them
        """
        vectorized = self.policy.is_vectorized_observation(observation)
        arrays = observation if not isinstance(observation, dict) else next(iter(observation.values()))
        explore = np.random.rand(len(arrays) if vectorized else 1) < epsilon
        if explore.all():
            actions = np.array([self.action_space.sample() for _ in explore])
        else:
            actions = np.atleast_1d(greedy_actions(observation))
            for index in np.flatnonzero(explore):
                actions[index] = self.action_space.sample()
        return actions if vectorized else actions[0]
