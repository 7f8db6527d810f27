"""Learning curves of training runs, as a picture."""

import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from stable_baselines3.common.monitor import LoadMonitorResultsError

from sb3_atari_dqn.atomic_files import written_whole
from sb3_atari_dqn.evaluation.statistics import Estimate, estimate, mean
from sb3_atari_dqn.report.run_steps import action_repeat, first_step

#: games that a running mean is taken over
WINDOW = 30


def monitor_files(run: Path) -> list[Path]:
    """
    :param run: folder of a training run; Stable-Baselines3's ``get_monitor_files`` finds nothing where its name has brackets
    :return: Monitor's files in it
    """
    return sorted(run.glob("*monitor.csv"))


def training_scores(run: Path) -> pd.DataFrame:
    """
    :param run: folder of a training run, with Monitor's files: one of each environment, which step together
    :return: for each whole game in the order in which they ended, ``steps``, agent steps of all environments so far,
        ``seconds`` since the training began, ``score``, and ``mean``, that of the last 30 games. Steps are those of the whole
        training, that of a model which the run began with included. Monitor counts steps of the environment inside the
        wrappers; how many of these an agent step has, the run's configuration says (without one, four in an environment
        that skips no frames). It knows whole games only: where a run was interrupted, steps are those of the environment
        that has lost the fewest.
    :raises LoadMonitorResultsError: if there are no such files
    """
    files = monitor_files(run)
    if not files:
        raise LoadMonitorResultsError(f"there are no files of Monitor in {str(run)!r}")
    repeat = action_repeat(run)
    games = pd.concat([_games(file, repeat) for file in files], ignore_index=True).sort_values("seconds", kind="stable")
    games = games.reset_index(drop=True)
    return pd.DataFrame(
        {
            "steps": first_step(run) + games["steps"].cummax() * len(files),
            "seconds": games["seconds"] - games["began"].min(),
            "score": games["score"],
            "mean": games["score"].rolling(WINDOW, min_periods=1).mean(),
        }
    )


def _games(file: Path, repeat: int | None) -> pd.DataFrame:
    """
    :param file: Monitor's, of one environment
    :param repeat: steps that it counts for each agent step; None if that is not known
    :return: of each game when it ended, ``seconds`` since 1970 and ``steps`` of the agent so far, its ``score``, and when the
        first one ``began``
    """
    with file.open() as lines:
        header = json.loads(lines.readline().removeprefix("#"))
        games = pd.read_csv(lines)
    if repeat is None:
        repeat = 4 if "NoFrameskip" in header["env_id"] else 1
    return pd.DataFrame(
        {
            "seconds": header["t_start"] + games["t"],
            "steps": games["l"].cumsum() / repeat,
            "score": games["r"],
            "began": header["t_start"],
        }
    )


def read_evaluations(run: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """
    :param run: folder of a training run
    :return: of the evaluations while training, agent steps (n,), and scores of their games (n, n_games); None without
    :raises ValueError: if their file is damaged, or just being written
    """
    path = run / "evaluations.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path) as arrays:
            return (arrays["timesteps"], arrays["results"]) if len(arrays["timesteps"]) else None
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} is damaged, or just being written: {error}") from None


def check_picture(path: Path) -> None:
    """
    :param path: of a picture that is to be drawn
    :raises ValueError: for a kind of file that Matplotlib does not write
    """
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise ValueError(f"{str(path)!r} must end in one of {', '.join(f'.{kind}' for kind in sorted(kinds))}")


def save_picture(figure: Figure, path: Path) -> None:
    """
    :param figure: what to write
    :param path: of the picture, after ``check_picture``
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix.removeprefix(".").lower())


def mean_curve(runs: Sequence[Path], seed: int = 0, n_points: int = 100) -> tuple[np.ndarray, Estimate]:
    """
    The running mean of scores, mean over runs, as far as all of them have come.

    :param runs: folders of training runs
    :param seed: of the bootstrap
    :param n_points: how many points the curve has
    :return: agent steps (n_points,), and scores with their interval over runs, (n_points,)
    :raises LoadMonitorResultsError: if one of them is not such a folder
    """
    games = [training_scores(run) for run in runs]
    end = min(of_run["steps"].iloc[-1] for of_run in games)
    steps = np.linspace(min(max(of_run["steps"].iloc[0] for of_run in games), end), end, n_points)
    scores = np.stack([np.interp(steps, of_run["steps"], of_run["mean"]) for of_run in games], axis=-1)
    return steps, estimate(mean, [scores], seed, n_resamples=2_000)


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
        try:
            evaluations = read_evaluations(run)
        except ValueError as error:
            warnings.warn(f"evaluations of {str(run)!r} are not shown: {error}", stacklevel=2)
            continue
        if evaluations is not None:
            steps, scores = evaluations
            axes.plot(steps, scores.mean(axis=1), "D", color=color, label=f"{name}, evaluations")
    axes.set(xlabel="agent steps", ylabel="score")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
