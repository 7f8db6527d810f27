"""``SweepDQN``: the algorithm of Hvass' tutorial 16.

It plays until its replay memory is full enough, with the Q-values that it estimates while playing; sweeps backwards through
the memory to carry rewards to earlier states; fits the network to all Q-values until the loss is low enough; and begins anew
with an empty memory. There is no target network, and no update while it plays.

A *state* is one agent step of one environment. ``n_states`` and ``n_episodes`` count states and whole games since the model
was new, over every ``learn`` and through files; all signals follow ``n_states``.

Source: Magnus Erik Hvass Pedersen 2017, TensorFlow tutorial 16, "Reinforcement Learning"
(https://github.com/Hvass-Labs/TensorFlow-Tutorials). Differences are listed in ``docs/dqn_sweep.md``.
"""

import collections
import inspect
import io
import math
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean, update_learning_rate
from stable_baselines3.dqn.policies import DQNPolicy
from tqdm import tqdm

from sb3_atari_dqn.atomic_files import written_whole
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checks import check_number, check_switch, check_whole_number, keyword_names
from sb3_atari_dqn.learning import accelerate as acceleration
from sb3_atari_dqn.learning.losses import Loss, fit_loss
from sb3_atari_dqn.networks.extractors import TutorialCNN
from sb3_atari_dqn.networks.optimizers import CachedRMSpropTFLike, resolve_optimizer
from sb3_atari_dqn.networks.policy import CnnPolicy, MlpPolicy, check_policy_kwargs
from sb3_atari_dqn.replay.frames import COMPRESSIONS
from sb3_atari_dqn.replay.sweep_memory import Statistics, Summary, SweepMemory
from sb3_atari_dqn.sweep_logs import SweepLogs

SelfSweepDQN = TypeVar("SelfSweepDQN", bound="SweepDQN")

#: batches that the mean loss, which ends a fit, is taken over
LOSS_WINDOW = 100

#: games that the mean score is taken over
REWARD_WINDOW = 30

#: TensorFlow's defaults of RMSprop
TENSORFLOW_RMSPROP = {"alpha": 0.9, "eps": 1e-10}

#: arguments with a final value, and whether it is higher
_SIGNALS = {"learning_rate": False, "loss_limit": False, "max_epochs": True, "replay_fraction": True}


class FitBatch(NamedTuple):
    """
    States to fit the network to, as tensors on the learner's device.

    :param observations: states as the environment gives them, (batch, *observation)
    :param q_values: what the network shall give for them, float (batch, n_actions)
    """

    observations: th.Tensor
    q_values: th.Tensor


class FitProgress:
    """How far a fit has come: ``n_batches`` so far, and the last losses."""

    def __init__(self) -> None:
        self.n_batches = 0
        self.last_losses: collections.deque[float] = collections.deque(maxlen=LOSS_WINDOW)


class Signals(NamedTuple):
    """
    What is steered linearly in the number of states.

    :param learning_rate: of the fit
    :param loss_limit: mean loss below which a fit ends
    :param max_epochs: how often a fit goes through the memory at most
    :param replay_fraction: share of the memory that is filled before a fit, in (0, 1]
    """

    learning_rate: float
    loss_limit: float
    max_epochs: float
    replay_fraction: float


def constant_learning_rate(learning_rate: float | Schedule) -> float:
    """
    :param learning_rate: a number, or RL Zoo's schedule of one
    :return: the number
    :raises ValueError: for a schedule that is not constant
    """
    if not callable(learning_rate):
        return learning_rate
    if learning_rate(1.0) != learning_rate(0.0):
        raise ValueError(
            f"learning_rate={learning_rate!r} must be a number: it falls to final_learning_rate over signal_steps states "
            "by itself"
        )
    return float(learning_rate(1.0))


