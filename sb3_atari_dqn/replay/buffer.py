"""From Stable-Baselines3's replay buffers to the batches that are learnt from.

A buffer keeps raw rewards; they are clipped when they are read, before n steps are folded. Terminal states, time-outs
and n-step returns become one number here, ``discounts = gamma**k * (1 - terminal)``: nothing above handles flags.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples, TensorDict
from stable_baselines3.common.vec_env import VecNormalize

from sb3_atari_dqn.checks import check_number, check_switch, check_whole_number
from sb3_atari_dqn.replay.device_frames import DeviceFrames
from sb3_atari_dqn.replay.frames import (
    BLACK,
    COMPRESSIONS,
    Frames,
    as_pixels,
    available_memory,
    bytes_of_frame,
    make_frames,
)
from sb3_atari_dqn.replay.n_step import fold
from sb3_atari_dqn.replay.samplers import Draw, make_sampler

#: bytes of a transition besides its frames: their ids, action, reward, end and time-out
_BYTES_BESIDE_FRAMES = 52

#: batches that are drawn in one go at most
_DRAWN_TOGETHER = 8


class Batch(NamedTuple):
    """
    Transitions to learn from, as tensors on the learner's device.

    :param observations: states as the environment gives them, (batch, *observation)
    :param actions: what was done there, int64 (batch, 1)
    :param rewards: what was earned on the way to the next state, clipped and folded as asked for, float (batch, 1)
    :param discounts: weight of the next state's value, float (batch, 1)
    :param next_observations: states one step (or n) later, (batch, *observation)
    :param weights: of the transitions in the loss, float (batch, 1); 1 where all are drawn with equal probability
    """

    observations: th.Tensor | TensorDict
    actions: th.Tensor
    rewards: th.Tensor
    discounts: th.Tensor
    next_observations: th.Tensor | TensorDict
    weights: th.Tensor


class Drawn(NamedTuple):
    """
    A batch, and where it came from.

    :param batch: to learn from
    :param report_priorities: takes what was to be learnt from each transition, float (batch,), on the learner's device
    """

    batch: Batch
    report_priorities: Callable[[th.Tensor], None]


def _forget_priorities(priorities: th.Tensor) -> None:
    """What buffers do that draw all transitions with equal probability."""


def sample_batch(replay_buffer: ReplayBuffer, batch_size: int, gamma: float, env: VecNormalize | None = None) -> Drawn:
    """
    :param replay_buffer: where transitions are drawn from
    :param batch_size: how many
    :param gamma: discount factor of one step; n-step buffers bring their own discounts
    :param env: normalises observations and rewards, if given
    :return: a batch
    """
    report_priorities = _forget_priorities
    if isinstance(replay_buffer, FrameReplayBuffer) and not replay_buffer.samples_in_its_own_way():
        draw = replay_buffer.draw(batch_size)
        samples = replay_buffer.read(draw, env)
        weights = th.as_tensor(draw.weights, device=replay_buffer.device).unsqueeze(1)
        report_priorities = functools.partial(replay_buffer.report_priorities, draw)
    else:
        samples = replay_buffer.sample(batch_size, env=env)
        weights = th.ones_like(samples.rewards)
    discounts = gamma if samples.discounts is None else samples.discounts
    batch = Batch(
        samples.observations,
        samples.actions.long(),
        samples.rewards,
        (1 - samples.dones) * discounts,
        samples.next_observations,
        weights,
    )
    return Drawn(batch, report_priorities)


def sample_one_by_one(
    replay_buffer: ReplayBuffer, n_batches: int, batch_size: int, gamma: float, env: VecNormalize | None = None
) -> Iterator[Drawn]:
    """
    Batches drawn when they are asked for, as Stable-Baselines3 draws them.

    :param replay_buffer: see ``sample_batch``, like those that follow
    :param n_batches: how many batches
    :param batch_size: transitions in each
    :param gamma: see there
    :param env: see there
    :return: the batches
    """
    for _ in range(n_batches):
        yield sample_batch(replay_buffer, batch_size, gamma, env)


def sample_together(
    replay_buffer: ReplayBuffer, n_batches: int, batch_size: int, gamma: float, env: VecNormalize | None = None
) -> Iterator[Drawn]:
    """
    The same, some of them in one go, which costs less for each.

    :param replay_buffer: see ``sample_batch``, like those that follow; observations are one array
    :param n_batches: how many batches
    :param batch_size: transitions in each
    :param gamma: see there
    :param env: see there
    :return: the batches
    """
    for first in range(0, n_batches, _DRAWN_TOGETHER):
        n_together = min(_DRAWN_TOGETHER, n_batches - first)
        together, report_priorities = sample_batch(replay_buffer, n_together * batch_size, gamma, env)
        parts = []
        for tensor in together:
            assert isinstance(tensor, th.Tensor)
            parts.append(tensor.split(batch_size))
        reported: list[th.Tensor] = []
        for tensors in zip(*parts, strict=True):
            yield Drawn(Batch(*tensors), reported.append)
        if len(reported) == n_together:
            report_priorities(th.cat(reported))


def sign_rewards(rewards: np.ndarray, env: VecNormalize | None = None) -> np.ndarray:
    """
    Stands in for a buffer's ``_normalize_reward``, through which it reads every reward: the sign of what that gives.

    :param rewards: as they were stored, float, any shape
    :param env: normalises rewards, if given
    :return: -1, 0 or 1, same dtype and shape
    """
    return np.sign(BaseBuffer._normalize_reward(rewards, env))


def set_reward_clipping(replay_buffer: ReplayBuffer, clip: bool) -> None:
    """
    Make a buffer give the sign of each reward, or the raw reward again; what it stores stays raw.

    :param replay_buffer: one of Stable-Baselines3's, or one that samples as they do
    :param clip: whether to clip
    :raises ValueError: if clipping is asked of a buffer that reads rewards in a way of its own
    """
    overrides: dict[str, Any] = vars(replay_buffer)
    overrides.pop("_normalize_reward", None)
    if not clip:
        return
    buffer_class = type(replay_buffer)
    readers = [next(base for base in buffer_class.__mro__ if method in vars(base)) for method in ("sample", "_get_samples")]
    if any(reader.__module__.partition(".")[0] not in ("stable_baselines3", "sb3_atari_dqn") for reader in readers):
        raise ValueError(
            f"clip_rewards=True has no effect on {buffer_class.__name__}, which does not read rewards as "
            "Stable-Baselines3's buffers do; clip in the environment (ClipRewardEnv) or use another replay_buffer_class"
        )
    overrides["_normalize_reward"] = sign_rewards


class FrameReplayBuffer(ReplayBuffer):
    """
    Stable-Baselines3's replay buffer with each frame stored once, where SB3 stores each about eight times.

    An observation of ``n_stack`` frames is kept as the numbers of its frames. Frames are recognised by their pixels, not by
    flags: a stack that goes on from the one before brings one new frame; one that starts an episode brings its own, black or
    repeated as the environment made it. So what is sampled is what was added, byte for byte, for any observations.
    With the same random numbers it samples what ``ReplayBuffer`` does, and with ``n_steps`` what ``NStepReplayBuffer`` does.

    :param buffer_size: transitions of all environments together
    :param observation_space: images, uint8 (channels, height, width)
    :param action_space: see ``stable_baselines3.common.buffers.ReplayBuffer``
    :param device: where samples go. On a GPU, uncompressed frames live there too.
    :param n_envs: number of environments
    :param optimize_memory_usage: must be ``False``: that is SB3's way to store less
    :param handle_timeout_termination: whether a time-out (``infos[i]["TimeLimit.truncated"]``) is bootstrapped from
    :param n_stack: frames in an observation, oldest first along the channels: 4 for ``VecFrameStack``, 1 for observations
        that are not stacked, as the motion tracer's
    :param compression: ``"lz4"`` (a million transitions in 0.2 to 0.5 GB), ``"zstd"`` (smaller and slower) or ``None``
    :param n_steps: rewards to add up before bootstrapping, at least 1
    :param gamma: discount factor of one step, for ``n_steps`` above 1
    :param priority_exponent: how much more often transitions are drawn from which more is to be learnt, at least 0 (Schaul et
        al. 2016, https://arxiv.org/abs/1511.05952: 0.6); ``None`` to draw all with equal probability
    :param importance_exponent: how far the loss makes up for that, in [0, 1]: the value at the beginning, which goes linearly
        to 1 until the end of training; 0.4 if ``None``
    :raises ValueError: for observations that it cannot serve, or a value that is not allowed
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_stack: int = 4,
        compression: str | None = "lz4",
        n_steps: int = 1,
        gamma: float = 0.99,
        priority_exponent: float | None = None,
        importance_exponent: float | None = None,
    ) -> None:
        self.check_values(
            observation_space,
            n_stack,
            compression,
            n_steps,
            gamma,
            handle_timeout_termination,
            optimize_memory_usage,
            priority_exponent,
            importance_exponent,
        )
        if priority_exponent is not None and self.samples_in_its_own_way():
            raise ValueError(
                f"priority_exponent={priority_exponent!r} does not go with {type(self).__name__}, whose own sample or "
                "_get_samples knows no priorities: change what is read in read(draw, env) instead"
            )
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.n_stack = n_stack
        self.compression = compression
        self.n_steps = n_steps
        self.gamma = gamma
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent

        self._n_pixels = int(np.prod(self.obs_shape)) // n_stack
        self._warn_if_too_large()
        # frames of observation and next observation; zeros take memory when they are first written to
        self._frame_ids = np.zeros((self.buffer_size, n_envs, 2, n_stack), dtype=np.int32)
        self.actions = np.zeros((self.buffer_size, n_envs, self.action_dim), dtype=self._maybe_cast_dtype(action_space.dtype))
        self.rewards = np.zeros((self.buffer_size, n_envs), dtype=np.float32)
        self.dones = np.zeros((self.buffer_size, n_envs), dtype=np.float32)
        self.timeouts = np.zeros((self.buffer_size, n_envs), dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget all transitions."""
        super().reset()
        self.sampler = make_sampler(self.buffer_size, self.n_envs, self.priority_exponent, self.importance_exponent)
        self._reported: list[tuple[Draw, th.Tensor]] = []  # priorities that the sampler does not know yet
        self.frames: Frames
        if self.compression is None and self.device.type != "cpu":
            n_frames = self.buffer_size * self.n_envs
            self.frames = DeviceFrames(self._n_pixels, n_frames + n_frames // 16, self.device)
        else:
            self.frames = make_frames(self._n_pixels, self.n_envs, self.compression)
        # the next observations of the last transitions, to recognise them when they come back as observations
        self._last_stacks = np.zeros((self.n_envs, self.n_stack, self._n_pixels), dtype=np.uint8)
        self._last_ids = np.full((self.n_envs, self.n_stack), BLACK, dtype=np.int32)

    @staticmethod
    def check_values(
        observation_space: spaces.Space[Any] | None = None,
        n_stack: int = 4,
        compression: str | None = "lz4",
        n_steps: int = 1,
        gamma: float = 0.99,
        handle_timeout_termination: bool = True,
        optimize_memory_usage: bool = False,
        priority_exponent: float | None = None,
        importance_exponent: float | None = None,
    ) -> None:
        """
        :param observation_space: see above, like the others; not looked at if ``None``
        :param n_stack: see above
        :param compression: see above
        :param n_steps: see above
        :param gamma: see above
        :param handle_timeout_termination: see above
        :param optimize_memory_usage: see above
        :param priority_exponent: see above
        :param importance_exponent: see above
        :raises ValueError: for observations that cannot be served, or a value that is not allowed
        """
        if compression not in COMPRESSIONS:
            raise ValueError(f"compression={compression!r} is not known; choose one of {', '.join(map(repr, COMPRESSIONS))}")
        check_whole_number({"n_stack": n_stack}, "n_stack", 1, "frames")
        check_whole_number({"n_steps": n_steps}, "n_steps", 1, "steps")
        check_number({"gamma": gamma}, "gamma", 0, 1)
        check_switch({"handle_timeout_termination": handle_timeout_termination}, "handle_timeout_termination")
        make_sampler(1, 1, priority_exponent, importance_exponent)
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage=True is not for FrameReplayBuffer, which stores each frame once anyway")
        if observation_space is None:
            return
        if not isinstance(observation_space, spaces.Box) or observation_space.dtype != np.uint8:
            raise ValueError(f"FrameReplayBuffer needs images, uint8 (channels, height, width), not {observation_space}")
        shape = observation_space.shape
        if len(shape) != 3 or shape[0] % n_stack:
            raise ValueError(
                f"n_stack={n_stack}: observations of shape {shape} are not (channels, height, width) with as many channels "
                "for each of the stacked frames; give replay_buffer_kwargs the environment's n_stack, 1 if it does not stack"
            )

    @classmethod
    def samples_in_its_own_way(cls) -> bool:
        """
        :return: whether this is a class of a user's whose ``sample`` or ``_get_samples`` is to be called, as for augmentation
        """
        return any(getattr(cls, name) is not getattr(FrameReplayBuffer, name) for name in ("sample", "_get_samples"))

    def _warn_if_too_large(self) -> None:
        n_transitions = self.buffer_size * self.n_envs
        n_bytes = n_transitions * (bytes_of_frame(self._n_pixels, self.compression) + _BYTES_BESIDE_FRAMES)
        if self.compression is None and self.device.type == "cuda":
            available = th.cuda.mem_get_info(self.device)[0]
        else:
            available = available_memory()
        if n_bytes > available:
            warnings.warn(
                f"A replay memory of {n_transitions} transitions takes about {n_bytes / 1e9:.2f} GB when it is full, and "
                f"{available / 1e9:.2f} GB are free: lower buffer_size"
                + ("" if self.compression else ', or set compression="lz4"'),
                stacklevel=3,
            )

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one transition of each environment.

        :param obs: observations, uint8 (n_envs, channels, height, width)
        :param next_obs: observations one step later, terminal ones where an episode ended, same shape
        :param action: actions, (n_envs, ...)
        :param reward: raw rewards (n_envs,)
        :param done: whether an episode ended with the step (n_envs,)
        :param infos: of each environment
        :raises ValueError: for observations of another shape, or with values that are not those of uint8
        """
        self._hand_on_priorities()
        shape = self.n_envs, *self.obs_shape
        stacks = as_pixels(obs, shape, "obs").reshape(self._last_stacks.shape)
        next_stacks = as_pixels(next_obs, shape, "next_obs").reshape(self._last_stacks.shape)
        forgotten = self._frame_ids[self.pos].tolist() if self.full else []
        ids = self._frame_ids[self.pos]

        ids[:, 0] = self._last_ids
        for env_index in _where_different(stacks, self._last_stacks):
            ids[env_index, 0] = self._add_stack(
                stacks[env_index], env_index, self._last_stacks[env_index, -1], self._last_ids[env_index, -1]
            )
        ids[:, 1, :-1] = ids[:, 0, 1:]
        ids[:, 1, -1] = self.frames.add(next_stacks[:, -1], list(range(self.n_envs)))
        if self.n_stack > 1:
            for env_index in _where_different(stacks[:, 1:], next_stacks[:, :-1]):
                self.frames.free([int(ids[env_index, 1, -1])])
                ids[env_index, 1] = self._add_stack(
                    next_stacks[env_index], env_index, stacks[env_index, -1], ids[env_index, 0, -1]
                )
        self._last_ids[:] = ids[:, 1]
        self._last_stacks[:] = next_stacks

        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        if self.handle_timeout_termination:
            self.timeouts[self.pos] = [info.get("TimeLimit.truncated", False) for info in infos]
        self.sampler.add(np.array([self.pos]))
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

        # An environment's frames come and go in one order: what its oldest transition left does not need is not needed
        for old, oldest in zip(forgotten, self._frame_ids[self.pos].tolist(), strict=False):
            self.frames.free(list({*old[0], *old[1]} - {*oldest[0], *oldest[1], BLACK}))

    def get_state(self) -> dict[str, Any]:
        """
        :return: all that changes besides the rows and what ``frames.read_stored`` gives
        """
        self._hand_on_priorities()
        return {
            "frames": self.frames.get_state(),
            "sampler": self.sampler.get_state(),
            "last_stacks": self._last_stacks.copy(),
            "last_ids": self._last_ids.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what ``get_state`` gave
        """
        self._reported.clear()
        self.frames.set_state(state["frames"])
        self.sampler.set_state(state["sampler"])
        self._last_stacks[:] = state["last_stacks"]
        self._last_ids[:] = state["last_ids"]

    def adapt(
        self,
        device: th.device,
        n_steps: int,
        gamma: float,
        priority_exponent: float | None,
        importance_exponent: float | None,
    ) -> None:
        """
        Go on in another model, after loading. Priorities are kept if they were made with the same exponents.

        :param device: where samples go
        :param n_steps: rewards to add up before bootstrapping
        :param gamma: discount factor of one step
        :param priority_exponent: see the constructor
        :param importance_exponent: see there
        """
        self.device, self.n_steps, self.gamma = device, n_steps, gamma
        if (priority_exponent, importance_exponent) != (self.priority_exponent, self.importance_exponent):
            self.priority_exponent, self.importance_exponent = priority_exponent, importance_exponent
            self.sampler = make_sampler(self.buffer_size, self.n_envs, priority_exponent, importance_exponent)
            self.sampler.add(np.arange(self.size()))
            self._reported.clear()
        if isinstance(self.frames, DeviceFrames):
            self.frames.to(device)

    def _add_stack(self, stack: np.ndarray, env_index: int, newest: np.ndarray, newest_id: int) -> list[int]:
        """
        :param stack: frames that do not go on from the last ones, uint8 (n_stack, n_pixels)
        :param env_index: environment they come from
        :param newest: frame that the environment showed last, uint8 (n_pixels,): after a lost life it may be shown again
        :param newest_id: its id
        :return: ids of the frames
        """
        ids: list[int] = []
        for index, frame in enumerate(stack):
            if not frame.any():
                ids.append(BLACK)
            elif index and np.array_equal(frame, stack[index - 1]):
                ids.append(ids[-1])
            elif np.array_equal(frame, newest):
                ids.append(int(newest_id))
            else:
                ids += self.frames.add(frame[None], [env_index])
        return ids

    def set_progress(self, progress_remaining: float) -> None:
        """
        :param progress_remaining: share of the training that is left, from 1 to 0
        """
        self.sampler.set_progress(progress_remaining)

    def draw(self, batch_size: int) -> Draw:
        """
        :param batch_size: how many transitions
        :return: which ones
        """
        if self.device.type == "cpu":  # elsewhere they would have to be waited for: they are, when a transition is added
            self._hand_on_priorities()
        return self.sampler.draw(batch_size, self.size())

    def report_priorities(self, draw: Draw, priorities: th.Tensor) -> None:
        """
        :param draw: transitions that were learnt from
        :param priorities: how much was to be learnt from each, float (n,), at least 0; waited for when they are needed
        """
        if self.priority_exponent is not None:
            self._reported.append((draw, priorities))

    def __getstate__(self) -> dict[str, Any]:
        self._hand_on_priorities()  # which may be on a GPU
        return vars(self)

    def _hand_on_priorities(self) -> None:
        reported, self._reported = self._reported, []
        for draw, priorities in reported:
            self.sampler.set_priorities(draw, priorities.cpu().numpy())

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """
        Draw as Stable-Baselines3's own algorithms do, which have no weights and report no priorities; warns if there are any.
        ``_get_samples`` reads what was drawn, as in Stable-Baselines3.

        :param batch_size: how many transitions
        :param env: normalises observations and rewards, if given
        :return: the transitions
        """
        if self.priority_exponent is not None:
            warnings.warn(
                f"priority_exponent={self.priority_exponent} has no effect with an algorithm that does not report priorities, "
                "as CustomDQN does",
                stacklevel=2,
            )
            return self.read(self.draw(batch_size), env)
        return super().sample(batch_size, env)

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        env_indices = np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))
        return self.read(Draw(batch_inds, env_indices, np.ones(len(batch_inds), dtype=np.float32)), env)

    def read(self, draw: Draw, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """
        :param draw: which transitions
        :param env: normalises observations and rewards, if given
        :return: the transitions
        """
        batch_inds, env_indices = draw.positions, draw.env_indices
        actions = self.actions[batch_inds, env_indices]
        last = batch_inds
        discounts = None
        if self.n_steps == 1:
            rewards = self._normalize_reward(self.rewards[batch_inds, env_indices].reshape(-1, 1), env)
        else:
            steps = (batch_inds[:, None] + np.arange(self.n_steps)) % self.buffer_size
            where = steps, env_indices[:, None]
            ends = (self.dones[where] != 0) | (self.timeouts[where] != 0) | (steps == (self.pos - 1) % self.buffer_size)
            folded = fold(self._normalize_reward(self.rewards[where], env), ends, self.gamma)
            rewards, discounts = folded.returns, self.to_torch(folded.discounts, copy=False)
            last = (batch_inds + folded.last) % self.buffer_size
        terminal = self.dones[last, env_indices] * (1 - self.timeouts[last, env_indices])

        ids = np.stack([self._frame_ids[batch_inds, env_indices, 0], self._frame_ids[last, env_indices, 1]])
        observations, next_observations = self.frames.read(ids.reshape(-1)).reshape(2, len(batch_inds), *self.obs_shape)
        return ReplayBufferSamples(
            observations=self._to_samples(observations, env),
            actions=self.to_torch(actions, copy=False),
            next_observations=self._to_samples(next_observations, env),
            dones=self.to_torch(terminal.reshape(-1, 1), copy=False),
            rewards=self.to_torch(rewards, copy=False),
            discounts=discounts,
        )

    def _to_samples(self, observations: np.ndarray | th.Tensor, env: VecNormalize | None) -> th.Tensor:
        """
        :param observations: uint8 (batch, channels, height, width), our own copy
        :param env: normalises observations, if given
        :return: the same on the device
        """
        if isinstance(observations, th.Tensor):
            if env is None:
                return observations
            observations = observations.cpu().numpy()
        normalized = self._normalize_obs(observations, env)
        assert isinstance(normalized, np.ndarray)
        return self.to_torch(normalized, copy=False)


def _where_different(arrays: np.ndarray, others: np.ndarray) -> list[int]:
    """
    :param arrays: uint8 (n, ...), the last axis contiguous
    :param others: same shape
    :return: indices of those of the n that differ
    """
    if arrays.shape[-1] % 8 == 0:  # eight pixels at a time
        arrays, others = arrays.view(np.uint64), others.view(np.uint64)
    return np.flatnonzero((arrays != others).reshape(len(arrays), -1).any(axis=1)).tolist()


REPLAY_BUFFERS = {"FrameReplayBuffer": FrameReplayBuffer}


def resolve_replay_buffer(replay_buffer_class: str | type[ReplayBuffer] | None) -> type[ReplayBuffer] | None:
    """
    :param replay_buffer_class: a class, or the name of one of ours
    :return: the class
    :raises ValueError: for a name that is not known
    """
    if not isinstance(replay_buffer_class, str):
        return replay_buffer_class
    if replay_buffer_class not in REPLAY_BUFFERS:
        raise ValueError(
            f"replay_buffer_class={replay_buffer_class!r} is not known; choose one of {', '.join(map(repr, REPLAY_BUFFERS))}"
        )
    return REPLAY_BUFFERS[replay_buffer_class]
