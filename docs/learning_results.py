"""Results of training runs as small files, and the tables and pictures of them in these pages.

python docs/learning_results.py collect RUN... --machine "2 cores (AMD EPYC), no GPU" --into docs/results/pong
python docs/learning_results.py show docs/results/sb3_pong -o docs/images/sb3_pong.png

``collect`` takes runs that ``python -m sb3_atari_dqn evaluate RUN --protocol NAME`` has played. Each becomes a file that
says how it was trained and has the score of every game, for ``python -m sb3_atari_dqn compare`` too. ``show`` prints a table
and draws the curves.
"""

import argparse
import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.report.curves import monitor_files, training_scores
from sb3_atari_dqn.zoo.evaluate import evaluation_file
from sb3_atari_dqn.zoo.presets import default_config, presets
from sb3_atari_dqn.zoo.runs import find_run

#: points of a curve in a file
N_POINTS = 100

#: seconds between the ends of two games that a run takes only when it was interrupted
PAUSE = 600


def collect(run: Path, label: str | None, protocol: str, machine: str, commit: str, into: Path) -> Path:
    """
    :param run: folder of a training run
    :param label: name to show; None for what the run says of itself
    :param protocol: whose evaluation to take
    :param machine: that the run was trained on, in words
    :param commit: of this repository, that it was trained with
    :param into: folder to write to
    :return: the file
    """
    result: dict[str, Any] = json.loads(evaluation_file(run, protocol).read_text(encoding="utf-8"))
    games = training_scores(run)
    steps = np.linspace(games["steps"].iloc[0], games["steps"].iloc[-1], N_POINTS)
    header = json.loads(monitor_files(run)[0].read_text().split("\n", 1)[0].removeprefix("#"))
    result["label"] = label or result["label"]
    result["model"] = Path(result["model"]).name
    result["training"] = {
        "command": _command(run),
        "commit": commit,
        "machine": machine,
        "date": time.strftime("%Y-%m-%d", time.gmtime(header["t_start"])),
        "curve": {
            "steps": steps.round().astype(int).tolist(),
            "minutes": np.interp(steps, games["steps"], without_pauses(games["seconds"]) / 60).round(2).tolist(),
            "score": np.interp(steps, games["steps"], games["mean"]).round(2).tolist(),
        },
    }
    if (run / "evaluations.npz").is_file():
        with np.load(run / "evaluations.npz") as arrays:
            scores = arrays["results"].mean(axis=1).round(2).tolist()
            result["training"]["evaluations"] = {"steps": arrays["timesteps"].tolist(), "score": scores}
    name = f"{result['label']}_seed_{result['training_seed']}.json".replace(" ", "_").replace("/", "-")
    file = into / name
    if file.exists() and (there := json.loads(file.read_text(encoding="utf-8"))["env_id"]) != result["env_id"]:
        raise SystemExit(f"{file} is of {there}, not of {result['env_id']}: give each game a folder of its own")
    into.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return file


def without_pauses(seconds: pd.Series) -> pd.Series:
    """
    :param seconds: when games ended, rising
    :return: the same, as if a run that was interrupted had gone on at once
    """
    gaps = seconds.diff().fillna(0.0)
    return seconds - gaps.where(gaps > PAUSE, 0.0).cumsum()


def _command(run: Path) -> str:
    """
    :param run: folder of a training run
    :return: what it was started with, by names in place of paths of the machine that it ran on
    """
    args = find_run(run, trust=True).args
    words = ["python", "-m", "rl_zoo3.train", "--algo", args["algo"], "--env", args["env"]]
    config = args.get("conf_file") or default_config(args["algo"])
    if Path(config) == Path(default_config(args["algo"])):
        config = None
    elif (preset := presets().get(Path(config).stem)) is not None and not _differ(Path(config), preset):
        config = preset.stem
    for option, value in (
        ("--conf-file", config),
        ("--seed", args["seed"]),
        ("-n", args.get("n_timesteps") if args.get("n_timesteps", -1) > 0 else None),
        ("--num-threads", args.get("num_threads") if args.get("num_threads", -1) > 0 else None),
        ("--eval-freq", args.get("eval_freq")),
        ("--eval-episodes", args.get("eval_episodes") if args.get("eval_freq", -1) > 0 else None),
        ("--n-eval-envs", args.get("n_eval_envs") if args.get("eval_freq", -1) > 0 else None),
    ):
        words += [] if value is None else [option, str(value)]
    for option, key in (("--env-kwargs", "env_kwargs"), ("--eval-env-kwargs", "eval_env_kwargs"), ("-params", "hyperparams")):
        pairs = [f"{name}:{value!r}" for name, value in (args.get(key) or {}).items()]
        words += [option, *pairs] if pairs else []
    return shlex.join(words)


