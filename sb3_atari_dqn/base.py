"""What ``CustomDQN`` and ``SweepDQN`` have in common: arguments by name, a learner, and epsilon-greedy play."""

import collections
import inspect
import io
import operator
import pathlib
import pickle
import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import cloudpickle
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.utils import EzPickle
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, unwrap_vec_normalize
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from sb3_atari_dqn.checks import check_names, keyword_names
from sb3_atari_dqn.learning.accelerate import make_learner
from sb3_atari_dqn.learning.learner import Learner
from sb3_atari_dqn.learning.losses import Loss
from sb3_atari_dqn.networks.compute_copy import ComputeCopy

SelfQLearningAlgorithm = TypeVar("SelfQLearningAlgorithm", bound="QLearningAlgorithm")


class _PickledEnv:
    """
    Environments that are pickled with a model, by cloudpickle as Stable-Baselines3 sends them to workers; ``None`` in place of
    those that cannot be, such as processes and emulators. ``VecEnvWrapper`` cannot be pickled, and ``VecNormalize`` leaves out
    what it wraps, so wrappers are pickled as their class and attributes.

    :param env: the environments
    """

    def __init__(self, env: VecEnv | None) -> None:
        self.env = env

    def __getstate__(self) -> bytes:
        env, wrappers = self.env, []
        while isinstance(env, VecEnvWrapper):
            attributes = {name: value for name, value in vars(env).items() if name not in ("venv", "class_attributes")}
            wrappers.append((type(env), attributes))
            env = env.venv
        try:
            return cloudpickle.dumps((env, wrappers))
        except Exception:  # whatever it is that an object of somebody else's raises
            return cloudpickle.dumps((None, []))

    def __setstate__(self, state: bytes) -> None:
        self.env, wrappers = cloudpickle.loads(state)
        for kind, attributes in reversed(wrappers):
            wrapper = kind.__new__(kind)
            vars(wrapper).update(attributes, venv=self.env, class_attributes=dict(inspect.getmembers(kind)))
            self.env = wrapper


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # whatever it is that an object of somebody else's raises
        return False
    return True


def _do_nothing() -> None:
    """What a model tells when nobody watches."""


class Memory(Protocol):
    """A replay memory that can be written to files. ``replay.record`` says what its stores are."""

    def stores(self) -> Mapping[str, Any]:
        """
        :return: what is numbered, by name
        """

    def get_state(self) -> dict[str, Any]:
        """
        :return: what is not numbered
        """

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what ``get_state`` gave; the stores are to be filled after this
        """

    def cut(self) -> None:
        """Let nothing that is added later follow what is there."""


def get_random_state(space: spaces.Space[Any]) -> dict[str, Any]:
    """
    :param space: actions that are drawn from it
    :return: states of all generators that are not somebody's own: Python's, NumPy's, PyTorch's, and the space's
    """
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": th.get_rng_state().numpy(),
        "cuda": [state.numpy() for state in th.cuda.get_rng_state_all()] if th.cuda.is_available() else [],
        "actions": space.np_random.bit_generator.state,
    }


def set_random_state(space: spaces.Space[Any], state: Mapping[str, Any]) -> None:
    """
    :param space: actions that are drawn from it
    :param state: what ``get_random_state`` gave; states of GPUs that are not there are not looked at
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state["numpy"])
    th.set_rng_state(th.tensor(state["torch"]))
    for device in range(min(len(state["cuda"]), th.cuda.device_count())):
        th.cuda.set_rng_state(th.tensor(state["cuda"][device]), device)
    space.np_random.bit_generator.state = state["actions"]


