"""What can be said of scores, and how sure it is.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(https://arxiv.org/abs/2108.13264): few runs are compared by interquartile mean, optimality gap, probability of improvement
and performance profile of their normalised scores, each with an interval from a stratified bootstrap: the runs of each game
are drawn again among themselves. The bootstrap and the trimmed mean are SciPy's, with the percentile method, as in the
authors' library rliable.

Conventions: *samples* is a list with the scores of a game's runs for each game, float (..., n_runs). Statistics reduce the
last axis, so that others before it are worked on side by side.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

#: resamples of a bootstrap
N_RESAMPLES = 10_000

#: how often an interval contains the truth
CONFIDENCE = 0.95

#: of samples, float (..., n_runs) each, to float (...)
Statistic = Callable[..., np.ndarray]


class Estimate(NamedTuple):
    """
    A number, or an array of them, and its confidence interval.

    :param value: the number
    :param low: lower end of the interval; NaN where a game has one run only, which says nothing of others
    :param high: upper end of the interval
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{interval}"


def mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """
    :param samples: scores
    :param axis: the last one
    :return: mean of all runs
    """
    return np.concatenate(samples, axis=axis).mean(axis=axis)


def interquartile_mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """
    :param samples: normalised scores
    :param axis: the last one
    :return: mean of what is left of all runs without the quarter of the best and the quarter of the worst
    """
    return stats.trim_mean(np.concatenate(samples, axis=axis), proportiontocut=0.25, axis=axis)


def optimality_gap(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """
    :param samples: normalised scores
    :param axis: the last one
    :return: how much the runs are below 1, a human, on average; what is above 1 does not make up for it
    """
    return np.maximum(1.0 - np.concatenate(samples, axis=axis), 0.0).mean(axis=axis)


def probability_of_improvement(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """
    :param samples: scores of X in each game, then those of Y in the same games
    :param axis: the last one
    :return: probability that a run of X is better than a run of Y in a game, mean over games; ties count half
    """
    assert axis == -1
    assert len(samples) % 2 == 0
    n_games = len(samples) // 2
    of_games = []
    for x, y in zip(samples[:n_games], samples[n_games:], strict=True):
        difference = x[..., :, None] - y[..., None, :]
        of_games.append(((np.sign(difference) + 1) / 2).mean(axis=(-2, -1)))
    return np.mean(of_games, axis=0)


def estimate(statistic: Statistic, samples: Sequence[np.ndarray], seed: int = 0, n_resamples: int = N_RESAMPLES) -> Estimate:
    """
    A statistic with its interval by stratified bootstrap.

    :param statistic: one of those above
    :param samples: scores of each game's runs, float (..., n_runs)
    :param seed: of the bootstrap
    :param n_resamples: how often the runs are drawn again
    :return: value and interval, each of shape (...)
    """
    samples = [np.asarray(scores, dtype=np.float64) for scores in samples]
    value = np.asarray(statistic(*samples))
    if min(scores.shape[-1] for scores in samples) < 2:
        return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    interval = stats.bootstrap(  # type: ignore[attr-defined]  # SciPy documents it, but leaves it out of __all__
        samples,
        statistic,
        n_resamples=n_resamples,
        batch=max(1_000_000 // sum(scores.size for scores in samples), 1),
        vectorized=True,
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, np.asarray(interval.low), np.asarray(interval.high))


def performance_profile(
    samples: Sequence[np.ndarray], thresholds: np.ndarray, seed: int = 0, n_resamples: int = 2_000
) -> Estimate:
    """
    :param samples: normalised scores of each game's runs, float (n_runs,)
    :param thresholds: normalised scores, float (n_thresholds,)
    :param seed: of the bootstrap
    :param n_resamples: how often the runs are drawn again
    :return: share of all runs that are better than each threshold, of shape (n_thresholds,)
    """
    return estimate(mean, [scores > thresholds[:, None] for scores in samples], seed, n_resamples)


class Summary(NamedTuple):
    """
    Scores of one model's games.

    :param mean: their mean, with its interval
    :param std: their standard deviation, of these games as they are (divided by n)
    :param minimum: the least
    :param median: half of them are below
    :param maximum: the greatest
    """

    mean: Estimate
    std: float
    minimum: float
    median: float
    maximum: float


def summarize(scores: np.ndarray) -> Summary:
    """
    :param scores: of games, float (n_games,), at least one
    :return: see there
    """
    return Summary(
        estimate(mean, [scores]), float(scores.std()), float(scores.min()), float(np.median(scores)), float(scores.max())
    )


def histogram(scores: np.ndarray, n_bins: int = 10, width: int = 40) -> str:
    """
    :param scores: of games, float (n_games,), at least one
    :param n_bins: lines at most
    :param width: characters of the longest bar
    :return: a line for each bin: from where to where, how many scores, and a bar
    """
    counts, edges = np.histogram(scores, bins=min(n_bins, len(np.unique(scores))))
    ends = [f"{edge:.1f}" for edge in edges]
    pad = max(map(len, ends))
    return "\n".join(
        f"{low:>{pad}} to {high:>{pad}} {count:4} {'#' * round(width * count / counts.max())}"
        for low, high, count in zip(ends[:-1], ends[1:], counts, strict=True)
    )
