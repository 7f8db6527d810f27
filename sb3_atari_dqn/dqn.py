"""``CustomDQN``: Stable-Baselines3's DQN with the tutorials' improvements as keywords.

Each keyword is turned into one object when the model is built; the training loop asks about none of them.
With the keywords at SB3's behaviour it trains bit for bit as SB3's DQN.

Sources: Mnih et al. 2013 (https://arxiv.org/abs/1312.5602), Mnih et al. 2015 (https://www.nature.com/articles/nature14236).
"""

import contextlib
import copy
import inspect
import io
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule, polyak_update
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork

from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checks import check_number, check_switch, check_whole_number
from sb3_atari_dqn.learning import accelerate as acceleration
from sb3_atari_dqn.learning.learner import Learner, UpdateReport
from sb3_atari_dqn.learning.losses import Loss, TDLoss, make_backup
from sb3_atari_dqn.learning.objectives import make_objective
from sb3_atari_dqn.networks.policy import CnnPolicy, MlpPolicy, MultiInputPolicy, check_hidden_layers, check_policy_kwargs
from sb3_atari_dqn.replay.buffer import (
    FrameReplayBuffer,
    resolve_replay_buffer,
    sample_one_by_one,
    sample_together,
    set_reward_clipping,
)
from sb3_atari_dqn.replay.device_frames import DeviceFrames
from sb3_atari_dqn.replay.record import BufferRecord

#: rates of random actions, which are 0 beside noisy networks if neither is given
EPSILONS = {"exploration_initial_eps", "exploration_final_eps"}

SelfCustomDQN = TypeVar("SelfCustomDQN", bound="CustomDQN")


class _WorkWhileStepping(VecEnvWrapper):
    """
    Does something else between ``step_async`` and ``step_wait``.

    :param venv: the environments
    :param work: what to do
    """

    def __init__(self, venv: VecEnv, work: Callable[[], None]) -> None:
        super().__init__(venv)
        self._work = work

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        try:
            self._work()
        finally:  # or the environments would not take another step
            step = self.venv.step_wait()
        return step


