"""Runs compared, against numbers worked out by hand."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stable_baselines3.common.monitor import ResultsWriter

from sb3_atari_dqn.evaluation.play import Episode
from sb3_atari_dqn.evaluation.protocols import PROTOCOLS
from sb3_atari_dqn.evaluation.results import AS_TRAINED, Evaluation, rules_of
from sb3_atari_dqn.report.curves import mean_curve
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.runs import find_run

PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"


def write_run(folder: Path, preset: str = "a", seed: int = 1, env_id: str = PONG, games: Sequence[float] = (-20, -10)) -> Path:
    """What is left of a training: arguments and Monitor's file, a game every 100 agent steps."""
    (folder / env_id).mkdir(parents=True)
    args = {"algo": "dqn_custom", "env": env_id, "seed": seed, "conf_file": f"{preset}.yml", "n_timesteps": -1}
    (folder / env_id / "args.yml").write_text(yaml.dump(OrderedDict(args)))
    writer = ResultsWriter(str(folder / "0"), {"t_start": 0.0, "env_id": env_id})
    for number, score in enumerate(games):
        writer.write_row({"r": score, "l": 400, "t": float(number)})
    writer.close()
    return folder


def add_evaluation(run: Path, scores: Sequence[float], protocol: str = "nature", file: Path | None = None) -> Path:
    found = find_run(run)
    Evaluation(
        protocol=protocol,
        rules={} if protocol == AS_TRAINED else rules_of(PROTOCOLS[protocol]),
        env_id=found.args["env"],
        label=found.label,
        model=str(run),
        algo=found.args["algo"],
        training_seed=found.args["seed"],
        training_steps=1,
        seed=0,
        episodes=tuple(Episode(score, 1, 4, 0, number) for number, score in enumerate(scores)),
    ).save(file or run / f"evaluation_{protocol}.json", None)
    return run


def compared(*arguments: object) -> dict[str, Any]:
    output = Path(str(arguments[0])) / "comparison.json"
    compare([*map(str, arguments), "--json", str(output)])
    return json.loads(output.read_text())


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """Two presets on two games, two seeds of one of them. Human-normalised scores are below."""
    return [
        add_evaluation(write_run(tmp_path / "a1", "a"), [14.6, 14.6]),  # 1
        add_evaluation(write_run(tmp_path / "a2", "a", seed=2), [-20.7]),  # 0
        add_evaluation(write_run(tmp_path / "a3", "a", env_id=BREAKOUT), [1.7, 59.3]),  # 1
        add_evaluation(write_run(tmp_path / "a4", "a", env_id=BREAKOUT, seed=2), [59.3]),  # 2
        add_evaluation(write_run(tmp_path / "b1", "b"), [-3.05]),  # 0.5
        add_evaluation(write_run(tmp_path / "b2", "b", env_id=BREAKOUT), [16.1]),  # 0.5
    ]


