"""What a run's folder tells of training and tests: curves, scores, weights, for the page's JSON."""

import base64
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import LoadMonitorResultsError

from sb3_atari_dqn.evaluation.protocols import PROTOCOLS
from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.evaluation.scores import human_normalized_score, reference_scores
from sb3_atari_dqn.evaluation.statistics import summarize
from sb3_atari_dqn.progress_log import FILE, ProgressLog
from sb3_atari_dqn.report.curves import WINDOW, monitor_files, read_evaluations, training_scores
from sb3_atari_dqn.report.network import layer_weights
from sb3_atari_dqn.report.numbers import SCORE_DIGITS, rounded, rounded_list
from sb3_atari_dqn.report.run_steps import first_step
from sb3_atari_dqn.sweep_logs import SweepLogs

#: points of a line, at most
MAX_POINTS = 2_000

#: weights of a layer that are shown, at most; what is left out are input channels
MAX_WEIGHTS = 400_000

#: protocols whose scores stand beside the published ones: actions are not sticky, and games are of the same version
COMPARABLE = ("nature", "dqn-zoo")

_EVALUATE = "python -m sb3_atari_dqn evaluate RUN --protocol nature"

_STATISTICS = ("max", "mean", "min")


class _Run:
    """
    Logs of a run.

    :param folder: of the run
    :param n_envs: environments that it trained in
    """

    def __init__(self, folder: Path, n_envs: int) -> None:
        self.folder = folder
        self.missing: list[str] = []
        self.progress = pd.DataFrame(ProgressLog.read(folder))
        if self.progress.empty:
            self.missing.append(
                f"{FILE} is missing or empty (runs of earlier versions wrote none): Q-values, loss, epsilon and learning rate "
                "of the training are not known."
            )
        self.games = self._games(n_envs)
        self.evaluations: tuple[np.ndarray, np.ndarray] | None = None
        try:
            self.evaluations = read_evaluations(folder)
        except ValueError as error:
            self.missing.append(f"{error}.")

    def _games(self, n_envs: int) -> pd.DataFrame:
        n_files = len(monitor_files(self.folder))
        try:
            games = training_scores(self.folder)
        except LoadMonitorResultsError:
            rewards = SweepLogs.read(self.folder, "rewards")
            self.missing.append(
                "Monitor's files are missing: "
                + ("scores are those of rewards.csv." if rewards else "the scores of the training's games are not known.")
            )
            return pd.DataFrame(
                {
                    "steps": [row["states"] for row in rewards],
                    "score": [row["reward"] for row in rewards],
                    "mean": [row["mean_30"] for row in rewards],
                }
            )
        except (ValueError, KeyError) as error:
            self.missing.append(f"Monitor's files are damaged, scores of the training's games are not shown: {error}")
            return pd.DataFrame({"steps": [], "score": [], "mean": []})
        if n_files < n_envs:
            self.missing.append(f"{n_files} of {n_envs} files of Monitor are there: scores of the other games are not shown.")
            games["steps"] = first_step(self.folder) + (games["steps"] - first_step(self.folder)) * n_envs / n_files
        if games.empty:
            self.missing.append("No game has ended yet.")
        return games

    def logged(self, name: str) -> pd.DataFrame:
        """
        :param name: a column of ``progress.csv``
        :return: where it is filled in, ``steps`` and ``value``
        """
        if name not in self.progress:
            return pd.DataFrame({"steps": [], "value": []})
        rows = self.progress[["steps", name]].dropna()
        return rows.rename(columns={name: "value"})


