"""The sweep beside a plain loop written from the tutorial's description, and the memory around it."""

from pathlib import Path

import numpy as np
import pytest

from sb3_atari_dqn.replay import frames
from sb3_atari_dqn.replay.sweep_memory import SweepMemory, balanced_counts, sweep_backwards
from sb3_atari_dqn.zoo.bench import sweep_plainly

GAMMA = 0.97


def test_sweep_of_four_states_by_hand() -> None:
    q_values = np.array([[[0.0, 3.0], [1.0, 0.5], [0.0, 2.0], [5.0, 4.0]]], dtype=np.float32)
    actions = np.array([[0, 0, 1, 0]])
    rewards = np.array([[0.0, 1.0, 0.0, 7.0]])
    nothing = np.zeros((1, 4), dtype=bool)
    swept = sweep_backwards(q_values, actions, rewards, nothing, nothing, gamma=0.5)
    # last: stays at 5, 4; then 0 + 0.5 * 5 = 2.5; 1 + 0.5 * 2.5 = 2.25; 0 + 0.5 * 2.25 = 1.125
    assert swept.q_values.tolist() == [[[1.125, 3.0], [2.25, 0.5], [0.0, 2.5], [5.0, 4.0]]]
    assert swept.errors.tolist() == [[1.125, 1.25, 0.5, 0.0]]