def test_figures_by_hand(four: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    figures = compared(*four, "-o", four[0] / "comparison.png")
    aggregates = figures["aggregates"]
    assert figures["protocol"] == "nature"
    assert [run["human_normalized"] for run in figures["runs"]] == pytest.approx([1, 2, 1, 0, 0.5, 0.5])  # Breakout first
    assert aggregates["interquartile mean"]["dqn_custom a"]["value"] == pytest.approx(1)  # of 0, 1, 1, 2
    assert aggregates["optimality gap"]["dqn_custom a"]["value"] == pytest.approx(0.25)
    assert aggregates["mean"]["dqn_custom b"] == {"value": pytest.approx(0.5), "low": None, "high": None}
    assert (aggregates["mean"]["dqn_custom a"]["low"], aggregates["mean"]["dqn_custom a"]["high"]) == pytest.approx((0.5, 1.5))
    # Breakout: 1 and 2 beat 0.5; Pong: 1 does, 0 does not
    assert figures["probability_of_improvement"]["dqn_custom a > dqn_custom b"]["value"] == 0.75
    profile = figures["performance_profiles"]["dqn_custom a"]
    assert profile["thresholds"][0] == 0
    assert profile["thresholds"][-1] == pytest.approx(2)
    assert profile["value"][25] == 0.75  # above 0.5
    assert figures["references"]["pong"] == {"random": -20.7, "human": 14.6, "dqn_nature": 18.9}
    assert (four[0] / "comparison.png").read_bytes().startswith(b"\x89PNG")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["breakout", "dqn_custom", "b", "1", "1", "16.10", "0.500", "1.7", "30.5", "401.2"] in lines
    assert ["pong", "dqn_custom", "a", "2", "3", "-3.05", "[-20.70,", "14.60]", "0.500", "-20.7", "14.6", "18.9"] in lines
    assert ["dqn_custom", "a", ">", "dqn_custom", "b", "0.75"] in lines


def test_the_order_of_runs_does_not_matter_to_a_label(four: list[Path]) -> None:
    one, other = (compared(*order) for order in (four, [*reversed(four)]))
    assert one["aggregates"]["mean"]["dqn_custom a"]["value"] == other["aggregates"]["mean"]["dqn_custom a"]["value"]
    pair, reverse = (figures["probability_of_improvement"] for figures in (one, other))
    assert pair["dqn_custom a > dqn_custom b"]["value"] == 1 - reverse["dqn_custom b > dqn_custom a"]["value"]


def test_same_seed_same_intervals(four: list[Path]) -> None:
    assert compared(*four) == compared(*four)


def test_labels(four: list[Path]) -> None:
    labels = ["one", "one", "one", "one", "two", "two"]
    assert list(compared(*four, "--labels", *labels)["aggregates"]["mean"]) == ["one", "two"]


def test_training_itself_where_nothing_was_evaluated(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), seed=seed, games=[0.0] * 50 + [seed] * 100) for seed in (1, 3)]
    figures = compared(*runs)
    assert figures["protocol"] == "training"
    assert [(run["score"], run["n_games"]) for run in figures["runs"]] == [(1, 100), (3, 100)]
    add_evaluation(runs[0], [5])
    assert compared(*runs, "--protocol", "training")["runs"] == figures["runs"]


def test_the_protocol_that_all_have(four: list[Path]) -> None:
    add_evaluation(four[0], [0], "machado")
    assert compared(*four)["protocol"] == "nature"
    file = four[0] / "elsewhere.json"
    add_evaluation(four[0], [21.0], file=file)
    (run, *_) = compared(four[0], "--protocol", "nature")["runs"]
    assert run["score"] == 14.6
    compare([str(file), "--json", str(four[0] / "file.json")])
    (run,) = json.loads((four[0] / "file.json").read_text())["runs"]
    assert (run["score"], run["folder"]) == (21, None)