def _line(name: str, x: Iterable[float], y: Iterable[float], kind: str = "lines") -> dict[str, Any]:
    """
    :param name: for the legend
    :param x: agent steps
    :param y: values
    :param kind: "lines" or "markers"
    :return: the line, of ``MAX_POINTS`` points
    """
    xs, ys = np.asarray(list(x), dtype=np.float64), np.asarray(list(y), dtype=np.float64)
    every = max(-(-len(xs) // MAX_POINTS), 1)
    chosen = np.unique(np.append(np.arange(0, len(xs), every), max(len(xs) - 1, 0))) if len(xs) else slice(None)
    name = f"{name} (1 of {every})" if every > 1 and kind == "markers" else name
    return {"name": name, "x": rounded_list(xs[chosen]), "y": rounded_list(ys[chosen]), "kind": kind}


def training_charts(folder: Path, n_envs: int, n_steps: int | None) -> dict[str, Any]:
    """
    :param folder: of a run
    :param n_envs: environments that it trained in
    :param n_steps: agent steps of its model; None without
    :return: ``charts`` of what there is, against agent steps, what is ``missing`` and why, and some ``facts``
    """
    run = _Run(folder, n_envs)
    charts: list[dict[str, Any]] = []

    def add(key: str, title: str, unit: str, *lines: dict[str, Any], note: str = "", log: bool = False) -> None:
        filled = [line for line in lines if line["x"]]
        if filled:
            charts.append({"key": key, "title": title, "unit": unit, "lines": filled, "note": note, "log": log})

    known_steps = [n_steps or 0, *map(int, run.progress["steps"] if len(run.progress) else [])]
    games = run.games
    if len(games) and 0 < max(known_steps) < games["steps"].max():  # Monitor counts what resets press, too
        began = first_step(folder)
        games["steps"] = began + (games["steps"] - began) * (max(known_steps) - began) / (games["steps"].max() - began)
    lines = [
        _line("games", games["steps"], games["score"], "markers"),
        _line(f"mean of {WINDOW} games", games["steps"], games["mean"]),
    ]
    if run.evaluations is not None:
        lines.append(_line("evaluations", run.evaluations[0], run.evaluations[1].mean(axis=1), "lines+markers"))
    add("scores", "Scores", "score", *lines)
    _add_q_values(run, add)
    for key, title, unit, column in (
        ("loss", "Loss", "loss", "train/loss"),
        ("epsilon", "Exploration", "epsilon", "rollout/exploration_rate"),
        ("learning_rate", "Learning rate", "learning rate", "train/learning_rate"),
    ):
        rows = run.logged(column)
        add(key, title, unit, _line(unit, rows["steps"], rows["value"]))
    add("speed", "Speed", "agent steps a second", *_speed(run))
    facts: dict[str, Any] = {"games": len(games)}
    facts["steps"] = max(known_steps) or (round(games["steps"].max()) if len(games) else None)
    facts["last_mean"] = rounded(float(games["mean"].iloc[-1]), SCORE_DIGITS) if len(games) else None
    facts["seconds"] = rounded(float(games["seconds"].max())) if len(games) and "seconds" in games else None
    return {"charts": charts, "missing": run.missing, "facts": facts}


def _add_q_values(run: _Run, add: Callable[..., None]) -> None:
    sweeps = SweepLogs.read(run.folder, "q_values")
    if sweeps:
        steps = [row["states"] for row in sweeps]
        lines = [_line(name, steps, [row[name] for row in sweeps], "lines+markers") for name in _STATISTICS]
        add("q_values", "Q-values in the memory, after each sweep", "Q-value", *lines)
        return
    lines = []
    for name in _STATISTICS:
        rows = run.logged(f"train/q_values_{name}")
        lines.append(_line(name, rows["steps"], rows["value"]))
    mean, std = run.logged("train/q_values_mean"), run.logged("train/q_values_std")
    both = mean.merge(std, on="steps", suffixes=("", "_std"))
    if len(both):
        band = _line("one standard deviation", both["steps"], both["value"] + both["value_std"], "band")
        band["low"] = _line("", both["steps"], both["value"] - both["value_std"])["y"]
        lines.append(band)
    add("q_values", "Q-values of the batches learnt from", "Q-value", *lines)


def _speed(run: _Run) -> list[dict[str, Any]]:
    """
    :return: lines of the speed now and of the whole training
    """
    lines = []
    games = run.games
    if "seconds" in games and len(games) > 1:
        behind = min(WINDOW, len(games) - 1)
        elapsed, steps = games["seconds"].diff(behind), games["steps"].diff(behind)
        known = (elapsed > 0) & (steps >= 0)
        lines.append(_line(f"over {behind} games", games["steps"][known], (steps / elapsed)[known]))
    rows = run.logged("time/fps")
    lines.append(_line("since the beginning", rows["steps"], rows["value"]))
    return lines


def evaluation_results(folder: Path, game: str | None) -> dict[str, Any]:
    """
    :param folder: of a run
    :param game: as ALE names its ROM; None if it is no Atari game
    :return: ``results``, each with its games' scores and statistics, ``references``, published scores, and what is ``missing``
    """
    results, missing = [], []
    evaluations = []
    for path in sorted(folder.glob("evaluation_*.json")):
        try:
            evaluations.append(Evaluation.load(path))
        except ValueError as error:
            missing.append(str(error))
    order = list(PROTOCOLS)
    evaluations.sort(
        key=lambda of: (order.index(of.protocol) if of.protocol in order else len(order), -(of.training_steps or 0))
    )
    for evaluation in evaluations:
        steps = "" if evaluation.training_steps is None else f" after {evaluation.training_steps:,} agent steps"
        name = f"protocol {evaluation.protocol}: {Path(evaluation.model).stem}{steps}"
        results.append(_result(name, evaluation.scores, game, evaluation.protocol))
    if not results:
        try:
            of_training = read_evaluations(folder)
        except ValueError:  # which is said where they are missing
            of_training = None
        if of_training is None:
            missing.append(f"No games were played for a test: {_EVALUATE} does that.")
        else:
            means = of_training[1].mean(axis=1)
            last, best = len(means) - 1, int(means.argmax())  # the first of equal ones is the one that is kept
            for what, index in {"last": last, "best": best}.items() if last != best else (("last and best", last),):
                name = f"{what} evaluation of the training, at {of_training[0][index]:,} agent steps"
                results.append(_result(name, of_training[1][index], game, None))
            missing.append(
                "These are the evaluations of the training, by its rules and with few games; they choose the best model. "
                f"{_EVALUATE} plays games that compare with published scores."
            )
    references: list[dict[str, Any]] = []
    if game is not None and game in reference_scores():
        published = reference_scores()[game]
        references = [{"name": "random play", "score": published.random}, {"name": "human", "score": published.human}]
        if published.dqn_nature is not None:
            references.append({"name": "DQN (Nature, 2015)", "score": published.dqn_nature})
        for reference in references:
            reference["normalized"] = rounded(human_normalized_score(game, reference["score"]))
    return {"results": results, "references": references, "missing": missing}


def _result(name: str, scores: np.ndarray, game: str | None, protocol: str | None) -> dict[str, Any]:
    """
    :param name: to show
    :param scores: of the games
    :param game: as ALE names its ROM; None if it is no Atari game
    :param protocol: that they were played by; None for the training's own evaluations
    :return: scores and statistics
    """
    summary = summarize(np.asarray(scores, dtype=np.float64))
    mean = float(summary.mean.value)
    normalized = human_normalized_score(game, mean) if game is not None and game in reference_scores() else None
    return {
        "name": name,
        "scores": rounded_list(scores, SCORE_DIGITS),
        "mean": rounded(mean, SCORE_DIGITS),
        "low": rounded(float(summary.mean.low), SCORE_DIGITS),
        "high": rounded(float(summary.mean.high), SCORE_DIGITS),
        "std": rounded(summary.std, SCORE_DIGITS),
        "minimum": rounded(summary.minimum, SCORE_DIGITS),
        "median": rounded(summary.median, SCORE_DIGITS),
        "maximum": rounded(summary.maximum, SCORE_DIGITS),
        "normalized": None if normalized is None else rounded(normalized),
        "protocol": protocol,
        "compares": protocol in COMPARABLE,
    }


def network_weights(model: BaseAlgorithm) -> list[dict[str, Any]]:
    """
    :param model: see ``sb3_atari_dqn.report.network.find_q_network``
    :return: of each convolution its weights by input channel, a byte each: 0 for minus, 254 for plus the channel's largest
        absolute value, with their exact statistics
    :raises ValueError: if the network has no convolutions
    """
    layers = []
    for name, weights in layer_weights(model).items():
        n_filters, n_channels, height, width = weights.shape
        n_shown = max(min(n_channels, MAX_WEIGHTS // (n_filters * height * width)), 1)
        channels = []
        for channel in range(n_shown):
            of_channel = weights[:, channel]
            limit = max(float(np.abs(of_channel).max()), 1e-12)
            data = (127 + 127 * of_channel / limit).round().astype(np.uint8)
            channels.append(
                {
                    "data": base64.b64encode(data.tobytes()).decode(),
                    "limit": rounded(limit),
                    "statistics": _statistics_of(of_channel),
                }
            )
        layers.append(
            {
                "name": name,
                "shape": [n_filters, n_channels, height, width],
                "channels": channels,
                "all": _statistics_of(weights),
            }
        )
    return layers


def _statistics_of(values: np.ndarray) -> Sequence[float | None]:
    """
    :return: minimum, maximum, mean, standard deviation
    """
    return [rounded(float(value)) for value in (values.min(), values.max(), values.mean(), values.std())]