class QLearningAlgorithm(BaseAlgorithm):
    """
    An algorithm that chooses actions by Q-values. Epsilon is drawn for each environment on its own.

    While it learns it calls ``at_rest`` again and again, where nothing is under way: ``get_state`` and ``memory`` are all of
    it then, but for the environments.
    """

    #: attributes that ``get_state`` takes as they are: numbers, and lists of them
    COUNTERS: tuple[str, ...] = (
        "num_timesteps",
        "_total_timesteps",
        "_episode_num",
        "_n_updates",
        "_current_progress_remaining",
    )

    at_rest: Callable[[], None] = staticmethod(_do_nothing)

    policy: DQNPolicy
    eval_epsilon: float
    precision: str
    accelerate: str
    max_grad_norm: Any  # a number, or None for no clipping; DQN knows numbers only
    _learner: Learner
    _learner_parts: Sequence[Any] = ()  # what it was made of

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
    def check_values(cls, settings: Mapping[str, Any]) -> None:
        """
        :param settings: arguments of the constructor by name, those that are given
        :raises ValueError: for one that is out of its range
        """
        policy = settings.get("policy")
        is_name = isinstance(policy, str) and "." not in policy  # RL Zoo imports package.module.Class
        if is_name and policy not in cls.policy_aliases:
            raise ValueError(f"policy={policy!r} is not known; choose one of {', '.join(cls.policy_aliases)}, or give a class")

    def _check_action_space(self) -> None:
        """
        :raises ValueError: for actions that are not counted from 0, as the outputs of the network are
        """
        space = self.action_space
        if isinstance(space, spaces.Discrete) and space.start != 0:
            raise ValueError(
                f"actions {space} must be counted from 0, not from {space.start}: wrap the environment, with "
                f"gymnasium.wrappers.TransformAction(env, lambda action: action + {space.start}, Discrete({space.n}))"
            )

    @abstractmethod
    def _make_loss(self) -> Loss:
        """
        :return: what updates make smaller
        """

    @property
    def learner(self) -> Learner:
        """
        :return: what computes updates, and the Q-values to explore with. It is made anew when a network or one of its layers,
            the optimizer or a setting has been replaced.
        :raises ValueError: for a replacement that does not go with the rest
        """
        parts = self._get_learner_parts()
        if len(parts) != len(self._learner_parts) or not all(map(operator.is_, parts, self._learner_parts)):
            self._make_learner()
        return self._learner

    def _get_learner_parts(self) -> list[Any]:
        """
        :return: everything that the learner is made of, compared by identity
        """
        policy = self.policy
        return [
            self.env is None,
            self.precision,
            self.accelerate,
            self.max_grad_norm,
            policy.optimizer,
            *policy.optimizer.param_groups,  # loading its state replaces them
            *_parts_of(policy.q_net),
            *_parts_of(policy.q_net_target),
        ]

    def _make_learner(self) -> None:
        """Make what computes the updates; a model that only plays needs neither processor nor compiler of its training."""
        only_plays = self.env is None
        self._learner = make_learner(
            self.policy.q_net,
            self.policy.q_net_target,
            self.policy.optimizer,
            self._make_loss(),
            self.max_grad_norm,
            "float32" if only_plays else self.precision,
            "none" if only_plays else self.accelerate,
            make_copy=ComputeCopy,
        )
        self._learner_parts = self._get_learner_parts()

    @abstractmethod
    def memory(self) -> Memory:
        """
        :return: the replay memory, the same object as long as it is the same memory
        :raises ValueError: for one of which it is not known what it holds
        """

    @abstractmethod
    def start_with_an_empty_buffer(self) -> None:
        """Go on without the transitions that ``set_state`` reckons with: what is under way with them is given up."""

    def get_state(self) -> dict[str, Any]:
        """
        :return: all that learning has changed besides ``memory``, the environments and generators of random numbers:
            dictionaries, lists, numbers, texts and NumPy arrays
        """
        optimizer = self.policy.optimizer.state_dict()
        assert self.ep_info_buffer is not None
        assert self.ep_success_buffer is not None
        return {
            "counters": {name: getattr(self, name) for name in self.COUNTERS},
            "policy": {name: _to_array(tensor) for name, tensor in self.policy.state_dict().items()},
            "optimizer": {
                str(index): {name: _to_array(value) for name, value in of_parameter.items()}
                for index, of_parameter in optimizer["state"].items()
            },
            "learning_rates": [float(group["lr"]) for group in optimizer["param_groups"]],
            "last_obs": self._last_obs,
            "last_original_obs": self._last_original_obs,
            "last_episode_starts": self._last_episode_starts,
            "episodes": list(self.ep_info_buffer),
            "successes": [bool(success) for success in self.ep_success_buffer],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """
        Go on where another model of the same settings was.

        :param state: what its ``get_state`` gave
        :raises ValueError: if networks or counters are others, naming them
        """
        _check_same("counters", state["counters"], self.COUNTERS)
        _check_same("parameters", state["policy"], self.policy.state_dict())
        for name, value in state["counters"].items():
            setattr(self, name, value)
        for name, tensor in self.policy.state_dict().items():
            if tensor.shape != state["policy"][name].shape:
                raise ValueError(
                    f"parameter {name!r} has shape {tuple(tensor.shape)}, and that of the checkpoint "
                    f"{state['policy'][name].shape}"
                )
        self.policy.load_state_dict({name: th.tensor(array) for name, array in state["policy"].items()})
        optimizer = self.policy.optimizer.state_dict()
        optimizer["state"] = {
            int(index): {name: th.tensor(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
            for index, values in state["optimizer"].items()
        }
        for group, learning_rate in zip(optimizer["param_groups"], state["learning_rates"], strict=True):
            group["lr"] = learning_rate
        self.policy.optimizer.load_state_dict(optimizer)
        self._last_obs = state["last_obs"]
        self._last_original_obs = state["last_original_obs"]
        self._last_episode_starts = state["last_episode_starts"]
        self.ep_info_buffer = collections.deque(state["episodes"], maxlen=self._stats_window_size)
        self.ep_success_buffer = collections.deque(state["successes"], maxlen=self._stats_window_size)

    def is_finite(self) -> bool:
        """
        :return: whether all parameters are finite numbers
        """
        return all(bool(th.isfinite(parameter).all()) for parameter in self.policy.parameters())

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
        changes = cls._changes_on_load(kwargs).copy()
        if "stats_window_size" in changes:  # whose attribute has another name
            changes["_stats_window_size"] = changes.pop("stats_window_size")
        model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **changes)
        model._take_changes(kwargs)
        return model

    def _take_changes(self, changes: Mapping[str, Any]) -> None:
        """
        Do what is left to do for a model that was just loaded.

        :param changes: arguments of the constructor that were to change
        :raises ValueError: for one that changes nothing in this model
        """
        if "stats_window_size" in changes:
            for name in ("ep_info_buffer", "ep_success_buffer"):
                if getattr(self, name) is not None:
                    setattr(self, name, collections.deque(getattr(self, name), maxlen=self._stats_window_size))

    @classmethod
    def _changes_on_load(cls, changes: dict[str, Any]) -> dict[str, Any]:
        """
        :param changes: arguments of the constructor to change
        :return: the same, with those that have to change with them
        """
        return changes

    def __getstate__(self) -> dict[str, Any]:
        """
        For ``pickle``, ``copy.deepcopy`` and worker processes: the whole model with its replay buffer. Environments that
        cannot be pickled are left out, as from a saved model: ``set_env`` gives it some again. A logger that writes to files
        or to the console is replaced by one that writes nowhere, until ``learn`` makes another.

        :return: attributes
        """
        derived = {"_learner", "_learner_parts", "at_rest"}
        state = {name: value for name, value in vars(self).items() if name not in derived}
        state["env"] = _PickledEnv(self.env)
        if "_logger" in state and not _can_be_pickled(self._logger):
            state |= {"_logger": Logger(folder=None, output_formats=[]), "_custom_logger": False}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        env: VecEnv | None = state["env"].env
        vars(self).update(state, env=env)
        if env is not None:  # if not, samples are normalized as before
            self._vec_normalize_env = unwrap_vec_normalize(env)
            # Gymnasium makes these anew, which loses their running episodes
            if any(isinstance(each.unwrapped, EzPickle) for each in getattr(env.unwrapped, "envs", [])):
                self._last_obs = None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_learner", "_learner_parts", "at_rest"]

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


def _parts_of(module: nn.Module) -> Iterator[Any]:
    """
    :param module: a network
    :return: its layers, parameters and buffers, each as often as it is found; four times as fast as ``modules()`` and
        ``parameters()``, which go by names
    """
    modules = [module]
    for found in modules:
        yield found
        yield from found._parameters.values()
        yield from found._buffers.values()
        modules.extend(child for child in found._modules.values() if child is not None)


def _to_array(value: Any) -> Any:
    """
    :param value: a tensor, or anything else
    :return: the tensor as an array, or what was given
    """
    return value.detach().cpu().numpy() if isinstance(value, th.Tensor) else value


def _check_same(what: str, found: Iterable[str], needed: Iterable[str]) -> None:
    """
    :param what: what the names are of
    :param found: names in a checkpoint
    :param needed: names in a model
    :raises ValueError: if they differ, naming those that do
    """
    more, fewer = set(found) - set(needed), set(needed) - set(found)
    if more or fewer:
        raise ValueError(
            f"{what} differ from those of the checkpoint, which "
            + " and ".join(
                f"{verb} {', '.join(sorted(names))}" for verb, names in (("also has", more), ("lacks", fewer)) if names
            )
        )