def test_files_of_another_protocol(four: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    file = four[0] / "sticky.json"
    add_evaluation(four[0], [21.0], "machado", file)
    with pytest.raises(SystemExit):
        compare([str(file), "--protocol", "nature"])
    assert "sticky.json' has results of protocol 'machado', not of 'nature'" in capsys.readouterr().err


def test_pictures(four: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Runs without curves of their own are compared all the same."""
    (four[0] / "0.monitor.csv").unlink()
    (four[2] / "0.monitor.csv").write_text("")
    compared(*four, "-o", four[0] / "comparison.svg")
    assert "<svg" in (four[0] / "comparison.svg").read_text()
    with pytest.raises(SystemExit):
        compare([*map(str, four), "-o", str(four[0] / "comparison.doc")])
    assert "comparison.doc' must end in one of " in capsys.readouterr().err


def test_learning_curves_are_means_over_runs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "1", games=[0, 2, 4]), write_run(tmp_path / "2", seed=2, games=[10, 10, 10, 10])]
    steps, scores = mean_curve(runs, n_points=5)
    assert steps.tolist() == [100, 150, 200, 250, 300]
    # running means of the first run: 0, 1, 2
    np.testing.assert_allclose(scores.value, [5, 5.25, 5.5, 5.75, 6])
    np.testing.assert_allclose(scores.low, [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(scores.high, 10)


def test_a_run_without_a_finished_game_has_no_curve(tmp_path: Path) -> None:
    played = add_evaluation(write_run(tmp_path / "a"), [14.6])
    unfinished = add_evaluation(write_run(tmp_path / "b", "b", games=()), [-20.7])
    figures = compared(played, unfinished, "-o", tmp_path / "comparison.png")
    assert {run["score"] for run in figures["runs"]} == {14.6, -20.7}
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


@pytest.mark.parametrize("protocol", ["nature", "training"])
def test_a_run_whose_arguments_would_run_code_needs_trust(
    protocol: str, four: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    args = four[0] / PONG / "args.yml"
    marker = four[0] / "marker"
    evil = f"made_by: !!python/object/apply:os.system ['touch {marker}']\n"
    args.write_text(f"algo: dqn_custom\nenv: {PONG}\nseed: 1\nconf_file: a.yml\n{evil}")
    error = refused(capsys, *four, "--protocol", protocol)
    assert "args.yml' is refused: it holds the tag '!!python/object/apply:os.system'" in error
    assert "--trust" in error
    assert not marker.exists()
    assert compared(*four, "--protocol", protocol, "--trust")["protocol"] == protocol
    assert marker.exists(), "the check above shows something"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit):
        compare([*map(str, arguments)])
    return capsys.readouterr().err


def test_protocols_are_never_mixed(four: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    (four[5] / "evaluation_nature.json").unlink()
    assert "protocols are never mixed" in refused(capsys, *four)
    assert f"'{four[5]}' has no results of protocol 'nature'" in refused(capsys, *four, "--protocol", "nature")
    add_evaluation(four[5], [1], "machado")
    error = refused(capsys, *four)
    assert "protocols are never mixed" in error
    assert f"{four[5]}: machado" in error
    assert f"python -m sb3_atari_dqn evaluate {four[5]} --protocol nature" in refused(capsys, *four, "--protocol", "nature")
    add_evaluation(four[5], [1])
    changed = Evaluation.load(four[5] / "evaluation_nature.json")
    replace(changed, rules={**changed.rules, "epsilon": 0.0}).save(four[5] / "evaluation_nature.json", None)
    assert "protocols are never mixed" in refused(capsys, *four)
    assert "protocol 'natur' is not known; choose one of nature" in refused(capsys, *four, "--protocol", "natur")
    as_trained = add_evaluation(four[5], [1], AS_TRAINED, four[5] / "as_trained.json") / "as_trained.json"
    assert "by no protocol that others share" in refused(capsys, as_trained)


def test_training_on_different_rules_is_mixing_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=2, env_id="PongNoFrameskip-v0")]
    assert "protocols are never mixed" in refused(capsys, *runs)


def test_bad_input(four: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"'{four[0]}' is given twice" in refused(capsys, four[0], four[1], four[0])
    assert "is given twice" in refused(capsys, four[0], four[0] / ".." / four[0].name)
    again = add_evaluation(write_run(tmp_path / "again", "a"), [1])
    error = refused(capsys, *four, again)
    assert f"seed 1 of 'dqn_custom a' on pong is given twice: '{four[0]}' and '{again}'" in error
    assert "'dqn_custom b' has no run on pong" in refused(capsys, *four[:4], four[5])
    assert "--labels must give each of the 2 runs a name" in refused(capsys, *four[:2], "--labels", "one")
    assert "--seed -1 must be at least 0" in refused(capsys, *four, "--seed", "-1")
    (tmp_path / "empty").mkdir()
    assert "empty' is not the folder of a training run" in refused(capsys, tmp_path / "empty")
    assert "nothing' is neither the folder of a training run nor a file" in refused(capsys, tmp_path / "nothing")
    assert "no game has ended yet" in refused(capsys, write_run(tmp_path / "new", games=()))
    (tmp_path / "new" / "0.monitor.csv").unlink()
    assert "new' has no results: neither evaluations nor Monitor's files" in refused(capsys, tmp_path / "new")
    other = write_run(tmp_path / "other", env_id="CartPole-v1")
    assert "'CartPole-v1' is not one of ALE's games" in refused(capsys, other)
    (four[0] / "evaluation_nature.json").write_text("{}")
    assert "was not written by `evaluate --json`" in refused(capsys, *four)
