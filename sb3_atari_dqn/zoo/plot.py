"""``python -m sb3_atari_dqn plot``: learning curves of runs."""

import argparse
from pathlib import Path

from stable_baselines3.common.monitor import LoadMonitorResultsError

from sb3_atari_dqn.atomic_files import cannot_write, check_output
from sb3_atari_dqn.report.curves import WINDOW, check_picture, plot_scores, save_picture, training_scores
from sb3_atari_dqn.zoo.run_files import not_a_run


def plot(arguments: list[str]) -> None:
    """
    Draw the scores of training runs.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn plot", description="Draw the scores of training runs, several in one picture."
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="run", help="folder of a training run, e.g. logs/dqn_custom/PongNoFrameskip-v4_1"
    )
    parser.add_argument("--labels", nargs="+", help="names to show, one for each run (default: their folders)")
    parser.add_argument("-o", "--output", type=Path, help="picture to write (default: scores.png in the first folder)")
    args = parser.parse_args(arguments)
    labels = args.labels or [run.name if len(args.runs) == 1 else str(run) for run in args.runs]
    if not len(args.runs) == len(labels) == len(set(labels)):
        parser.error(f"--labels must give each of the {len(args.runs)} runs a name of its own, not {', '.join(labels)}")
    output = args.output or args.runs[0] / "scores.png"
    elsewhere = "; -o FILE writes it elsewhere" if args.output is None else ""
    try:
        if output.parent.is_dir() or args.output is not None:  # what is no run is said below
            check_output(output)
        check_picture(output)
    except ValueError as error:
        parser.error(f"{error}{elsewhere}")
    for label, run in zip(labels, args.runs, strict=True):
        try:
            games = training_scores(run)
        except LoadMonitorResultsError:
            parser.error(not_a_run(run))
        except (ValueError, KeyError) as error:
            parser.error(f"Monitor's files in {str(run)!r} are damaged: {error}")
        if games.empty:
            parser.error(f"no game of {str(run)!r} has ended yet: train longer")
        first, last = games["mean"].iloc[min(len(games), WINDOW) - 1], games["mean"].iloc[-1]
        print(f"{label}: {len(games)} games, mean of up to {WINDOW} from {first:.1f} to {last:.1f}")
    try:
        save_picture(plot_scores(dict(zip(labels, args.runs, strict=True))), output)
    except OSError as error:
        parser.error(f"{cannot_write(output, error)}{elsewhere}")
    print(output)