class CustomDQN(QLearningAlgorithm, DQN):
    """
    Deep Q-Network with a choice of loss, reward clipping, an optional target network, and evaluation at an epsilon of
    its own. Epsilon is drawn for each environment on its own.

    All other arguments are those of ``stable_baselines3.DQN``, by position or by name:
    https://stable-baselines3.readthedocs.io/en/master/modules/dqn.html#parameters

    :param policy: ``"CnnPolicy"``, ``"MlpPolicy"``, ``"MultiInputPolicy"`` or a class. ``policy_kwargs`` takes
        ``features_extractor_class`` by name too: ``"NipsCNN"``, ``"NatureCNN"``, ``"ImpalaCNN"``, ``"TutorialCNN"``.
    :param env: the environment to learn from, or its id
    :param replay_buffer_class: a class, ``"FrameReplayBuffer"`` by name, or ``None`` for Stable-Baselines3's choice
    :param loss: ``"huber"`` (the gradient is clipped, not the objective: Nature's error clipping) or ``"mse"``. ``None`` is
        Huber's, or what the distribution of ``policy_kwargs`` is learnt by.
    :param huber_delta: where Huber turns linear, in units of reward, above 0
    :param double_q: the next action is the best of the network that learns, its value is the target network's (van Hasselt et
        al. 2016, https://arxiv.org/abs/1509.06461)
    :param munchausen: a softmax of the Q-values takes the place of the best next action, and its logarithm adds to the rewards
        (Vieillard et al. 2020, https://arxiv.org/abs/2007.14430)
    :param munchausen_kwargs: ``entropy_temperature`` (0.03, above 0), ``alpha`` (0.9, in [0, 1]) and ``clip`` (-1, below 0)
    :param clip_rewards: learn from the sign of each reward; the replay memory, Monitor and evaluations keep the score
    :param target_update_interval: agent steps between copies to the target network, at least 1; ``None`` bootstraps
        from the network itself, without a target network
    :param eval_epsilon: probability of a random action in ``predict(deterministic=False)``, in [0, 1]; it does not
        depend on how far exploration has come
    :param update_period: agent steps of all environments together for each update (Nature: 4), in place of ``train_freq``
        and ``gradient_steps``, which count steps of each environment. ``None`` leaves it to these.
    :param precision: number format that updates are computed in: ``"float32"``, ``"bf16"`` (the parameters themselves stay
        float32), or ``"auto"``, bf16 where the processor has it
    :param accelerate: ``"none"``: SB3's updates, bit for bit; ``"fused"``: other memory layouts, and clipping and Adam in one
        kernel; ``"compile"``: parts compiled, which takes a compiler and half a minute; ``"cuda-graph"``: an update as one
        launch on a GPU; ``"auto"``: the best of ``"fused"`` and ``"cuda-graph"`` that works
    :param overlap: compute updates while the environments step. Updates that are due after a step wait for the next one
        and run between its ``step_async`` and ``step_wait``, so actions are chosen with weights that are up to one step of
        all environments older. ``False`` is SB3's strict alternation.
    :raises TypeError: for an argument that neither DQN nor this class has, naming the nearest one
    :raises ValueError: for a value out of its range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    COUNTERS = (
        *QLearningAlgorithm.COUNTERS,
        "_n_calls",
        "exploration_rate",
        "_exploration_timesteps",
        "_learning_restarts",
        "_pending_updates",
    )

    target_update_interval: int | None  # type: ignore[assignment]  # SB3's has no None

    @property
    def q_net(self) -> QNetwork:  # an attribute in Stable-Baselines3
        """
        :return: the network that plays and learns, which is the policy's
        """
        return self.policy.q_net

    @q_net.setter
    def q_net(self, q_net: QNetwork) -> None:
        if self.policy.q_net_target is self.policy.q_net:
            self.policy.q_net_target = q_net
        self.policy.q_net = q_net

    @property
    def q_net_target(self) -> QNetwork:
        """
        :return: the network for the next states, which is the policy's; ``q_net`` itself without a target network
        """
        return self.policy.q_net_target

    @q_net_target.setter
    def q_net_target(self, q_net_target: QNetwork) -> None:
        self.policy.q_net_target = q_net_target

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        *args: Any,
        loss: str | None = None,
        huber_delta: float = 1.0,
        double_q: bool = False,
        munchausen: bool = False,
        munchausen_kwargs: dict[str, float] | None = None,
        clip_rewards: bool = False,
        target_update_interval: int | None = 10_000,
        eval_epsilon: float = 0.05,
        update_period: int | None = None,
        precision: str = "float32",
        accelerate: str = "none",
        overlap: bool = False,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        self.check_keywords(kwargs)
        arguments = inspect.signature(DQN.__init__).bind_partial(self, policy, env, *args, **kwargs).arguments
        target_update_interval = arguments.pop("target_update_interval", target_update_interval)  # given by position
        del arguments["self"]
        self.check_values({**arguments, "update_period": update_period})
        arguments["replay_buffer_class"] = resolve_replay_buffer(arguments.get("replay_buffer_class"))
        if arguments.get("replay_buffer_kwargs") is not None:
            arguments["replay_buffer_kwargs"] = dict(arguments["replay_buffer_kwargs"])  # SB3 writes into it
        if isinstance(arguments.get("train_freq"), list):
            arguments["train_freq"] = tuple(arguments["train_freq"])
        if (arguments.get("policy_kwargs") or {}).get("noisy_sigma") is not None and not EPSILONS & arguments.keys():
            arguments.update(dict.fromkeys(EPSILONS, 0.0))  # noise explores
        super().__init__(**arguments, _init_setup_model=False)
        self.loss = loss
        self.huber_delta = huber_delta
        self.double_q = double_q
        self.munchausen = munchausen
        self.munchausen_kwargs = munchausen_kwargs
        self.clip_rewards = clip_rewards
        self.target_update_interval = target_update_interval
        self.eval_epsilon = eval_epsilon
        self.update_period = update_period
        self.precision = precision
        self.accelerate = accelerate
        self.overlap = overlap
        self._takes_any_buffer = arguments["replay_buffer_class"] is None  # Stable-Baselines3 chooses one
        self._exploration_timesteps = 0  # agent steps that exploration_fraction is a share of
        self._learning_restarts = 0  # agent steps after which a memory that was lost is filled again
        self._is_learning = False  # whether ``learn`` is under way
        if _init_setup_model:
            self._setup_model()
            self._allocate_replay_buffer()

    @classmethod
    def check_values(cls, settings: Mapping[str, Any]) -> None:
        """
        :param settings: arguments of the constructor by name, those that are given; others are not looked at
        :raises ValueError: for one that is out of its range
        """
        super().check_values(settings)
        cls._check_inherited_values(settings)
        policy_kwargs = settings.get("policy_kwargs") or {}
        check_policy_kwargs(policy_kwargs)
        policy = cls.policy_aliases.get(settings.get("policy", ""), settings.get("policy"))
        if isinstance(policy, type) and issubclass(policy, MlpPolicy):
            check_hidden_layers(policy_kwargs)
        for name in ("double_q", "munchausen", "clip_rewards", "overlap"):
            check_switch(settings, name)
        cls._resolve_loss(settings, policy_kwargs.get("distribution"), has_priorities=True)
        interval = settings.get("target_update_interval")
        if interval is not None and (isinstance(interval, bool) or not isinstance(interval, int | np.integer) or interval < 1):
            raise ValueError(
                f"target_update_interval={interval!r} must be a whole number of agent steps, at least 1, "
                "or None for no target network"
            )
        has_no_target = interval is None and "target_update_interval" in settings
        if has_no_target and settings.get("double_q", False):
            raise ValueError("double_q=True has no effect without a target network (target_update_interval=None)")
        if has_no_target and settings.get("tau", 1.0) != 1.0:
            raise ValueError(f"tau={settings['tau']} has no effect without a target network (target_update_interval=None)")
        check_number(settings, "eval_epsilon", 0, 1)
        has_noise = policy_kwargs.get("noisy_sigma") is not None
        if has_noise and "exploration_fraction" in settings and not EPSILONS & settings.keys():
            raise ValueError(
                f"exploration_fraction={settings['exploration_fraction']!r} has no effect with noisy_sigma, beside which no "
                "action is random unless exploration_initial_eps or exploration_final_eps is given"
            )
        cls._check_replay_buffer(settings)
        acceleration.check_values(settings.get("precision", "float32"), settings.get("accelerate", "none"))
        cls._check_update_period(settings)

    @staticmethod
    def _check_replay_buffer(settings: Mapping[str, Any]) -> None:
        buffer_class = resolve_replay_buffer(settings.get("replay_buffer_class")) or ReplayBuffer
        kwargs, n_steps = settings.get("replay_buffer_kwargs") or {}, settings.get("n_steps", 1)
        takes_frames = issubclass(buffer_class, FrameReplayBuffer)
        if takes_frames or (buffer_class is NStepReplayBuffer and n_steps > 1):
            for name, of_algorithm in (("n_steps", n_steps), ("gamma", settings.get("gamma", 0.99))):
                if kwargs.get(name, of_algorithm) != of_algorithm:
                    raise ValueError(
                        f"replay_buffer_kwargs: {name}={kwargs[name]!r} does not go with {name}={of_algorithm!r} of the "
                        f"algorithm, which {buffer_class.__name__} takes: leave it out there"
                    )
        if takes_frames:
            FrameReplayBuffer.check_values(**kwargs, optimize_memory_usage=settings.get("optimize_memory_usage", False))
            return
        for name in ("priority_exponent", "importance_exponent"):
            if name in kwargs:
                raise ValueError(f'{name} in replay_buffer_kwargs needs replay_buffer_class="FrameReplayBuffer", for images')
        if n_steps > 1 and settings.get("optimize_memory_usage", False):
            raise ValueError(
                f"n_steps={n_steps} does not go with optimize_memory_usage=True: for images, FrameReplayBuffer saves more and "
                "has both"
            )

    @staticmethod
    def _check_inherited_values(settings: Mapping[str, Any]) -> None:
        """
        :param settings: see ``check_values``; those that are Stable-Baselines3's are looked at, which it does not do itself
        :raises ValueError: see there
        """
        if not callable(settings.get("learning_rate")):
            check_number(settings, "learning_rate", 0)
        for name in ("gamma", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps"):
            check_number(settings, name, 0, 1)
        check_number(settings, "learning_starts", 0)
        for name, unit in (("buffer_size", "transitions"), ("batch_size", "transitions"), ("n_steps", "agent steps")):
            check_whole_number(settings, name, 1, unit)
        check_whole_number(settings, "gradient_steps", -1, "updates (-1: as many as steps were made)")
        period = settings.get("train_freq", 1)
        number, unit = period if isinstance(period, list | tuple) and len(period) == 2 else (period, "step")
        check_whole_number({"train_freq": number}, "train_freq", 1, "steps of each environment (or a pair with 'episode')")
        units = {kind.value: kind for kind in TrainFrequencyUnit}
        if unit not in (*units, *units.values()):
            raise ValueError(f"train_freq={period!r} must count one of {', '.join(map(repr, units))}")
        if unit == "episode" and settings.get("n_envs", 1) != 1:  # a loaded model, which has no text there, may only play
            raise ValueError(f"train_freq={period!r} needs one environment, not n_envs={settings['n_envs']}: count steps")
        if settings.get("max_grad_norm") not in (None, float("inf")):
            check_number(settings, "max_grad_norm", 0)

    @staticmethod
    def _check_update_period(settings: Mapping[str, Any]) -> None:
        period, n_envs = settings.get("update_period"), settings.get("n_envs", 1)
        if period is None:
            return
        for name in ("train_freq", "gradient_steps"):
            if name in settings:
                raise ValueError(f"{name}={settings[name]!r} has no effect with update_period={period}: leave one of them out")
        if isinstance(period, bool) or not isinstance(period, int | np.integer) or period < 1:
            raise ValueError(f"update_period={period!r} must be a whole number of agent steps, at least 1, or None")
        check_whole_number(settings, "n_envs", 1, "environments")
        if period % n_envs and n_envs % period:
            raise ValueError(
                f"update_period={period} agent steps do not go with n_envs={n_envs} environments, which step together: one of "
                "the two numbers must divide the other"
            )

    def _setup_model(self) -> None:
        self._check_action_space()
        folds_steps = self.replay_buffer_class is not None and issubclass(self.replay_buffer_class, FrameReplayBuffer)
        is_for_n_steps = self.replay_buffer_class is NStepReplayBuffer and self.n_steps > 1
        is_sb3s_choice = self.replay_buffer_class in (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)
        # with the n_steps and gamma of now, whatever those of a loaded model were
        if folds_steps:
            self.replay_buffer_kwargs = {**self.replay_buffer_kwargs, "n_steps": self.n_steps, "gamma": self.gamma}
        elif is_for_n_steps or (self._takes_any_buffer and is_sb3s_choice):
            self.replay_buffer_class = None  # a loaded model: SB3 chooses it again
            kept = self.replay_buffer_kwargs.items()
            self.replay_buffer_kwargs = {name: value for name, value in kept if name not in ("n_steps", "gamma")}
        self.check_values(self._settings())
        self._apply_update_period()

        if folds_steps:
            FrameReplayBuffer.check_values(self.observation_space, **self.replay_buffer_kwargs)
        # SB3 allocates the replay memory here unless there is one. A model that is loaded to play needs none:
        # the constructor and learn() allocate it.
        saved_buffer = self.replay_buffer  # with save(include=["replay_buffer"])
        self.replay_buffer = ReplayBuffer.__new__(ReplayBuffer)
        with warnings.catch_warnings():
            if folds_steps:
                warnings.filterwarnings("ignore", message=r"`n_steps=\d+` is ignored")  # for ours it is not
            super(DQN, self)._setup_model()
        self.replay_buffer = saved_buffer
        if saved_buffer is not None:
            if isinstance(saved_buffer, HerReplayBuffer) and self.env is not None:
                saved_buffer.set_env(self.env)
            try:
                self._adapt_replay_buffer()
            except ValueError as error:
                warnings.warn(f"the replay buffer in the model's file is left out: {error}", stacklevel=2)
                self.replay_buffer = None

        self._create_aliases()
        self.exploration_schedule = LinearSchedule(
            self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
        )
        self._make_learner()
        self._followed = self._get_followed()
        self.update_report = UpdateReport()
        self._pending_updates: list[tuple[int, int]] = []  # gradient steps and batch size
        self._record: BufferRecord | None = None
        self._overlapping_env: _WorkWhileStepping | None = None

        interval = self.target_update_interval
        if interval is not None and self.n_envs > interval:
            warnings.warn(
                f"target_update_interval={interval} is shorter than one step of {self.n_envs} environments: "
                f"the target network is copied every {self.n_envs} agent steps",
                stacklevel=2,
            )

    def _settings(self) -> dict[str, Any]:
        """
        :return: arguments of the constructor by name, as they are now, and other attributes
        """
        settings = vars(self).copy()
        if self.update_period is not None:  # which the two stand for then
            del settings["train_freq"], settings["gradient_steps"]
        return settings

    def _apply_update_period(self) -> None:
        if self.update_period is not None:
            self.train_freq = max(self.update_period // self.n_envs, 1)
            self.gradient_steps = max(self.n_envs // self.update_period, 1)

    def _get_followed(self) -> dict[str, Any]:
        """
        :return: the attributes that ``_follow`` compares, as they are now
        """
        names = ("target_update_interval", "update_period", "n_steps", "gamma", "clip_rewards", "replay_buffer")
        return {name: getattr(self, name) for name in names}

    def _follow(self) -> None:
        """
        Put attributes into effect that a user has replaced and that are not looked up whenever they are needed.

        :raises ValueError: for a value that is not allowed, or that does not go with the rest
        """
        if isinstance(self.replay_buffer, HerReplayBuffer) and self.replay_buffer.env is None and self.env is not None:
            self.replay_buffer.set_env(self.env)  # which it is pickled without
        now = self._get_followed()
        replaced = {name for name, value in now.items() if value is not self._followed[name]}
        has_target_network = self.target_update_interval is not None
        if "target_update_interval" not in replaced and not has_target_network and self.q_net_target is not self.q_net:
            raise ValueError(
                "q_net_target is not q_net, but target_update_interval=None means that there is one network: set q_net alone, "
                "or target_update_interval"
            )
        if not replaced:
            return
        if {"n_steps", "gamma"} & replaced & self.replay_buffer_kwargs.keys():
            self.replay_buffer_kwargs = {**self.replay_buffer_kwargs, "n_steps": self.n_steps, "gamma": self.gamma}
        self.check_values(self._settings())
        if self.replay_buffer is not None:
            if {"n_steps", "gamma"} & replaced:
                self._adapt_replay_buffer()
            set_reward_clipping(self.replay_buffer, self.clip_rewards)
        if "update_period" in replaced:
            self._apply_update_period()
            self._convert_train_freq()
        if has_target_network and self.q_net_target is self.q_net:
            self.q_net_target = copy.deepcopy(self.q_net).train(False)
        elif not has_target_network:
            self.q_net_target = self.q_net
        self._followed = now

    @staticmethod
    def _resolve_loss(settings: Mapping[str, Any], distribution: str | None, has_priorities: bool) -> Loss:
        """
        :param settings: arguments of the constructor by name, those that are given
        :param distribution: what the network gives
        :param has_priorities: whether the replay buffer takes priorities
        :return: the loss
        """
        return TDLoss(
            make_objective(settings.get("loss"), settings.get("huber_delta", 1.0), distribution, has_priorities),
            make_backup(
                settings.get("double_q", False),
                settings.get("munchausen", False),
                settings.get("munchausen_kwargs"),
                distribution,
            ),
        )

    def _make_loss(self) -> Loss:
        return self._resolve_loss(vars(self), getattr(self.q_net, "distribution_name", None), self._has_priorities())

    def _has_priorities(self) -> bool:
        if self.replay_buffer is None:  # not allocated yet
            return self.replay_buffer_kwargs.get("priority_exponent") is not None
        return getattr(self.replay_buffer, "priority_exponent", None) is not None

    def _get_learner_parts(self) -> list[Any]:
        names = ("loss", "huber_delta", "double_q", "munchausen", "munchausen_kwargs")
        return [*super()._get_learner_parts(), self._has_priorities(), *(getattr(self, name) for name in names)]

    def _make_learner(self) -> None:
        if self._learner_parts:  # something was replaced
            self.check_values(self._settings())
        super()._make_learner()
        self._sample_batches = sample_one_by_one if type(self._learner) is Learner else sample_together

    def _create_aliases(self) -> None:
        if self.target_update_interval is None:
            self.policy.q_net_target = self.policy.q_net
        super()._create_aliases()

    def _allocate_replay_buffer(self) -> None:
        assert self.replay_buffer_class is not None
        kwargs = dict(self.replay_buffer_kwargs)
        if issubclass(self.replay_buffer_class, HerReplayBuffer):
            kwargs["env"] = self.env
        self.replay_buffer = self.replay_buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            **kwargs,
        )
        set_reward_clipping(self.replay_buffer, self.clip_rewards)

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save the model as Stable-Baselines3 does.

        :param path: file to write
        :param exclude: attributes to leave out besides those that are anyway
        :param include: attributes to save that are left out otherwise, such as ``"replay_buffer"``, whose rewards are raw
        """
        with self._raw_rewards():
            super().save(path, exclude, include)

    @contextlib.contextmanager
    def _raw_rewards(self) -> Iterator[None]:
        """A context in which the replay buffer can be saved for any algorithm to load."""
        if self.replay_buffer is None:
            yield
            return
        set_reward_clipping(self.replay_buffer, False)
        try:
            yield
        finally:
            set_reward_clipping(self.replay_buffer, self.clip_rewards)

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """
        Save the replay memory as Stable-Baselines3 does, for any algorithm to load: its rewards are raw.

        :param path: file to write
        """
        assert self.replay_buffer is not None, "The replay buffer is not defined"
        with self._raw_rewards():
            super().save_replay_buffer(path)

    def set_parameters(
        self,
        load_path_or_dict: str | pathlib.Path | io.BufferedIOBase | dict[str, Any],
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """
        Load parameters as Stable-Baselines3 does. Without a target network, a saved one is not looked at.

        :param load_path_or_dict: file written by ``save``, or what ``get_parameters`` returned
        :param exact_match: whether all parameters must be there
        :param device: where to put them
        """
        if isinstance(load_path_or_dict, dict):
            parameters = load_path_or_dict
        else:
            parameters = load_from_zip_file(load_path_or_dict, device=device, load_data=False)[1]
        if self.target_update_interval is None and "policy" in parameters:
            online = {key: value for key, value in parameters["policy"].items() if key.startswith("q_net.")}
            target = {key.replace("q_net.", "q_net_target.", 1): value for key, value in online.items()}
            parameters = {**parameters, "policy": {**parameters["policy"], **target}}
        super().set_parameters(parameters, exact_match, device)

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load a replay memory as Stable-Baselines3 does; rewards are clipped, steps folded and transitions drawn as this model
        has it, not as the saver had. Priorities are kept if they were made with the same exponents.

        :param path: file written by ``save_replay_buffer``
        :param truncate_last_traj: whether the games in it were left: what is played next does not follow
        :raises ValueError: if it is no memory, one of other observations, actions or environments, or of a class that cannot
            do what this model asks for; the model keeps the memory it has
        """
        before = self.replay_buffer
        try:
            super().load_replay_buffer(path, truncate_last_traj)
            self._adapt_replay_buffer()
        except BaseException as error:
            found, self.replay_buffer = self.replay_buffer, before
            if isinstance(error, AssertionError):  # SB3's
                is_memory = isinstance(found, ReplayBuffer)
                of_another_kind = f"{str(path)!r} does not hold a replay memory of Stable-Baselines3's kind"
                raise ValueError(str(error) if is_memory else of_another_kind) from error
            raise
        if truncate_last_traj and self._last_obs is not None:  # if not, learn() does so
            self._cut_memory()

    def _cut_memory(self) -> None:
        if isinstance(self.replay_buffer, HerReplayBuffer):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it says what is wanted here
                self.replay_buffer.truncate_last_trajectory()
            return
        with contextlib.suppress(ValueError):  # a buffer of somebody else's
            self.memory().cut()

    def _adapt_replay_buffer(self) -> None:
        """
        :raises ValueError: see ``load_replay_buffer``
        """
        replay_buffer, kwargs = self.replay_buffer, self.replay_buffer_kwargs
        assert replay_buffer is not None
        for what, found, needed in (
            ("environments", replay_buffer.n_envs, self.n_envs),
            ("observations", replay_buffer.observation_space, self.observation_space),
            ("actions", replay_buffer.action_space, self.action_space),
        ):
            if found != needed:
                raise ValueError(f"the replay memory is of other {what} than this model: {found}, not {needed}")
        replay_buffer.device = self.device
        exponents = kwargs.get("priority_exponent"), kwargs.get("importance_exponent")
        if isinstance(replay_buffer, FrameReplayBuffer):
            replay_buffer.adapt(self.device, self.n_steps, self.gamma, *exponents)
        elif exponents[0] is not None:
            raise ValueError(f"priority_exponent={exponents[0]} needs a FrameReplayBuffer, not {type(replay_buffer).__name__}")
        elif isinstance(replay_buffer, NStepReplayBuffer):
            replay_buffer.n_steps, replay_buffer.gamma = kwargs.get("n_steps", self.n_steps), kwargs.get("gamma", self.gamma)
        elif self.n_steps > 1 and type(replay_buffer) in (ReplayBuffer, DictReplayBuffer):
            raise ValueError(
                f"n_steps={self.n_steps} needs an NStepReplayBuffer or FrameReplayBuffer, not {type(replay_buffer).__name__}"
            )
        set_reward_clipping(replay_buffer, self.clip_rewards)

    def memory(self) -> BufferRecord:
        """
        :return: the replay memory, the same object as long as it is the same memory
        :raises ValueError: for a buffer of which it is not known what it holds
        """
        assert self.replay_buffer is not None
        record = self._record
        if record is None or not record.is_of(self.replay_buffer):
            self._record = record = BufferRecord(self.replay_buffer)
        return record

    def start_with_an_empty_buffer(self) -> None:
        self._pending_updates.clear()
        self._allocate_replay_buffer()  # ``learn`` fills it before it updates

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "update_report": self.update_report.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        self._pending_updates = [(gradient_steps, batch_size) for gradient_steps, batch_size in self._pending_updates]
        self.update_report.set_state(state["update_report"], self.device)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.replay_buffer is None and self.env is not None:
            self._allocate_replay_buffer()
        assert self.replay_buffer is not None
        if self.replay_buffer.size() and (reset_num_timesteps or self._last_obs is None):
            self._cut_memory()  # new games begin
        if reset_num_timesteps:
            self._learning_restarts = 0
        elif self.replay_buffer.size() == 0 and self.num_timesteps:
            self._learning_restarts = self.num_timesteps + self.learning_starts
        self._follow()
        total_timesteps, callback = super()._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if reset_num_timesteps or not self._exploration_timesteps:
            self._exploration_timesteps = total_timesteps
        learns_from = max(self.learning_starts, self._learning_restarts)
        if total_timesteps <= learns_from:
            warnings.warn(
                f"training ends at step {total_timesteps}, before it learns: with learning_starts={self.learning_starts}, "
                f"updates begin behind step {learns_from}",
                stacklevel=2,
            )
        return total_timesteps, callback

    def _on_step(self) -> None:
        """Copy to the target network and lower the exploration rate when it is time; after each step of all environments."""
        self._n_calls += 1
        interval = self.target_update_interval
        if interval is not None and self._n_calls % max(interval // self.n_envs, 1) == 0:
            polyak_update(self.q_net.parameters(), self.q_net_target.parameters(), self.tau)
            # statistics of batch normalisation and vectors of spectral normalisation are no weights to be averaged; counters
            # of batches are left, as in SB3
            target_buffers = dict(self.q_net_target.named_buffers())
            for name, buffer in self.q_net.named_buffers():
                target_buffer = target_buffers.get(name)
                if target_buffer is not None and target_buffer.shape == buffer.shape and buffer.is_floating_point():
                    target_buffer.copy_(buffer)
            self.learner.refresh()
        # as in SB3, but for a model that goes on: that does not stretch its exploration
        self.exploration_rate = self.exploration_schedule(1.0 - float(self.num_timesteps) / float(self._exploration_timesteps))
        if isinstance(self.replay_buffer, FrameReplayBuffer):
            self.replay_buffer.set_progress(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def learn(
        self: SelfCustomDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "CustomDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfCustomDQN:
        """
        Learn as Stable-Baselines3 does; updates that are still due at the end are made.

        :param total_timesteps: agent steps of all environments together
        :param callback: called at each step
        :param log_interval: episodes between two lines of the log
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: whether to count from zero. If not, exploration goes on as it was planned by the first
            call; other schedules follow the new end; a memory that was not kept is filled with ``learning_starts`` steps
            again, played by the network, before updates go on.
        :param progress_bar: whether to show one
        :return: the model
        """
        self._is_learning = True
        try:
            super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
            self.make_pending_updates()
        finally:
            self._is_learning = False
        return self

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> RolloutReturn:
        """
        Play as Stable-Baselines3 does; with ``overlap``, learn while the environments step. A step at which the callback ends
        the training is kept, which Stable-Baselines3 loses.

        :param env: the environments
        :param callback: called at each step
        :param args: see ``stable_baselines3.common.off_policy_algorithm.OffPolicyAlgorithm``, like ``kwargs``
        :param kwargs: see there
        :return: how much was collected
        """
        self.at_rest()
        if self.overlap:
            if self._overlapping_env is None or self._overlapping_env.venv is not env:
                self._overlapping_env = _WorkWhileStepping(env, self.make_pending_updates)
            env = self._overlapping_env
        try:
            rollout = super().collect_rollouts(env, callback, *args, **kwargs)
        except BaseException:
            self._last_obs = None  # the environments may be a step ahead: if learning goes on, new games begin
            raise
        if not rollout.continue_training:
            self._keep_step(callback.locals)
        return rollout

    def _keep_step(self, step: Mapping[str, Any]) -> None:
        """
        :param step: variables of Stable-Baselines3's loop, which does this with them behind the callback
        """
        self._update_info_buffer(step["infos"], step["dones"])
        parts = ("replay_buffer", "buffer_actions", "new_obs", "rewards", "dones", "infos")
        self._store_transition(*(step[name] for name in parts))
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._on_step()
        for _ in range(int(np.sum(step["dones"]))):
            self._episode_num += 1
            if step["log_interval"] is not None and self._episode_num % step["log_interval"] == 0:
                self.dump_logs()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """
        Update the network from the replay buffer. Within ``learn`` and with ``overlap``, the updates are made while the
        environments take their next step.

        :param gradient_steps: how many updates
        :param batch_size: transitions in each
        """
        if self._is_learning and 0 < self.num_timesteps <= self._learning_restarts:
            return
        self._pending_updates.append((gradient_steps, batch_size))
        if not self._is_learning:
            self.make_pending_updates()
            if hasattr(self, "_logger"):  # which ``set_logger`` and ``learn`` give
                self._record_updates()
        elif not self.overlap:
            self.make_pending_updates()

    def make_pending_updates(self) -> None:
        """Make the updates that ``train`` has left for the environments' next step; with ``overlap``, that is all of them."""
        if not self._pending_updates:
            return
        self._follow()
        learner = self.learner
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        for gradient_steps, batch_size in self._pending_updates:
            env = self._vec_normalize_env
            for batch, report_priorities in self._sample_batches(
                self.replay_buffer, gradient_steps, batch_size, self.gamma, env
            ):
                update = learner.update(batch)
                self.update_report.add(update.report)
                report_priorities(update.priorities)
            self._n_updates += gradient_steps
        self._pending_updates.clear()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def dump_logs(self) -> None:
        """Write the logs; loss and Q-values are those of all updates since the last time."""
        self._record_updates()
        super().dump_logs()

    def _record_updates(self) -> None:
        for name, value in self.update_report.read().items():
            self.logger.record(f"train/{name}", value)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        :return: actions to explore with, int64 (n_envs,), for the environment and for the replay memory
        """
        assert self._last_obs is not None
        if self.num_timesteps < learning_starts:
            actions = np.array([self.action_space.sample() for _ in range(n_envs)])
        else:
            actions = self._epsilon_greedy(self._last_obs, self.exploration_rate, self._greedy_actions)
        return actions, actions

    def _greedy_actions(self, observations: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
        """
        :param observations: a batch of them
        :return: actions of the network that learns, int64 (batch,)
        """
        return self.learner.q_values(self.policy.obs_to_tensor(observations)[0]).argmax(dim=1).cpu().numpy()

    @classmethod
    def _changes_on_load(cls, changes: dict[str, Any]) -> dict[str, Any]:
        if isinstance(changes.get("replay_buffer_class"), str):
            changes = {**changes, "replay_buffer_class": resolve_replay_buffer(changes["replay_buffer_class"])}
        if changes.keys() & {"train_freq", "gradient_steps"}:
            return {"update_period": None, **changes}
        return changes

    def _take_changes(self, changes: Mapping[str, Any]) -> None:
        super()._take_changes(changes)
        given = changes.get("replay_buffer_kwargs") or {}
        for name in given.keys() & {"n_steps", "gamma"}:
            if self.replay_buffer_kwargs.get(name) != given[name]:
                raise ValueError(f"replay_buffer_kwargs: {name}={given[name]!r} has no effect there: give {name} itself")
        if "exploration_fraction" in changes and self.exploration_initial_eps == self.exploration_final_eps == 0:
            raise ValueError(
                f"exploration_fraction={changes['exploration_fraction']!r} has no effect: exploration_initial_eps and "
                "exploration_final_eps are 0"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_overlapping_env": None, "_record": None, "_is_learning": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(self.replay_buffer, FrameReplayBuffer) and isinstance(self.replay_buffer.frames, DeviceFrames):
            self.replay_buffer.frames.to(self.device)  # they are pickled in main memory

    def _excluded_save_params(self) -> list[str]:
        ours = ["update_report", "_sample_batches", "_pending_updates", "_overlapping_env", "_record"]
        ours += ["_followed", "_is_learning"]
        return [*super()._excluded_save_params(), *ours]