def _differ(file: Path, preset: Path) -> bool:
    """
    :param file: that a run was trained with, which may be gone by now
    :param preset: of the package
    :return: whether the file is there, and is another one than the preset
    """
    return file.is_file() and yaml.safe_load(file.read_text()) != yaml.safe_load(preset.read_text())


def show(files: list[Path], picture: Path | None) -> str:
    """
    :param files: what ``collect`` wrote
    :param picture: file to write
    :return: a table in Markdown, a row for each run; its last column is the score of the last 30 games of training when the
        fastest of the runs was over. If they were evaluated on the way, a second table has those scores
    """
    results = [(Evaluation.load(file), json.loads(file.read_text(encoding="utf-8"))["training"]) for file in files]
    fastest = min(_minutes(*result) for result in results)
    columns = ["", "seed", "steps", "mean", "standard deviation", "minimum", "maximum", "minutes"]
    lines = [f"| {' | '.join([*columns, f'training at {fastest:.1f} minutes'])} |", "|" + "---|" * 9]
    for evaluation, training in results:
        mean, std, minimum, _, maximum = evaluation.summary()
        curve = training["curve"]
        lines.append(
            f"| {evaluation.label} | {evaluation.training_seed} | {evaluation.training_steps:,} "
            f"| {mean.value:.2f} | {std:.2f} | {minimum:.10g} | {maximum:.10g} | {_minutes(evaluation, training):.1f} "
            f"| {np.interp(fastest, curve['minutes'], curve['score']):.2f} |"
        )
    evaluated = [(evaluation, training["evaluations"]) for evaluation, training in results if "evaluations" in training]
    if evaluated:
        steps = evaluated[0][1]["steps"]
        lines += ["", f"| | seed | {' | '.join(f'{step:,}' for step in steps)} steps |", "|" + "---|" * (2 + len(steps))]
        for evaluation, scores in evaluated:
            if scores["steps"] != steps:
                raise SystemExit(
                    f"{evaluation.label}, seed {evaluation.training_seed}, was evaluated at other steps: {scores['steps']}"
                )
            row = [f"{score:.1f}" for score in scores["score"]]
            lines.append(f"| {evaluation.label} | {evaluation.training_seed} | {' | '.join(row)} |")
    if picture is not None:
        _draw(results).savefig(picture, dpi=120)
    return "\n".join(lines).replace("|  |", "| |")


def _minutes(evaluation: Evaluation, training: dict[str, Any]) -> float:
    """
    :return: how long a run took: until its last game ended, and for the steps after that at the pace of those before
    """
    curve = training["curve"]
    return float(curve["minutes"][-1] * max(evaluation.training_steps or 0, curve["steps"][-1]) / curve["steps"][-1])


def _draw(results: list[tuple[Evaluation, dict[str, Any]]]) -> Figure:
    """
    :param results: evaluation and training of each run
    :return: scores against steps and against time
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    labels = list(dict.fromkeys(evaluation.label for evaluation, _ in results))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, against in zip(panels, ("steps", "minutes"), strict=True):
        for evaluation, training in results:
            curve, color = training["curve"], f"C{labels.index(evaluation.label)}"
            axes.plot(curve[against], curve["score"], color=color, alpha=0.8, label=evaluation.label)
            end = evaluation.training_steps if against == "steps" else _minutes(evaluation, training)
            axes.plot(end, evaluation.scores.mean(), "D", color=color, clip_on=False)
        axes.set_xlabel("agent steps" if against == "steps" else "minutes")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    panels[0].legend(handles.values(), handles.keys())
    panels[0].set_ylabel("score of training; ◆ at the end")
    return figure


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="make files of runs")
    collecting.add_argument("runs", type=Path, nargs="+", help="folders of training runs")
    collecting.add_argument("--label", help="name to show (default: algorithm, preset and what was changed)")
    collecting.add_argument("--protocol", default="nature", help="whose evaluations to take (default: %(default)s)")
    collecting.add_argument("--machine", required=True, help="cores or GPU, and what else it was doing")
    collecting.add_argument("--commit", help="that they were trained with (default: the one that is checked out)")
    collecting.add_argument("--into", type=Path, required=True, help="folder to write to")
    showing = commands.add_parser("show", help="print a table, draw the curves")
    showing.add_argument("folder", type=Path, help="with what collect wrote")
    showing.add_argument("-o", "--output", type=Path, help="picture to write")
    args = parser.parse_args()
    if args.command == "show":
        print(show(sorted(args.folder.glob("*.json"), key=lambda file: file.name.lower()), args.output))
        return
    commit = (
        args.commit
        or subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    for run in args.runs:
        print(collect(run, args.label, args.protocol, args.machine, commit, args.into))


if __name__ == "__main__":
    main()
