"""Batches from SB3's buffers, and clipping before rewards are folded."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from sb3_atari_dqn.replay.buffer import Batch, sample_batch, set_reward_clipping

VECTOR, ACTION = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Discrete(2)


def fill(buffer: ReplayBuffer, rewards: list[float], terminals: list[bool], timeouts: list[bool]) -> None:
    for step, (reward, terminal, timeout) in enumerate(zip(rewards, terminals, timeouts, strict=True)):
        now, then = np.array([[step]], dtype=np.float32), np.array([[step + 1]], dtype=np.float32)
        done, info = np.array([terminal or timeout]), [{"TimeLimit.truncated": timeout}]
        buffer.add(now, then, np.array([[0]]), np.array([reward]), done, info)


def index_by_state(batch: Batch) -> dict[float, int]:
    assert isinstance(batch.observations, th.Tensor)
    return {state.item(): index for index, state in enumerate(batch.observations)}


def test_discounts_carry_terminals_and_not_timeouts() -> None:
    buffer = ReplayBuffer(3, VECTOR, ACTION, "cpu")
    fill(buffer, [5.0, -7.0, 0.5], [False, True, False], [False, False, True])
    batch = sample_batch(buffer, 64, gamma=0.9).batch
    by_state = index_by_state(batch)
    assert len(by_state) == 3
    for state, reward, discount in ((0.0, 5.0, 0.9), (1.0, -7.0, 0.0), (2.0, 0.5, 0.9)):
        assert batch.rewards[by_state[state]].item() == reward
        assert batch.discounts[by_state[state]].item() == pytest.approx(discount)
        assert isinstance(batch.next_observations, th.Tensor)
        assert batch.next_observations[by_state[state]].item() == state + 1
    assert batch.actions.dtype.is_floating_point is False


def test_clips_each_reward_before_n_steps_are_folded() -> None:
    buffer = NStepReplayBuffer(4, VECTOR, ACTION, "cpu", n_steps=3, gamma=0.5)
    fill(buffer, [10.0, -4.0, 0.0, 8.0], [False, False, False, True], [False] * 4)
    set_reward_clipping(buffer, True)
    batch = sample_batch(buffer, 64, gamma=0.5).batch
    by_state = index_by_state(batch)
    # 1 - 0.5 + 0; -1 + 0 + 0.25, up to the end
    assert batch.rewards[by_state[0.0]].item() == pytest.approx(0.5)
    assert batch.rewards[by_state[1.0]].item() == pytest.approx(-0.75)
    assert batch.discounts[by_state[0.0]].item() == pytest.approx(0.125)
    assert batch.discounts[by_state[1.0]].item() == 0.0
    assert buffer.rewards.ravel().tolist() == [10.0, -4.0, 0.0, 8.0]
    set_reward_clipping(buffer, False)
    raw = sample_batch(buffer, 64, gamma=0.5).batch
    by_state = index_by_state(raw)
    assert raw.rewards[by_state[0.0]].item() == pytest.approx(8.0)


@pytest.mark.parametrize("method", ["sample", "_get_samples"])
def test_refuses_a_buffer_that_would_ignore_clipping(method: str) -> None:
    class Own(ReplayBuffer):
        pass

    setattr(Own, method, lambda self, *args, **kwargs: None)

    buffer = Own(3, VECTOR, ACTION, "cpu")
    set_reward_clipping(buffer, False)
    with pytest.raises(ValueError, match="clip_rewards=True has no effect on Own"):
        set_reward_clipping(buffer, True)
