"""Draws against their analytic distribution, priorities and weights against numbers by hand."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_atari_dqn.replay.buffer import FrameReplayBuffer, sample_batch, sample_together
from sb3_atari_dqn.replay.samplers import LEAST_PRIORITY, Draw, PrioritizedSampler, UniformSampler, make_sampler

IMAGES = spaces.Box(0, 255, (2, 12, 12), np.uint8)


def filled(n_positions: int, n_envs: int, used: int | None = None, **kwargs: Any) -> PrioritizedSampler:
    sampler = PrioritizedSampler(n_positions, n_envs, **{"priority_exponent": 0.6, "importance_exponent": 0.4, **kwargs})
    for position in range(n_positions if used is None else used):
        sampler.add(np.array([position]))
    return sampler


def set_all(sampler: PrioritizedSampler, priorities: np.ndarray) -> None:
    """:param priorities: (n_positions, n_envs)"""
    positions, env_indices = np.indices(priorities.shape).reshape(2, -1)
    sampler.set_priorities(Draw(positions, env_indices, np.ones(len(positions), np.float32)), priorities.reshape(-1))


def counts(draw: Draw, shape: tuple[int, int]) -> np.ndarray:
    drawn = np.zeros(shape, dtype=np.int64)
    np.add.at(drawn, (draw.positions, draw.env_indices), 1)
    return drawn


@pytest.mark.parametrize("exponent", [0.6, 1.0, 0.0])
def test_draws_in_proportion(exponent: float) -> None:
    np.random.seed(0)
    sampler = filled(5, 3, priority_exponent=exponent)
    priorities = np.random.default_rng(1).random((5, 3)) * 4
    priorities[2, 1] = 0.0
    set_all(sampler, priorities)
    drawn = counts(sampler.draw(50_000, 5), (5, 3))
    expected = (priorities + LEAST_PRIORITY) ** exponent
    expected *= 50_000 / expected.sum()
    assert np.abs(drawn - expected).max() < 4.5 * np.sqrt(expected.max())
    assert (np.abs(drawn - expected) ** 2 / np.maximum(expected, 1)).sum() < 40  # chi-squared of 14 degrees: 36 is 0.1 %


def test_what_is_not_there_is_not_drawn() -> None:
    np.random.seed(0)
    sampler = filled(10, 2, used=3)
    draw = sampler.draw(50_000, 3)
    assert draw.positions.max() == 2
    assert set(draw.env_indices.tolist()) == {0, 1}


def test_weights_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4, 0 of 4: (4 p)**-0.5 = 0.7071, 1, 1."""
    sampler = filled(4, 1, priority_exponent=1.0, importance_exponent=0.5)
    set_all(sampler, np.array([[2.0], [1.0], [1.0], [0.0]]))
    np.random.seed(0)
    draw = sampler.draw(500, 4)
    assert set(draw.positions.tolist()) == {0, 1, 2}
    assert draw.weights[draw.positions == 0] == pytest.approx(np.sqrt(0.5), rel=1e-5)
    assert draw.weights[draw.positions != 0] == pytest.approx(1.0, rel=1e-5)
    assert draw.weights.dtype == np.float32


def test_weights_make_up_for_the_draw_when_the_exponent_has_reached_one() -> None:
    sampler = filled(6, 1, priority_exponent=1.0, importance_exponent=0.4)
    set_all(sampler, np.arange(1.0, 7.0)[:, None])
    sampler.set_progress(1.0)
    assert sampler.importance_exponent == pytest.approx(0.4)
    sampler.set_progress(0.5)
    assert sampler.importance_exponent == pytest.approx(0.7)
    sampler.set_progress(0.0)
    np.random.seed(0)
    draw = sampler.draw(50_000, 6)
    means = np.bincount(draw.positions, weights=draw.weights) / draw.weights.sum()
    assert means == pytest.approx(1 / 6, rel=0.05)


def test_new_transitions_have_the_highest_priority() -> None:
    sampler = filled(4, 2, used=2, priority_exponent=1.0)
    assert np.all(sampler.tree[np.arange(4)] == 1.0)
    sampler.set_priorities(Draw(np.array([0]), np.array([1]), np.ones(1, np.float32)), np.array([7.0]))
    sampler.add(np.array([2]))
    assert sampler.tree[np.arange(8)] == pytest.approx([1, 7, 1, 1, 7, 7, 0, 0])
    sampler.set_priorities(Draw(np.array([0]), np.array([1]), np.ones(1, np.float32)), np.array([0.5]))
    sampler.add(np.array([0]))  # the memory has come round
    assert sampler.tree[np.arange(2)] == pytest.approx([7, 7])


def test_uniform_draws_are_sb3s() -> None:
    np.random.seed(5)
    draw = UniformSampler(3).draw(40, 17)
    np.random.seed(5)
    assert np.array_equal(draw.positions, np.random.randint(0, 17, size=40))
    assert np.array_equal(draw.env_indices, np.random.randint(0, high=3, size=(40,)))
    assert np.all(draw.weights == 1)


