"""Learning curves of training runs, as a picture."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from stable_baselines3.common.monitor import load_results

#: emulator frames of an agent step
FRAME_SKIP = 4

#: games that a running mean is taken over
WINDOW = 30


def training_scores(run: Path) -> pd.DataFrame:
    """
    :param run: folder of a training run, with Monitor's files
    :return: for each whole game in the order in which they ended, ``steps``, agent steps of all environments so far,
        ``score``, and ``mean``, that of the last 30 games
    :raises LoadMonitorResultsError: if there are no such files
    """
    games = load_results(str(run))
    scores = games["r"]
    return pd.DataFrame(
        {"steps": games["l"].cumsum() / FRAME_SKIP, "score": scores, "mean": scores.rolling(WINDOW, min_periods=1).mean()}
    )


def plot_scores(runs: Mapping[str, Path]) -> Figure:
    """
    Scores against agent steps: of each game played while learning, their running mean, and of evaluations.

    :param runs: folders of training runs, by the names to show; each gets a colour of its own
    :return: the picture
    :raises LoadMonitorResultsError: if one of them is not such a folder
    """
    figure = matplotlib.figure.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, run) in enumerate(runs.items()):
        games = training_scores(run)
        color = f"C{number}"
        axes.plot(games["steps"], games["score"], ".", color=color, alpha=0.15, markersize=4, markeredgewidth=0)
        axes.plot(games["steps"], games["mean"], color=color, label=f"{name}, mean of {WINDOW} games")
        evaluations = run / "evaluations.npz"
        if evaluations.is_file():
            with np.load(evaluations) as arrays:
                means = arrays["results"].mean(axis=1)
                axes.plot(arrays["timesteps"], means, "D", color=color, label=f"{name}, evaluations")
    axes.set(xlabel="agent steps", ylabel="score")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
