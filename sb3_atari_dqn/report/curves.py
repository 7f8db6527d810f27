"""The learning curve of a training run, as a picture."""

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


def plot_scores(run: Path) -> Figure:
    """
    Scores against agent steps: of each game played while learning, their running mean, and of evaluations.

    :param run: folder of a training run
    :return: the picture
    :raises LoadMonitorResultsError: if it is not one
    """
    games = training_scores(run)
    figure = matplotlib.figure.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(games["steps"], games["score"], ".", color="0.75", markersize=4, label="games while learning")
    axes.plot(games["steps"], games["mean"], color="tab:blue", label=f"mean of {WINDOW} games")
    evaluations = run / "evaluations.npz"
    if evaluations.is_file():
        with np.load(evaluations) as arrays:
            axes.plot(arrays["timesteps"], arrays["results"].mean(axis=1), "o-", color="tab:orange", label="evaluations")
    axes.set(xlabel="agent steps", ylabel="score", title=run.name)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