def test_seeds_decide() -> None:
    sampler = filled(50, 2)
    draws = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        draws.append(sampler.draw(64, 50))
    assert np.array_equal(draws[0].positions, draws[1].positions)
    assert not np.array_equal(draws[0].positions, draws[2].positions)


@pytest.mark.parametrize(
    ("exponents", "message"),
    [
        ((-0.1, None), "priority_exponent=-0.1 must be a number of at least 0"),
        ((float("nan"), None), "priority_exponent=nan must be"),
        ((True, None), "priority_exponent=True must be"),
        ((0.5, 1.1), r"importance_exponent=1.1 must be a number in \[0, 1\]"),
        ((None, 0.4), "importance_exponent=0.4 has no effect without priority_exponent"),
    ],
)
def test_bad_values(exponents: tuple[float | None, float | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sampler(1, 1, *exponents)
    with pytest.raises(ValueError, match=message):
        FrameReplayBuffer(
            8, IMAGES, spaces.Discrete(2), n_stack=2, priority_exponent=exponents[0], importance_exponent=exponents[1]
        )


def make_buffer(n_steps: int = 1, **kwargs: Any) -> FrameReplayBuffer:
    """Forty transitions of two environments whose rewards tell which they are."""
    rng = np.random.default_rng(0)
    buffer = FrameReplayBuffer(80, IMAGES, spaces.Discrete(2), "cpu", 2, n_stack=2, n_steps=n_steps, **kwargs)
    observations = rng.integers(0, 256, (2, 2, 12, 12), dtype=np.uint8)
    for step in range(40):
        following = np.stack([observations[:, 1], rng.integers(0, 256, (2, 12, 12), dtype=np.uint8)], axis=1)
        rewards, ends = np.array([step, step + 100.0]), np.array([step % 9 == 8, step % 7 == 6])
        buffer.add(observations, following, np.zeros((2, 1), np.int64), rewards, ends, [{}, {}])
        observations = following
    return buffer


@pytest.mark.parametrize("n_steps", [1, 3])
def test_prioritized_transitions_are_those_of_the_uniform_memory(n_steps: int) -> None:
    prioritized, uniform = make_buffer(n_steps, priority_exponent=0.6), make_buffer(n_steps)
    np.random.seed(1)
    draw = prioritized.draw(64)
    ours, theirs = prioritized.read(draw), uniform.read(draw)
    for name in ("observations", "actions", "next_observations", "dones", "rewards"):
        assert th.equal(getattr(ours, name), getattr(theirs, name)), name


def test_priorities_reach_the_transitions_they_are_of() -> None:
    buffer = make_buffer(priority_exponent=1.0)
    np.random.seed(0)
    batch, report_priorities = sample_batch(buffer, 32, 0.9)
    report_priorities(batch.rewards.squeeze(1) * 10)
    rewards = {}
    for _ in range(20):
        drawn = buffer.draw(32)
        for reward, number in zip(
            buffer.read(drawn).rewards.squeeze(1).tolist(),
            buffer.sampler.tree[drawn.positions * 2 + drawn.env_indices].tolist(),  # type: ignore[attr-defined]  # prioritized
            strict=True,
        ):
            rewards[reward] = number
    reported = set(batch.rewards.squeeze(1).tolist())
    assert len(reported & rewards.keys()) > 10
    for reward, number in rewards.items():
        assert number == pytest.approx(10 * reward + LEAST_PRIORITY if reward in reported else 1.0)


def test_batches_drawn_together_report_together() -> None:
    buffer = make_buffer(priority_exponent=1.0)
    np.random.seed(0)
    batches = []
    for batch, report_priorities in sample_together(buffer, 3, 8, 0.9):
        report_priorities(batch.rewards.squeeze(1) * 10)
        batches.append(batch)
    assert len(batches) == 3
    buffer.draw(1)
    numbers = buffer.sampler.tree[np.arange(80)].reshape(40, 2)  # type: ignore[attr-defined]  # prioritized
    for batch in batches:
        for reward in batch.rewards.squeeze(1).tolist():
            assert numbers[int(reward % 100), int(reward // 100)] == pytest.approx(10 * reward + LEAST_PRIORITY)


def test_a_priority_does_not_outlive_its_transition() -> None:
    """Reported before the transition is replaced, and waited for until then."""
    buffer = make_buffer(priority_exponent=1.0)
    np.random.seed(0)
    draw = Draw(np.array([0]), np.array([0]), np.ones(1, np.float32))
    buffer.report_priorities(draw, th.tensor([50.0]))
    images = np.zeros((2, 2, 12, 12), np.uint8)
    buffer.report_priorities(draw, th.tensor([0.01]))
    buffer.add(images, images, np.zeros((2, 1), np.int64), np.zeros(2), np.zeros(2, bool), [{}, {}])
    assert buffer.sampler.tree[np.array([0, 1])] == pytest.approx(50.0)  # type: ignore[attr-defined]  # prioritized: the highest


def test_priorities_that_are_not_finite_say_that_training_has_diverged() -> None:
    with pytest.raises(ValueError, match="training has diverged"):
        set_all(filled(2, 1), np.array([[1.0], [np.nan]]))
