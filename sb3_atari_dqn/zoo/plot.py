"""``python -m sb3_atari_dqn plot``: the learning curve of a run."""

import argparse
from pathlib import Path

from stable_baselines3.common.monitor import LoadMonitorResultsError

from sb3_atari_dqn.report.curves import plot_scores, training_scores


def plot(arguments: list[str]) -> None:
    """
    Draw the scores of a training run.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_atari_dqn plot", description="Draw the scores of a training run.")
    parser.add_argument("run", type=Path, help="folder of a training run, e.g. logs/dqn_custom/PongNoFrameskip-v4_1")
    parser.add_argument("-o", "--output", type=Path, help="picture to write (default: scores.png in that folder)")
    args = parser.parse_args(arguments)
    try:
        games = training_scores(args.run)
    except LoadMonitorResultsError:
        parser.error(
            f"{str(args.run)!r} is not the folder of a training run: give one such as logs/dqn_custom/PongNoFrameskip-v4_1"
        )
    if games.empty:
        parser.error(f"no game of {str(args.run)!r} has ended yet")
    output = args.output or args.run / "scores.png"
    plot_scores(args.run).savefig(output, dpi=120)
    first, last = games["mean"].iloc[min(len(games), 30) - 1], games["mean"].iloc[-1]
    print(f"{output}: {len(games)} games, mean of 30 from {first:.1f} to {last:.1f}")