def test_nothing_is_carried_over_an_end_or_a_cut() -> None:
    q_values = np.zeros((1, 4, 2), dtype=np.float32)
    q_values[0, :, 1] = [0.25, 0.5, 0.0, 8.0]
    actions = np.zeros((1, 4), dtype=int)
    rewards = np.array([[0.0, -1.0, 0.0, 0.0]])
    ends = np.array([[False, True, False, False]])
    cuts = np.array([[False, False, True, False]])
    swept = sweep_backwards(q_values, actions, rewards, ends, cuts, gamma=0.5)
    assert swept.q_values[0, :, 0].tolist() == [0.25, -1.0, 0.0, 0.0], "the end is worth its reward, the cut its estimate"
    assert swept.errors.tolist() == [[0.25, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize(("n_envs", "n_steps", "n_actions"), [(1, 500, 4), (8, 300, 6), (3, 1, 2), (2, 40, 1)])
def test_sweep_is_the_plain_loop(n_envs: int, n_steps: int, n_actions: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        shape = (n_envs, n_steps)
        q_values = rng.normal(scale=3, size=(*shape, n_actions)).astype(np.float32)
        memory = (
            q_values,
            rng.integers(n_actions, size=shape),
            rng.integers(-1, 2, size=shape).astype(np.float32),
            rng.random(shape) < 0.05,
            rng.random(shape) < 0.03,
        )
        swept = sweep_backwards(*memory, gamma=GAMMA)
        expected = sweep_plainly(*memory, gamma=GAMMA)
        np.testing.assert_allclose(swept.q_values, expected.q_values, rtol=0, atol=1e-6)
        np.testing.assert_allclose(swept.errors, expected.errors, rtol=0, atol=1e-6)


class Play:
    """Random steps, fed into a memory and kept beside it."""

    def __init__(self, memory: SweepMemory, seed: int = 0) -> None:
        self.memory = memory
        self.rng = np.random.default_rng(seed)
        self.steps: list[tuple[np.ndarray, ...]] = []

    def add(self, n_steps: int) -> None:
        n_envs, n_actions = self.memory.n_envs, self.memory.q_values.shape[-1]
        for _ in range(n_steps):
            timeouts = self.rng.random(n_envs) < 0.05
            end_lives = (self.rng.random(n_envs) < 0.1) & ~timeouts
            step = (
                self.rng.integers(256, size=(n_envs, *self.memory.state_shape), dtype=np.uint8),
                self.rng.normal(size=(n_envs, n_actions)).astype(np.float32),
                self.rng.integers(n_actions, size=n_envs),
                self.rng.integers(-3, 4, size=n_envs).astype(np.float32),
                end_lives,
                end_lives & (self.rng.random(n_envs) < 0.3),
                timeouts,
            )
            self.memory.add(*step)
            self.steps.append(step)

    def column(self, which: int, n_steps: int) -> np.ndarray:
        """The newest steps as (n_envs, n_steps, ...)."""
        return np.stack([step[which] for step in self.steps[-n_steps:]], axis=1)


@pytest.mark.parametrize("compression", [None, "lz4"])
@pytest.mark.parametrize("n_played", [7, 20, 33])
def test_memory_sweeps_what_was_added(compression: str | None, n_played: int) -> None:
    memory = SweepMemory(62, 3, (2, 5, 4), 4, compression)
    assert memory.n_steps == 20
    play = Play(memory)
    play.add(n_played)
    n_kept = min(n_played, 20)
    assert memory.n_used == 3 * n_kept
    statistics = memory.sweep(GAMMA, clip_rewards=True, error_threshold=0.5)

    states, before, actions, rewards, end_lives, end_games, timeouts = (play.column(which, n_kept) for which in range(7))
    after, errors = sweep_plainly(before, actions, rewards.clip(-1, 1), end_lives, timeouts, GAMMA)
    stored_states, stored_q_values = memory.read(memory.indices())
    np.testing.assert_array_equal(stored_states, states.reshape(-1, 2, 5, 4))
    np.testing.assert_allclose(stored_q_values, after.reshape(-1, 4), rtol=0, atol=1e-6)

    assert statistics.n_states == 3 * n_kept
    assert statistics.n_large_errors == (errors >= 0.5).sum()
    assert statistics.before[:3] == pytest.approx((before.min(), before.mean(), before.max()), abs=1e-6)
    assert statistics.after[:3] == pytest.approx((after.min(), after.mean(), after.max()), abs=1e-6)
    change = after - before
    assert statistics.change == pytest.approx((change.min(), change.mean(), change.max(), change.std()), abs=1e-6)
    shares = end_lives.mean(), end_games.mean(), (rewards != 0).mean()
    assert (statistics.lives, statistics.games, statistics.rewarded) == pytest.approx(shares)


def test_raw_rewards_are_swept_when_asked() -> None:
    memory = SweepMemory(4, 1, (1,), 1)
    for _ in range(2):
        memory.add(np.zeros((1, 1), np.uint8), *(np.array([value]) for value in ([0.0], 0, 5.0, True, True, False)))
    memory.sweep(GAMMA, clip_rewards=False, error_threshold=0.1)
    assert memory.read(memory.indices())[1].tolist() == [[5.0], [0.0]], "the last state keeps its estimate"


def test_what_is_added_after_a_cut_does_not_follow() -> None:
    memory = SweepMemory(8, 1, (1,), 1)
    for value in (0.5, 3.0):
        memory.add(np.zeros((1, 1), np.uint8), *(np.array([x]) for x in ([value], 0, 0.0, False, False, False)))
        memory.cut()
    memory.sweep(GAMMA, clip_rewards=True, error_threshold=0.1)
    assert memory.read(memory.indices())[1].tolist() == [[0.5], [3.0]]


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_an_emptied_memory_fills_again(compression: str | None) -> None:
    memory = SweepMemory(60, 3, (2, 5, 4), 4, compression)
    play = Play(memory)
    for n_played in (20, 11, 26):
        play.add(n_played)
        n_kept = min(n_played, 20)
        np.testing.assert_array_equal(memory.read(memory.indices())[0], play.column(0, n_kept).reshape(-1, 2, 5, 4))
        memory.clear()
        assert memory.n_used == 0


def test_q_values_can_be_estimated_anew() -> None:
    memory = SweepMemory(60, 3, (1,), 2)
    Play(memory).add(25)
    indices = memory.indices()
    memory.set_q_values(indices[5:9], np.full((4, 2), 7.0, np.float32))
    assert (memory.read(indices)[1] == 7).all(axis=1).nonzero()[0].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("n_large", "n_small", "batch_size", "counts"),
    [
        (100, 900, 128, (64, 64)),  # at least half
        (600, 400, 128, (77, 51)),  # their share, 76.8, rounded up
        (500, 500, 5, (3, 2)),  # half of an odd batch, rounded up
        (10, 990, 128, (10, 118)),  # too few large ones
        (0, 1000, 128, (0, 128)),
        (990, 10, 128, (127, 1)),
        (1000, 0, 128, (128, 0)),
        (150, 3, 150, (148, 2)),
        (3, 7, 10, (3, 7)),  # all there are
    ],
)
def test_batches_are_balanced(n_large: int, n_small: int, batch_size: int, counts: tuple[int, int]) -> None:
    assert balanced_counts(n_large, n_small, batch_size, least_share=0.5) == counts


def swept_memory(n_large: int, n_small: int) -> SweepMemory:
    """A memory whose states say by their only pixel which they are; the first ones have large errors."""
    memory = SweepMemory(n_large + n_small, 1, (1,), 1)  # the last one, which is not swept, has a small one
    for index in range(n_large + n_small):
        value = 1.0 if index < n_large else 0.0
        memory.add(np.full((1, 1), index, np.uint8), *(np.array([x]) for x in ([0.0], 0, value, True, True, False)))
    assert memory.sweep(GAMMA, clip_rewards=True, error_threshold=0.1).n_large_errors == n_large
    return memory


def test_fifty_thousand_draws_are_uniform_in_each_kind() -> None:
    n_large, n_small, batch_size = 20, 80, 10
    memory = swept_memory(n_large, n_small)
    rng = np.random.default_rng(0)
    counts = np.zeros(n_large + n_small)
    for _ in range(5000):
        drawn = memory.sample(batch_size, 0.5, rng)[0].ravel()
        assert len(set(drawn.tolist())) == batch_size, "without replacement"
        assert (drawn < n_large).sum() == 5
        counts[drawn] += 1
    expected = np.repeat([25_000 / n_large, 25_000 / n_small], [n_large, n_small])
    # of 5000 batches each holds a state or not: a binomial distribution
    deviations = (counts - expected) / np.sqrt(expected * (1 - expected / 5000))
    assert np.abs(deviations).max() < 4.5
    assert 0.7 < (deviations**2).mean() < 1.3


def test_draws_follow_the_generator() -> None:
    memory = swept_memory(20, 80)
    first, again, other = (memory.sample(10, 0.5, np.random.default_rng(seed))[0].ravel().tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_the_cache_of_files_in_a_container_is_free(tmp_path: Path) -> None:
    for name, content in (("max", "8000\n"), ("current", "7900\n"), ("stat", "anon 400\ninactive_file 7000\n")):
        (tmp_path / f"memory.{name}").write_text(content)
    assert frames.available_memory(tmp_path) == 7100
    (tmp_path / "memory.max").write_text("max\n")
    assert frames.available_memory(tmp_path) > 1_000_000


def test_a_memory_that_does_not_fit_is_refused_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_atari_dqn.replay.sweep_memory.available_memory", lambda: 1_000_000_000)
    with pytest.raises(MemoryError, match=r"200000 states of 16800 bytes takes about 3\.37 GB.* 1\.00 GB are free.*lz4"):
        SweepMemory(200_000, 8, (105, 80, 2), 4)
    assert SweepMemory(200_000, 8, (105, 80, 2), 4, "lz4").n_used == 0


def test_states_take_memory_when_they_come() -> None:
    memory = SweepMemory(200_000, 8, (105, 80, 2), 4)
    blocks = memory._frames
    assert isinstance(blocks, frames.PlainFrames)
    assert len(blocks._blocks) == 1
