"""From Stable-Baselines3's replay buffers to the batches that are learnt from.

A buffer keeps raw rewards; they are clipped when they are read, before n steps are folded. Terminal states, time-outs
and n-step returns become one number here, ``discounts = gamma**k * (1 - terminal)``: nothing above handles flags.
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import TensorDict
from stable_baselines3.common.vec_env import VecNormalize


class Batch(NamedTuple):
    """
    Transitions to learn from, as tensors on the learner's device.

    :param observations: states as the environment gives them, (batch, *observation)
    :param actions: what was done there, int64 (batch, 1)
    :param rewards: what was earned on the way to the next state, clipped and folded as asked for, float (batch, 1)
    :param discounts: weight of the next state's value, float (batch, 1)
    :param next_observations: states one step (or n) later, (batch, *observation)
    """

    observations: th.Tensor | TensorDict
    actions: th.Tensor
    rewards: th.Tensor
    discounts: th.Tensor
    next_observations: th.Tensor | TensorDict


def sample_batch(replay_buffer: ReplayBuffer, batch_size: int, gamma: float, env: VecNormalize | None = None) -> Batch:
    """
    :param replay_buffer: where transitions are drawn from, uniformly
    :param batch_size: how many
    :param gamma: discount factor of one step; n-step buffers bring their own discounts
    :param env: normalises observations and rewards, if given
    :return: a batch
    """
    samples = replay_buffer.sample(batch_size, env=env)
    discounts = gamma if samples.discounts is None else samples.discounts
    return Batch(
        samples.observations,
        samples.actions.long(),
        samples.rewards,
        (1 - samples.dones) * discounts,
        samples.next_observations,
    )


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
    if any(reader.__module__.partition(".")[0] != "stable_baselines3" for reader in readers):
        raise ValueError(
            f"clip_rewards=True has no effect on {buffer_class.__name__}, which does not read rewards as "
            "Stable-Baselines3's buffers do; clip in the environment (ClipRewardEnv) or use another replay_buffer_class"
        )
    overrides["_normalize_reward"] = sign_rewards
