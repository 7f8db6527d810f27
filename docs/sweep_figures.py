"""The picture of ``dqn_sweep`` beside the tutorial, from training runs and their evaluations.

python docs/sweep_figures.py dqn_sweep=RUN dqn_custom=RUN -o docs/images/sweep.png

Each run is a folder of RL Zoo's, evaluated with ``python -m sb3_atari_dqn evaluate RUN --protocol tutorial``.
"""

import argparse
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd

from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.report.curves import training_scores

#: Hvass' notebook of 2020, after 1,176,704 states: 30 test games
TUTORIAL = {"minimum": 8, "mean": 20.87, "maximum": 40}


def draw(runs: dict[str, Path], picture: Path) -> None:
    """
    Training scores against states and hours, Q-values after each sweep, histograms of test games.

    :param runs: folders by the name to show
    :param picture: file to write
    """
    figure = matplotlib.figure.Figure(figsize=(11, 7), layout="constrained")
    (of_states, of_hours), (of_q_values, of_tests) = figure.subplots(2, 2)
    for name, run in runs.items():
        games = training_scores(run)
        of_states.plot(games["steps"], games["mean"], label=name)
        of_hours.plot(games["seconds"] / 3600, games["mean"], label=name)
        if (run / "q_values.csv").is_file():
            sweeps = pd.read_csv(run / "q_values.csv")
            for column, style in (("min", ":"), ("mean", "-"), ("max", "--")):
                of_q_values.plot(sweeps["states"], sweeps[column], style, color="C0", label=column)
        scores = Evaluation.load(run / "evaluation_tutorial.json").scores
        bins = np.arange(0, max(scores.max(), TUTORIAL["maximum"]) + 5, 4)
        of_tests.hist(scores, bins, alpha=0.6, label=f"{name}: {scores.min():g} to {scores.max():g}, mean {scores.mean():.2f}")
    for what, score in TUTORIAL.items():
        style = "-" if what == "mean" else ":"
        label = f"the tutorial's {' to '.join(str(TUTORIAL[end]) for end in ('minimum', 'maximum'))}, mean {TUTORIAL['mean']}"
        of_tests.axvline(score, color="black", linestyle=style, label=label if what == "mean" else None)
    of_states.set(title="training games, mean of the last 30", xlabel="states", ylabel="score")
    of_hours.set(title="the same against time", xlabel="hours", ylabel="score")
    of_q_values.set(title="dqn_sweep's Q-values after each sweep", xlabel="states", ylabel="Q-value")
    of_tests.set(title="30 test games", xlabel="score", ylabel="games")
    for axes in (of_states, of_hours, of_q_values, of_tests):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="folders of training runs, by the name to show")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    draw({name: Path(run) for name, _, run in (given.partition("=") for given in args.runs)}, args.output)