def tutorial_policy_kwargs(policy: str | type[DQNPolicy], policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param policy: see ``SweepDQN``
    :param policy_kwargs: arguments of the policy
    :return: the same, with the tutorial's optimizer and network where they say nothing of them
    """
    completed = {"optimizer_class": "RMSpropTFLike", **policy_kwargs}
    if policy in ("CnnPolicy", CnnPolicy):
        completed.setdefault("features_extractor_class", "TutorialCNN")
    if resolve_optimizer(completed["optimizer_class"]) is CachedRMSpropTFLike:
        completed["optimizer_kwargs"] = {**TENSORFLOW_RMSPROP, **(completed.get("optimizer_kwargs") or {})}
    if completed.get("features_extractor_class") in ("TutorialCNN", TutorialCNN):
        completed.setdefault("normalize_images", False)
    return completed


class SweepDQN(QLearningAlgorithm):
    """
    Deep Q-learning by backward sweeps through a replay memory. The defaults are the tutorial's.

    :param policy: ``"CnnPolicy"`` or ``"MlpPolicy"``, or a class. ``policy_kwargs`` are ``CustomDQN``'s; what they do not say
        is the tutorial's: ``RMSpropTFLike`` with ``TENSORFLOW_RMSPROP``, and for ``"CnnPolicy"`` ``TutorialCNN`` on grey
        levels.
    :param env: the environment to learn from, or its id. Monitor inside its wrappers tells the end of a game from that of a
        life.
    :param learning_rate: of the fit at the start, a number
    :param final_learning_rate: after ``signal_steps``
    :param loss_limit: a fit ends when the mean loss of its last 100 batches falls below this
    :param final_loss_limit: after ``signal_steps``
    :param max_epochs: how often a fit goes through the memory at most, at least 1
    :param final_max_epochs: after ``signal_steps``
    :param replay_fraction: share of the memory that is filled before each fit, in (0, 1]
    :param final_replay_fraction: after ``signal_steps``
    :param signal_steps: states over which these four go linearly to their final values
    :param buffer_size: room for states of all environments together
    :param batch_size: states in a batch of the fit
    :param gamma: discount factor, in [0, 1]
    :param clip_rewards: limit rewards to [-1, 1] where they are learnt from
    :param error_threshold: estimation error from which on it is large, at least 0
    :param large_error_share: least share of a batch that comes from states with large errors, in [0, 1]
    :param exploration_initial_eps: probability of a random action at the start, in [0, 1]
    :param exploration_final_eps: after ``exploration_steps``
    :param exploration_steps: states over which it falls
    :param eval_epsilon: probability of a random action in ``predict(deterministic=False)``, in [0, 1]
    :param keep_memory: estimate all Q-values anew after a fit, and go on with the memory, in place of emptying it. The next
        fit is due after as many new states as an emptied memory would take.
    :param compression: of the states in memory: ``None``, ``"lz4"`` or ``"zstd"``
    :param precision: see ``CustomDQN``
    :param accelerate: see ``CustomDQN``
    :param run_folder: where ``checkpoint.zip`` is written after each fit, and the logs ``rewards.csv`` and ``q_values.csv``;
        nothing is written without it. RL Zoo's runs have theirs.
    :param policy_kwargs: see ``policy``
    :param stats_window_size: games that the logger averages scores over
    :param tensorboard_log: see ``stable_baselines3.common.base_class.BaseAlgorithm``
    :param verbose: 0: nothing; 1: a line for each game, the memory's statistics and each fit's progress
    :param seed: of everything that is random
    :param device: where the network lives
    :raises TypeError: for an argument that does not exist, naming the nearest one
    :raises ValueError: for a value out of its range
    :raises MemoryError: for a memory that would not fit, with both figures
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"CnnPolicy": CnnPolicy, "MlpPolicy": MlpPolicy}

    COUNTERS = (*QLearningAlgorithm.COUNTERS, "n_states", "n_episodes", "n_fits", "_n_new_states", "_has_swept")

    policy: DQNPolicy
    max_grad_norm = None  # the tutorial clips no gradients

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        final_learning_rate: float = 1e-5,
        loss_limit: float = 0.1,
        final_loss_limit: float = 0.015,
        max_epochs: float = 5,
        final_max_epochs: float = 10,
        replay_fraction: float = 0.1,
        final_replay_fraction: float = 1.0,
        signal_steps: int = 5_000_000,
        buffer_size: int = 200_000,
        batch_size: int = 128,
        gamma: float = 0.97,
        clip_rewards: bool = True,
        error_threshold: float = 0.1,
        large_error_share: float = 0.5,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.1,
        exploration_steps: int = 1_000_000,
        eval_epsilon: float = 0.01,
        keep_memory: bool = False,
        compression: str | None = None,
        precision: str = "float32",
        accelerate: str = "none",
        run_folder: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 30,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        self.check_values(dict(locals()))
        self.check_keywords(kwargs)
        if _init_setup_model and run_folder is not None and SweepLogs.exist(Path(run_folder)):
            raise ValueError(
                f"run_folder={run_folder!r} holds the logs of a run already: go on with its checkpoint (SweepDQN.load), or "
                "give another folder"
            )
        super().__init__(
            policy,
            env,
            learning_rate,
            tutorial_policy_kwargs(policy, policy_kwargs or {}),
            stats_window_size,
            tensorboard_log,
            verbose,
            device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Discrete,),
        )
        self.final_learning_rate = final_learning_rate
        self.loss_limit = loss_limit
        self.final_loss_limit = final_loss_limit
        self.max_epochs = max_epochs
        self.final_max_epochs = final_max_epochs
        self.replay_fraction = replay_fraction
        self.final_replay_fraction = final_replay_fraction
        self.signal_steps = signal_steps
        self.buffer_size = buffer_size
        self.batch_size = batch_size
        self.gamma = gamma
        self.clip_rewards = clip_rewards
        self.error_threshold = error_threshold
        self.large_error_share = large_error_share
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.exploration_steps = exploration_steps
        self.eval_epsilon = eval_epsilon
        self.keep_memory = keep_memory
        self.compression = compression
        self.precision = precision
        self.accelerate = accelerate
        self.run_folder = run_folder
        self.n_states = 0
        self.n_episodes = 0
        self.n_fits = 0
        self.replay_memory: SweepMemory | None = None
        self._n_new_states = 0  # since the last fit
        self._has_swept = False  # since then
        self._fit_progress: FitProgress | None = None  # of the fit that is being made
        self._logged_in: str | None = None  # folder of the logs so far
        self._last_rewards: collections.deque[float] = collections.deque(maxlen=REWARD_WINDOW)
        self._logs: SweepLogs | None = None
        self._random_generator = np.random.default_rng(seed)
        if _init_setup_model:
            self._setup_model()
            self._allocate_memory()

    @classmethod
    def keywords(cls) -> set[str]:
        """
        :return: names of all arguments that the constructor takes
        """
        return super().keywords() - (keyword_names(BaseAlgorithm) - keyword_names(SweepDQN.__init__))

    @classmethod
    def check_keywords(cls, names: Iterable[str], others: Iterable[str] = ()) -> None:
        """
        :param names: arguments that somebody wants to give
        :param others: names that are allowed as well
        :raises TypeError: if one of them does not exist, naming the nearest one that does
        """
        names = set(names)
        for name in ("replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"):
            if name in names:
                raise TypeError(
                    f"{cls.__name__} has no argument {name!r}: a sweep needs a memory of its own, of Q-values in the order of "
                    "play; its arguments are buffer_size, compression and keep_memory"
                )
        super().check_keywords(names, others)

    @classmethod
    def check_values(cls, settings: Mapping[str, Any]) -> None:
        """
        :param settings: arguments of the constructor by name, those that are given; others have their defaults
        :raises ValueError: for one that is out of its range
        """
        super().check_values(settings)
        policy_kwargs = settings.get("policy_kwargs") or {}
        check_policy_kwargs(policy_kwargs)
        for name in ("distribution", "noisy_sigma"):
            if policy_kwargs.get(name) is not None:
                raise ValueError(
                    f"{name}={policy_kwargs[name]!r} does not go with {cls.__name__}, which fits Q-values as they are"
                )
        defaults = {
            parameter.name: parameter.default for parameter in inspect.signature(SweepDQN.__init__).parameters.values()
        }
        given = {**defaults, **settings}
        given["learning_rate"] = constant_learning_rate(given["learning_rate"])
        for name in ("gamma", "large_error_share", "exploration_initial_eps", "exploration_final_eps", "eval_epsilon"):
            check_number(given, name, 0, 1)
        for name in ("learning_rate", "loss_limit", "error_threshold"):
            check_number(given, name, 0)
        check_number(given, "max_epochs", 1)
        for name in ("replay_fraction", "final_replay_fraction"):
            check_number(given, name, 0, 1)
        for name, may_rise in _SIGNALS.items():
            start, end = given[name], given[f"final_{name}"]
            check_number(given, f"final_{name}", 0)
            if name == "learning_rate" and start == 0:  # RL Zoo plays with that
                continue
            if end < start if may_rise else end > start:
                raise ValueError(f"final_{name}={end!r} must be at {'least' if may_rise else 'most'} {name}={start!r}")
        if given["exploration_final_eps"] > given["exploration_initial_eps"]:
            raise ValueError(
                f"exploration_final_eps={given['exploration_final_eps']!r} must be at most "
                f"exploration_initial_eps={given['exploration_initial_eps']!r}"
            )
        for name in ("signal_steps", "exploration_steps", "batch_size", "buffer_size"):
            check_whole_number(given, name, 1, "states")
        check_whole_number(given, "n_envs", 1, "environments")
        for name in ("clip_rewards", "keep_memory"):
            check_switch(given, name)
        if given["compression"] not in COMPRESSIONS:
            raise ValueError(
                f"compression={given['compression']!r} is not known; choose one of {', '.join(map(repr, COMPRESSIONS))}"
            )
        n_envs = given.get("n_envs", 1)
        n_states = int(given["buffer_size"] // n_envs * n_envs * given["replay_fraction"])
        needed = max(given["batch_size"], 2 * n_envs)
        if n_states < needed:
            raise ValueError(
                f"buffer_size={given['buffer_size']} and replay_fraction={given['replay_fraction']!r} make a fit due at "
                f"{n_states} states, and it needs {needed}: a batch (batch_size), and two of each environment"
            )
        acceleration.check_values(given["precision"], given["accelerate"])

    def _setup_model(self) -> None:
        self._check_action_space()
        self.check_values({name: value for name, value in vars(self).items() if name in self.keywords() or name == "n_envs"})
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)  # type: ignore[assignment]  # one of policy_aliases
        self.policy.q_net_target = self.policy.q_net
        self.policy.to(self.device)
        self._make_learner()

    def _make_loss(self) -> Loss:
        return fit_loss

    def _allocate_memory(self) -> None:
        space = self.observation_space
        if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
            raise ValueError(f"SweepDQN needs states of one array of bytes, uint8, not {space}")
        assert isinstance(self.action_space, spaces.Discrete)
        self._n_new_states = 0
        self._has_swept = False
        self._fit_progress = None
        self.replay_memory = SweepMemory(
            self.buffer_size, self.n_envs, space.shape, int(self.action_space.n), self.compression
        )

    @property
    def signals(self) -> Signals:
        """
        :return: the signals at ``n_states``
        """
        starts = {name: self.lr_schedule(1.0) if name == "learning_rate" else getattr(self, name) for name in _SIGNALS}
        finals = {name: getattr(self, f"final_{name}") for name in _SIGNALS}
        return Signals(**{name: self._between(starts[name], finals[name], self.signal_steps) for name in _SIGNALS})

    def _between(self, start: float, end: float, n_steps: int) -> float:
        """
        :param start: value at the first state
        :param end: value after ``n_steps`` states
        :param n_steps: how many
        :return: value at ``n_states``
        """
        return start + (end - start) * min(self.n_states / n_steps, 1)

    @property
    def exploration_rate(self) -> float:
        """
        :return: probability of a random action at ``n_states``
        """
        return self._between(self.exploration_initial_eps, self.exploration_final_eps, self.exploration_steps)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        assert self.env is not None
        if self.replay_memory is None:
            self._allocate_memory()
        assert self.replay_memory is not None
        if reset_num_timesteps or self._last_obs is None:
            self.replay_memory.cut()  # new games begin
        if self.run_folder is not None and (self._logs is None or self._logs.folder != Path(self.run_folder)):
            self._logs = self._open_logs(self.run_folder)
        if not all(self.env.env_is_wrapped(Monitor)):
            warnings.warn(
                "Without a Monitor around the games nothing tells when one ends: none is counted or logged", stacklevel=3
            )
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    def _open_logs(self, run_folder: str) -> SweepLogs:
        """
        :param run_folder: where the logs are
        :return: the logs
        :raises ValueError: if they are not this model's, or went on for more than a fit after it was saved
        """
        folder = Path(run_folder)
        if self._logged_in != run_folder and SweepLogs.exist(folder):
            raise ValueError(f"run_folder={run_folder!r} holds the logs of another run: give another folder")
        if self._logged_in == run_folder and not folder.is_dir():
            warnings.warn(f"run_folder={run_folder!r} is not there any more: it is made anew, with new logs", stacklevel=5)
        if SweepLogs.sweeps_behind(folder, self.n_states) > 1:
            raise ValueError(
                f"run_folder={run_folder!r} holds the logs of a run that went on for more than one fit after this model: go "
                "on with its checkpoint.zip, or give another folder"
            )
        self._logged_in = run_folder
        return SweepLogs(folder, self.n_states)

    def learn(
        self: SelfSweepDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "SweepDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfSweepDQN:
        """
        Play, sweep and fit in turns. What was played since the last fit stays in the memory for the next ``learn``.

        :param total_timesteps: agent steps of all environments together
        :param callback: called at each step
        :param log_interval: fits between two entries in the logger; ``None`` for none
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: whether ``num_timesteps`` counts from zero; ``n_states`` and ``n_episodes`` always go on
        :param progress_bar: whether to show one
        :return: the model
        """
        if log_interval is not None:
            check_whole_number({"log_interval": log_interval}, "log_interval", 1, "fits")
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps or self._fit_progress is not None:
            if not self._play(total_timesteps, callback):
                break
            if self._fit_is_due():
                self._sweep_and_fit(log_interval)
        callback.on_training_end()
        return self

    def _fit_is_due(self) -> bool:
        return self._n_new_states >= self._n_states_of_a_fit()

    def _n_states_of_a_fit(self) -> float:
        """
        :return: new states after which a fit is due
        """
        assert self.replay_memory is not None
        return self.signals.replay_fraction * self.replay_memory.n_envs * self.replay_memory.n_steps

    def _play(self, total_timesteps: int, callback: BaseCallback) -> bool:
        """
        Play until a fit is due.

        :param total_timesteps: agent steps to stop at anyway
        :param callback: called at each step
        :return: whether it wants to go on
        """
        assert self.env is not None
        assert self.replay_memory is not None
        env = self.env
        callback.on_rollout_start()
        while self.num_timesteps < total_timesteps and not self._fit_is_due():
            self.at_rest()
            actions, q_values = self._act()
            new_obs, rewards, dones, infos = env.step(actions)
            self._store(actions, q_values, rewards, dones, infos)
            self._last_obs = new_obs  # type: ignore[assignment]  # one array
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        callback.on_rollout_end()
        return True

    def _store(
        self, actions: np.ndarray, q_values: np.ndarray, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]
    ) -> None:
        """
        Count a step of all environments, and keep it.

        :param actions: taken in the last observations, int64 (n_envs,)
        :param q_values: estimated there, float32 (n_envs, n_actions)
        :param rewards: raw rewards, float32 (n_envs,)
        :param dones: where an episode ended, bool (n_envs,)
        :param infos: of each environment
        """
        assert self.replay_memory is not None
        assert isinstance(self._last_obs, np.ndarray)
        self.num_timesteps += len(actions)
        self.n_states += len(actions)
        self._n_new_states += len(actions)
        timeouts = np.array([info.get("TimeLimit.truncated", False) for info in infos])
        game_ends = np.array(["episode" in info for info in infos])
        ends = dones & ~timeouts
        self.replay_memory.add(self._last_obs, q_values, actions, rewards, ends, ends & game_ends, dones & timeouts)
        self._update_info_buffer(infos, dones)
        for index in np.flatnonzero(game_ends):
            self._end_game(infos[index]["episode"]["r"])

    def _act(self) -> tuple[np.ndarray, np.ndarray]:
        """
        :return: actions to explore with, int64 (n_envs,), and all Q-values, float32 (n_envs, n_actions)
        """
        assert isinstance(self._last_obs, np.ndarray)
        q_values = self.learner.q_values(self.policy.obs_to_tensor(self._last_obs)[0]).cpu().numpy()
        return self._epsilon_greedy(self._last_obs, self.exploration_rate, lambda _: q_values.argmax(axis=1)), q_values

    def _end_game(self, reward: float) -> None:
        """
        :param reward: score of the game
        """
        self.n_episodes += 1
        self._last_rewards.append(reward)
        mean = safe_mean(self._last_rewards)
        if self._logs is not None:
            self._logs.append("rewards", self.n_episodes, self.n_states, reward, mean)
        if self.verbose >= 1:
            print(
                f"episode {self.n_episodes}, states {self.n_states:,}, epsilon {self.exploration_rate:.3f}, "
                f"reward {reward:g}, mean of {len(self._last_rewards)} {mean:.2f}, "
                f"next fit {self._n_new_states / self._n_states_of_a_fit():.0%}"
            )

    def _sweep_and_fit(self, log_interval: int | None) -> None:
        """
        Carry rewards backwards, fit the network to all Q-values, write a checkpoint, and make room.

        :param log_interval: see ``learn``
        """
        assert self.replay_memory is not None
        signals = self.signals
        logs = log_interval is not None and self.n_fits % log_interval == 0
        if not self._has_swept:  # a fit that was interrupted is made again
            statistics = self.replay_memory.sweep(self.gamma, self.clip_rewards, self.error_threshold)
            self._has_swept = True
            if self._logs is not None:
                self._logs.append("q_values", self.n_episodes, self.n_states, *statistics.after)
            if logs:
                self._record(statistics)
                self.dump_logs()
        self._fit(signals)
        self.n_fits += 1
        if logs:
            for name, value in signals._asdict().items():
                self.logger.record(f"train/{name}", value)
            self.logger.dump(self.num_timesteps)

        self._n_new_states = 0
        self._has_swept = False
        if self.keep_memory:
            self._estimate_all_q_values()
        else:
            self.replay_memory.clear()
        if self.run_folder is not None:
            self._write_checkpoint(Path(self.run_folder) / "checkpoint.zip")

    def dump_logs(self) -> None:
        """Write the logs."""
        elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([episode["r"] for episode in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([episode["l"] for episode in self.ep_info_buffer]))
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        self.logger.record("time/episodes", self.n_episodes)
        self.logger.record("time/states", self.n_states)
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def _record(self, statistics: Statistics) -> None:
        """
        :param statistics: of the memory, for the next entry in the logs
        """
        for when in ("before", "after", "change"):
            summary: Summary = getattr(statistics, when)
            self.logger.record(f"memory/q_values_{when}_min", summary.minimum)
            self.logger.record(f"memory/q_values_{when}_mean", summary.mean)
            self.logger.record(f"memory/q_values_{when}_max", summary.maximum)
        self.logger.record("memory/states", statistics.n_states)
        self.logger.record("memory/large_errors", statistics.n_large_errors)
        self.logger.record("memory/large_errors_share", statistics.n_large_errors / statistics.n_states)
        self.logger.record("memory/end_life_share", statistics.lives)
        self.logger.record("memory/end_episode_share", statistics.games)
        self.logger.record("memory/reward_share", statistics.rewarded)

    def _fit(self, signals: Signals) -> None:
        """
        Fit the network to the Q-values in memory.

        :param signals: what steers it
        """
        assert self.replay_memory is not None
        update_learning_rate(self.policy.optimizer, signals.learning_rate)
        per_epoch = self.replay_memory.n_used / self.batch_size
        n_batches = max(math.ceil(per_epoch), int(per_epoch * signals.max_epochs))
        if self._fit_progress is None:
            self._fit_progress = FitProgress()
        progress, last_losses = self._fit_progress, self._fit_progress.last_losses
        with tqdm(
            total=n_batches, initial=progress.n_batches, desc=f"fit {self.n_fits + 1}", unit="batch", disable=self.verbose < 1
        ) as bar:
            is_fitted = False
            while not is_fitted:
                self.at_rest()
                states, q_values = self.replay_memory.sample(self.batch_size, self.large_error_share, self._random_generator)
                batch = FitBatch(th.as_tensor(states, device=self.device), th.as_tensor(q_values, device=self.device))
                last_losses.append(float(self.learner.update(batch).report[0]))
                progress.n_batches += 1
                mean_loss = sum(last_losses) / len(last_losses)
                epoch = progress.n_batches / per_epoch
                bar.update()
                bar.set_postfix(epoch=f"{epoch:.2f}", loss=f"{last_losses[-1]:.4f}", mean=f"{mean_loss:.4f}", refresh=False)
                is_fitted = progress.n_batches >= n_batches or (epoch >= 1 and mean_loss < signals.loss_limit)
        self._fit_progress = None
        self._n_updates += progress.n_batches
        self.logger.record("train/loss", mean_loss)
        self.logger.record("train/epochs", epoch)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _estimate_all_q_values(self) -> None:
        """Replace the Q-values in memory by what the network gives now."""
        assert self.replay_memory is not None
        indices = self.replay_memory.indices()
        batches = [indices[first : first + 8 * self.batch_size] for first in range(0, len(indices), 8 * self.batch_size)]
        for batch in tqdm(batches, desc="estimating Q-values", unit="batch", disable=self.verbose < 1):
            states = th.as_tensor(self.replay_memory.read(batch)[0], device=self.device)
            self.replay_memory.set_q_values(batch, self.learner.q_values(states).cpu().numpy())

    def save_replay_buffer(self, path: str | Path | io.BufferedIOBase) -> None:
        """
        Save the replay memory, which the model's own file does not hold.

        :param path: file to write
        """
        save_to_pkl(path, (self.replay_memory, self._n_new_states, self._has_swept), self.verbose)

    def load_replay_buffer(self, path: str | Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load a replay memory. The games in it were not finished: what is played next does not follow.

        :param path: file written by ``save_replay_buffer``
        :param truncate_last_traj: not used
        :raises ValueError: if it is not one of this model's
        """
        saved = load_from_pkl(path, self.verbose)
        if not isinstance(saved, tuple) or not isinstance(saved[0], SweepMemory):
            raise ValueError(f"{str(path)!r} does not hold a memory of SweepDQN")
        memory: SweepMemory = saved[0]
        self._allocate_memory()
        assert self.replay_memory is not None
        for name in ("n_envs", "n_steps", "state_shape"):
            if getattr(memory, name) != getattr(self.replay_memory, name):
                raise ValueError(
                    f"{str(path)!r} holds a memory with {name}={getattr(memory, name)}, and this model needs "
                    f"{getattr(self.replay_memory, name)}"
                )
        self.replay_memory, self._n_new_states, self._has_swept = saved
        self._fit_progress = None
        memory.cut()

    def _write_checkpoint(self, path: Path) -> None:
        """
        Write the model, in one piece or not at all. If there is no room for it, training goes on.

        :param path: file to write
        """
        try:
            with written_whole(path) as temporary:
                self.save(temporary)
        except OSError as error:
            warnings.warn(f"{str(path)!r} could not be written, and training goes on: {error}", stacklevel=2)

    def memory(self) -> SweepMemory:
        """
        :return: the replay memory
        """
        assert self.replay_memory is not None
        return self.replay_memory

    def start_with_an_empty_buffer(self) -> None:
        self._allocate_memory()

    def get_state(self) -> dict[str, Any]:
        progress = self._fit_progress
        return {
            **super().get_state(),
            "fit": None if progress is None else [progress.n_batches, list(progress.last_losses)],
            "last_rewards": list(self._last_rewards),
            "random_generator": self._random_generator.bit_generator.state,
            "has_logs": self._logs is not None,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        self._fit_progress = None
        if state["fit"] is not None:
            self._fit_progress = FitProgress()
            self._fit_progress.n_batches, last_losses = state["fit"]
            self._fit_progress.last_losses.extend(last_losses)
        self._last_rewards = collections.deque(state["last_rewards"], maxlen=REWARD_WINDOW)
        self._random_generator.bit_generator.state = state["random_generator"]
        self._logged_in = self.run_folder if state["has_logs"] else None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "replay_memory", "_logs", "_fit_progress"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
