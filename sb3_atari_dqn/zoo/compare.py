"""``python -m sb3_atari_dqn compare``: what several runs and seeds say of the algorithms that made them."""

import argparse
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.monitor import LoadMonitorResultsError

from sb3_atari_dqn.atomic_files import cannot_write, check_output, written_whole
from sb3_atari_dqn.evaluation.environments import find_rom
from sb3_atari_dqn.evaluation.protocols import PROTOCOLS, find_protocol
from sb3_atari_dqn.evaluation.results import Evaluation, check_same_protocol
from sb3_atari_dqn.evaluation.scores import human_normalized_score, reference_scores
from sb3_atari_dqn.evaluation.statistics import (
    Estimate,
    estimate,
    interquartile_mean,
    mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from sb3_atari_dqn.report.comparison import plot_comparison
from sb3_atari_dqn.report.curves import check_picture, mean_curve, save_picture, training_scores
from sb3_atari_dqn.zoo.evaluate import evaluation_file
from sb3_atari_dqn.zoo.run_files import not_a_run
from sb3_atari_dqn.zoo.runs import Run, find_run

#: name for scores of training games, where there are no evaluations
TRAINING = "training"

#: last games of a training that make its score
LAST_GAMES = 100

#: statistics of all games together, by the name to show
AGGREGATES = {"interquartile mean": interquartile_mean, "optimality gap": optimality_gap, "mean": mean}


class Entry(NamedTuple):
    """
    One run's score.

    :param label: what is compared
    :param game: as ALE names its ROM
    :param seed: of the training; None if that is not known
    :param score: mean of its games
    :param n_games: how many
    :param path: what was given
    :param folder: of the run; None for the file of an evaluation
    """

    label: str
    game: str
    seed: int | None
    score: float
    n_games: int
    path: Path
    folder: Path | None

    @property
    def normalized(self) -> float:
        """The human-normalised score."""
        return human_normalized_score(self.game, self.score)


#: runs by label and game
Table = dict[str, dict[str, list[Entry]]]


def compare(arguments: Sequence[str]) -> None:
    """
    Compare runs, print the figures.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn compare",
        description="Compare training runs that `evaluate --protocol` has played, over seeds and games.",
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="run", help="folder of a training run, or a file that `evaluate --json` wrote"
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="whose evaluations to take from the folders, where there are several; "
        f"{TRAINING!r} for the last {LAST_GAMES} games of the training itself",
    )
    parser.add_argument("--labels", nargs="+", help="names to show, one for each run (default: algorithm, preset and changes)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("-o", "--output", type=Path, help="picture to write")
    parser.add_argument("--trust", action="store_true", help="allow the runs' files to run code, as RL Zoo does")
    args = parser.parse_args(arguments)
    try:
        if args.labels is not None and len(args.labels) != len(args.runs):
            raise ValueError(f"--labels must give each of the {len(args.runs)} runs a name, not {', '.join(args.labels)}")
        if args.seed < 0:
            raise ValueError(f"--seed {args.seed} must be at least 0")
        for output in (args.json, args.output):
            if output is not None:
                check_output(output)
        if args.output is not None:
            check_picture(args.output)
        protocol, entries = read_entries(args.runs, args.protocol, args.labels, args.trust)
        table = group(entries)
    except (ValueError, LoadMonitorResultsError) as error:
        parser.error(str(error))
    figures = compute(table, args.seed)
    show(protocol, table, figures, args.seed)
    if args.json is not None:
        _save(parser, args.json, lambda path: _save_json(to_json(protocol, table, figures), path))
    if args.output is not None:
        picture = plot_comparison(_curves(table, args.seed), figures.aggregates, figures.profiles, figures.improvements)
        _save(parser, args.output, lambda path: save_picture(picture, path))


def _save(parser: argparse.ArgumentParser, path: Path, save: Callable[[Path], None]) -> None:
    """
    :param parser: says what is wrong
    :param path: file to write
    :param save: writes it
    """
    try:
        save(path)
    except OSError as error:
        parser.error(cannot_write(path, error))
    print(path)


def _save_json(data: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_entries(
    paths: Sequence[Path], protocol: str | None, labels: Sequence[str] | None, trust: bool = False
) -> tuple[str, list[Entry]]:
    """
    :param paths: what is compared: folders of runs, files of evaluations
    :param protocol: whose evaluations to take; None for the one that there is
    :param labels: names to show; None for those that the runs have
    :param trust: whether what the runs' files name may be imported and run
    :return: the protocol, and the score of each run
    :raises ValueError: for what is not a run, has no results, is there twice, or was not played by the same rules
    """
    resolved = [path.resolve() for path in paths]
    for path in paths:
        if resolved.count(path.resolve()) > 1:
            raise ValueError(f"{str(path)!r} is given twice")
    runs = {path: find_run(path, trust) for path in paths if path.is_dir()}
    if protocol is None:
        protocol = _common_protocol(paths)
    elif protocol != TRAINING:
        find_protocol(protocol)
    names: Sequence[str | None] = labels or [None] * len(paths)
    if protocol == TRAINING:
        for path in paths:
            if path not in runs:
                raise ValueError(not_a_run(path))
        _check_same_games(list(runs.values()))
        return protocol, [_training_entry(runs[path], label) for path, label in zip(paths, names, strict=True)]
    evaluations = [_evaluation(path, protocol) for path in paths]
    check_same_protocol(evaluations)
    return protocol, [
        Entry(
            label or evaluation.label,
            find_rom(evaluation.env_id),
            evaluation.training_seed,
            float(evaluation.scores.mean()),
            len(evaluation.episodes),
            path,
            path if path.is_dir() else None,
        )
        for path, label, evaluation in zip(paths, names, evaluations, strict=True)
    ]


def _common_protocol(paths: Sequence[Path]) -> str:
    """
    :param paths: what is compared
    :return: the one protocol that all of it was played by; ``TRAINING`` for runs that were not evaluated
    :raises ValueError: if that is not clear
    """
    known = {str(path): _protocols(path) for path in paths}
    if not any(known.values()):
        return TRAINING
    common = set.intersection(*known.values())
    if len(common) != 1:
        found = "; ".join(f"{path}: {', '.join(sorted(names)) or 'none'}" for path, names in known.items())
        raise ValueError(
            f"protocols are never mixed, and these runs were evaluated by {found}. Choose one that all have with --protocol, "
            "or evaluate the others: python -m sb3_atari_dqn evaluate RUN --protocol NAME"
        )
    return common.pop()


def _protocols(path: Path) -> set[str]:
    if path.is_dir():
        return {name for name in PROTOCOLS if evaluation_file(path, name).is_file()}
    return {_load(path).protocol}


def _evaluation(path: Path, protocol: str) -> Evaluation:
    if not path.is_dir():
        evaluation = _load(path)
        if evaluation.protocol != protocol:
            raise ValueError(f"{str(path)!r} has results of protocol {evaluation.protocol!r}, not of {protocol!r}")
        return evaluation
    file = evaluation_file(path, protocol)
    if not file.is_file():
        raise ValueError(
            f"{str(path)!r} has no results of protocol {protocol!r}: "
            f"python -m sb3_atari_dqn evaluate {shlex.quote(str(path))} --protocol {protocol}"
        )
    return Evaluation.load(file)


def _load(path: Path) -> Evaluation:
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is neither the folder of a training run nor a file that `evaluate --json` wrote")
    return Evaluation.load(path)


def _check_same_games(runs: Sequence[Run]) -> None:
    """
    :param runs: what is compared
    :raises ValueError: if two runs played the same game by different rules, as far as the environment tells
    """
    known: dict[str, tuple[str, Any]] = {}
    for run in runs:
        rules = run.args["env"], run.args.get("env_kwargs") or {}
        first = known.setdefault(find_rom(run.args["env"]), rules)
        if first != rules:
            raise ValueError(f"protocols are never mixed: {str(run.folder)!r} was trained on {rules}, another run on {first}")


def _training_entry(run: Run, label: str | None) -> Entry:
    games = _finished_games(run.folder)
    last = games["score"].tail(LAST_GAMES)
    game = find_rom(run.args["env"])
    return Entry(label or run.label, game, run.args["seed"], float(last.mean()), len(last), run.folder, run.folder)


def _finished_games(path: Path) -> Any:
    try:
        games = training_scores(path)
    except LoadMonitorResultsError:
        raise ValueError(f"{str(path)!r} has no results: neither evaluations nor Monitor's files") from None
    if games.empty:
        raise ValueError(f"{str(path)!r} has no results: no game has ended yet")
    return games


def group(entries: Sequence[Entry]) -> Table:
    """
    :param entries: score of each run
    :return: the same by label and game
    :raises ValueError: if a seed is there twice, a label lacks a game, or a game has no human score
    """
    table: Table = {}
    for entry in entries:
        if entry.game not in reference_scores():
            raise ValueError(f"{str(entry.path)!r}: there are no random and human scores of {entry.game!r} to normalise with")
        of_game = table.setdefault(entry.label, {}).setdefault(entry.game, [])
        for other in of_game:
            if entry.seed is not None and entry.seed == other.seed:
                raise ValueError(
                    f"seed {entry.seed} of {entry.label!r} on {entry.game} is given twice: {str(other.path)!r} and "
                    f"{str(entry.path)!r}. Name them with --labels if they are not the same"
                )
        of_game.append(entry)
    games = sorted({entry.game for entry in entries})
    for label, by_game in table.items():
        counts = {game: len(runs) for game, runs in by_game.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"{label!r} has different numbers of runs, {counts}: games with more of them would count more")
        missing = [game for game in games if game not in by_game]
        if missing:
            raise ValueError(f"{label!r} has no run on {', '.join(missing)}: compare on games that all have")
        table[label] = {game: by_game[game] for game in games}
    return table


class Figures(NamedTuple):
    """
    :param aggregates: of each statistic, its value by label
    :param profiles: thresholds, and share of runs above them, by label
    :param improvements: probability by "X > Y"
    """

    aggregates: dict[str, dict[str, Estimate]]
    profiles: dict[str, tuple[np.ndarray, Estimate]]
    improvements: dict[str, Estimate]


def compute(table: Table, seed: int) -> Figures:
    """
    :param table: runs by label and game
    :param seed: of the bootstrap
    :return: what can be said of them
    """
    samples = {
        label: [np.array([entry.normalized for entry in runs]) for runs in by_game.values()]
        for label, by_game in table.items()
    }
    everything = np.concatenate([scores for of_label in samples.values() for scores in of_label])
    thresholds = np.linspace(min(everything.min(), 0.0), max(everything.max(), 1.0), 101)
    return Figures(
        {
            name: {label: estimate(statistic, of_label, seed) for label, of_label in samples.items()}
            for name, statistic in AGGREGATES.items()
        },
        {label: (thresholds, performance_profile(of_label, thresholds, seed)) for label, of_label in samples.items()},
        {
            f"{x} > {y}": estimate(probability_of_improvement, [*samples[x], *samples[y]], seed)
            for x, y in itertools.combinations(samples, 2)
        },
    )


def _curves(table: Table, seed: int) -> dict[str, dict[str, tuple[np.ndarray, Estimate]]]:
    """
    :param table: runs by label and game
    :param seed: of the bootstrap
    :return: learning curves by game and label, of those whose runs all have readable files of Monitor, with a game each
    """
    curves: dict[str, dict[str, tuple[np.ndarray, Estimate]]] = {}
    for label, by_game in table.items():
        for game, runs in by_game.items():
            folders = [entry.folder for entry in runs if entry.folder is not None]
            if len(folders) == len(runs) and all(map(_has_finished_games, folders)):
                curves.setdefault(game, {})[label] = mean_curve(folders, seed)
    return curves


def _has_finished_games(folder: Path) -> bool:
    try:
        return not training_scores(folder).empty
    except (LoadMonitorResultsError, ValueError, KeyError):  # none there, or damaged
        return False


def show(protocol: str, table: Table, figures: Figures, seed: int) -> None:
    """
    :param protocol: by which the games were played
    :param table: runs by label and game
    :param figures: what can be said of them
    :param seed: of the bootstrap
    """
    print(f"protocol: {protocol}. Intervals: 95 %, stratified bootstrap over runs; none where a game has one run only.\n")
    rows = [["game", "label", "runs", "games", "score", "normalised", "random", "human", "DQN (Nature)"]]
    for label, by_game in table.items():
        for game, runs in by_game.items():
            scores = estimate(mean, [np.array([entry.score for entry in runs])], seed)
            references = [("" if value is None else f"{value:.10g}") for value in reference_scores()[game]]
            n_games = str(sum(entry.n_games for entry in runs))
            normalized = f"{human_normalized_score(game, float(scores.value)):.3f}"
            rows.append([game, label, str(len(runs)), n_games, str(scores), normalized, *references])
    _print_rows([rows[0], *sorted(rows[1:], key=lambda row: row[0])])
    names = list(figures.aggregates)
    _print_rows([["label", *names], *([label, *(str(figures.aggregates[name][label]) for name in names)] for label in table)])
    if figures.improvements:
        _print_rows(
            [["is better with probability", ""], *([pair, str(value)] for pair, value in figures.improvements.items())]
        )


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def to_json(protocol: str, table: Table, figures: Figures) -> dict[str, Any]:
    """
    :param protocol: by which the games were played
    :param table: runs by label and game
    :param figures: what can be said of them
    :return: all of it, for a JSON file
    """
    return {
        "protocol": protocol,
        "runs": [
            {
                **entry._asdict(),
                "path": str(entry.path),
                "folder": None if entry.folder is None else str(entry.folder),
                "human_normalized": entry.normalized,
            }
            for by_game in table.values()
            for runs in by_game.values()
            for entry in runs
        ],
        "aggregates": {name: _estimates(of_labels) for name, of_labels in figures.aggregates.items()},
        "probability_of_improvement": _estimates(figures.improvements),
        "performance_profiles": {
            label: {"thresholds": thresholds.tolist(), **_estimate(profile)}
            for label, (thresholds, profile) in figures.profiles.items()
        },
        "references": {game: reference_scores()[game]._asdict() for game in next(iter(table.values()))},
    }


def _estimates(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: _estimate(value) for name, value in estimates.items()}


def _estimate(value: Estimate) -> dict[str, Any]:
    """NaN, which JSON does not have, is null."""
    return {name: np.where(np.isnan(array), np.array(None), array).tolist() for name, array in value._asdict().items()}
