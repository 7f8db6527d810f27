"""Statistics against numbers worked out by hand, the bootstrap against loops."""

import numpy as np
import pytest

from sb3_atari_dqn.evaluation.statistics import (
    Statistic,
    estimate,
    histogram,
    interquartile_mean,
    mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    summarize,
)


def test_interquartile_mean_leaves_a_quarter_out_on_either_side() -> None:
    first, second = np.array([7.0, 0.0, 3.0, 100.0]), np.array([-50.0, 5.0, 2.0, 4.0])  # without -50, 0 and 7, 100
    assert interquartile_mean(first, second) == (2 + 3 + 4 + 5) / 4


def test_optimality_gap_does_not_reward_more_than_a_human() -> None:
    assert optimality_gap(np.array([0.5, 9.0]), np.array([-0.2, 1.0])) == pytest.approx((0.5 + 0 + 1.2 + 0) / 4)


def test_probability_of_improvement_is_a_mean_over_games() -> None:
    x = [np.array([1.0, 3.0]), np.array([5.0, 5.0])]
    y = [np.array([2.0, 3.0]), np.array([4.0, 4.0, 4.0])]
    assert probability_of_improvement(*x, *y) == ((0 + 0 + 1 + 0.5) / 4 + 1) / 2
    assert probability_of_improvement(*y, *x) == 1 - ((0 + 0 + 1 + 0.5) / 4 + 1) / 2


def test_performance_profile_is_the_share_of_runs_above() -> None:
    samples = [np.array([0.1, 0.9]), np.array([1.5, 1.5])]
    profile = performance_profile(samples, np.array([0.0, 0.1, 0.5, 1.0, 2.0]))
    assert profile.value.tolist() == [1, 0.75, 0.75, 0.5, 0]
    # the first game's two runs are drawn again: one, both or none of them is above 0.5
    assert (profile.low[2], profile.high[2]) == (0.5, 1)
    assert (profile.low[4], profile.high[4]) == (0, 0)


def test_runs_are_drawn_again_within_their_game_only() -> None:
    same = estimate(mean, [np.zeros(3), np.ones(3)])
    assert [float(number) for number in same] == [0.5, 0.5, 0.5]


def naive_bootstrap(statistic: Statistic, samples: list[np.ndarray], n_resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(7)
    values = [
        statistic(*[scores[[rng.integers(len(scores)) for _ in scores]] for scores in samples]) for _ in range(n_resamples)
    ]
    low, high = np.percentile(np.asarray(values), [2.5, 97.5])
    return low, high


@pytest.mark.parametrize("statistic", [mean, interquartile_mean, optimality_gap, probability_of_improvement])
def test_intervals_equal_those_of_loops(statistic: Statistic) -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(game, 0.5, size=n_runs) for game, n_runs in ((0, 5), (1, 4), (0, 6), (1, 5))]
    fast = estimate(statistic, samples, seed=1)
    low, high = naive_bootstrap(statistic, samples, 4_000)
    assert fast.value == statistic(*samples)
    tolerance = 0.08 * (high - low)  # four times what the ends of two such intervals differ by
    assert fast.low == pytest.approx(low, abs=tolerance)
    assert fast.high == pytest.approx(high, abs=tolerance)
    assert fast.low < fast.value < fast.high


def test_columns_are_worked_on_side_by_side() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 6))
    together = estimate(interquartile_mean, [scores], seed=2)
    for row in range(3):
        alone = estimate(interquartile_mean, [scores[row]], seed=2)
        assert together.value[row] == pytest.approx(alone.value)
        assert together.low[row] == pytest.approx(alone.low, abs=0.05)
        assert together.high[row] == pytest.approx(alone.high, abs=0.05)


def test_same_seed_same_interval() -> None:
    samples = [np.random.default_rng(0).normal(size=50)]
    assert estimate(mean, samples, seed=1) == estimate(mean, samples, seed=1)
    assert estimate(mean, samples, seed=1).low != estimate(mean, samples, seed=2).low


def test_one_run_says_nothing_of_others() -> None:
    value, low, high = estimate(mean, [np.array([3.0]), np.array([1.0, 2.0])])
    assert value == 2
    assert np.isnan(low)
    assert np.isnan(high)


def test_summary() -> None:
    summary = summarize(np.array([1.0, 2.0, 2.0, 7.0]))
    assert [float(summary.mean.value), summary.minimum, summary.median, summary.maximum] == [3, 1, 2, 7]
    assert summary.std == pytest.approx(5.5**0.5)  # (4 + 1 + 1 + 16) / 4
    assert 1 <= summary.mean.low < 3 < summary.mean.high <= 7


def test_histogram() -> None:
    assert histogram(np.array([0.0, 1.0, 1.0, 4.0]), n_bins=2, width=4) == "0.0 to 2.0    3 ####\n2.0 to 4.0    1 #"
    assert histogram(np.array([-21.0, -21.0]), width=3) == "-21.5 to -20.5    2 ###"
