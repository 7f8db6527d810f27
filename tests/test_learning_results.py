"""``docs/learning_results.py``, and that the tables in the documentation are what it prints of the files beside them."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.report.curves import training_scores
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.presets import presets
from sb3_atari_dqn.zoo.run_files import read_args
from tests.report.runs import train_short

REPOSITORY = Path(__file__).parents[1]
RESULTS = sorted({file.parent for file in (REPOSITORY / "docs" / "results").rglob("*.json")})


def call(*arguments: str | Path) -> str:
    script = REPOSITORY / "docs" / "learning_results.py"
    done = subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_minutes_are_those_of_the_training_not_of_its_pauses() -> None:
    without_pauses = runpy.run_path(str(REPOSITORY / "docs" / "learning_results.py"))["without_pauses"]
    assert without_pauses(pd.Series([10.0, 70.0, 600.0, 3000.0, 3060.0])).tolist() == [10, 70, 600, 600, 660]


def test_collects_and_shows_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_short(tmp_path / "logs")
    evaluate([str(run), "--protocol", "nature", "--episodes", "3"])
    collected = call(
        "collect", run, "--machine", "2 cores", "--commit", "abc", "--label", "C51", "--into", tmp_path / "results"
    )
    file = tmp_path / "results" / "C51_seed_1.json"
    assert collected.split() == [str(file)]

    played = Evaluation.load(run / "evaluation_nature.json")
    assert Evaluation.load(file).episodes == played.episodes
    result = json.loads(file.read_text())
    assert (result["label"], result["model"]) == ("C51", "BreakoutNoFrameskip-v4.zip")
    training = result["training"]
    assert str(tmp_path) not in file.read_text()
    assert training["command"].startswith(
        "python -m rl_zoo3.train --algo dqn_custom --env BreakoutNoFrameskip-v4 --seed 1 -n 400 -params "
    )
    assert (training["machine"], training["commit"]) == ("2 cores", "abc")
    games = training_scores(run)
    assert training["curve"]["steps"][-1] == games["steps"].iloc[-1]
    assert training["curve"]["minutes"][-1] == pytest.approx(games["seconds"].iloc[-1] / 60, abs=0.005)
    assert training["curve"]["score"][-1] == pytest.approx(games["mean"].iloc[-1], abs=0.005)

    with np.load(run / "evaluations.npz") as arrays:
        evaluated = dict(zip(arrays["timesteps"].tolist(), arrays["results"].mean(axis=1), strict=True))
    assert dict(zip(*training["evaluations"].values(), strict=True)) == pytest.approx(evaluated, abs=0.005)

    table = call("show", tmp_path / "results", "-o", tmp_path / "curves.png").splitlines()
    scores = played.scores
    assert table[2].startswith(
        f"| C51 | 1 | 400 | {scores.mean():.2f} | {scores.std():.2f} | {scores.min():g} | {scores.max():g} |"
    )
    assert table[-3] == f"| | seed | {' | '.join(f'{step:,}' for step in evaluated)} steps |"
    assert table[-1] == f"| C51 | 1 | {' | '.join(f'{score:.1f}' for score in evaluated.values())} |"
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    compare([str(file)])
    assert "C51" in capsys.readouterr().out

    training["curve"] = {"steps": [100, 320], "minutes": [2.5, 8.0], "score": [0.0, 1.0]}  # 80 steps after the last game
    file.write_text(json.dumps(result))
    assert call("show", tmp_path / "results").splitlines()[2].split(" | ")[-2:] == ["10.0", "1.00 |"]


def test_the_command_names_what_a_run_was_made_of(tmp_path: Path) -> None:
    """A preset by its name wherever its file was, the user's own file by its path, nothing for the algorithm's default."""
    run = train_short(tmp_path / "logs")
    evaluate([str(run), "--protocol", "nature", "--episodes", "1"])
    own = tmp_path / "double.yml"
    own.write_text("atari: {}")
    elsewhere = tmp_path / "elsewhere" / "pong.yml"
    elsewhere.parent.mkdir()
    shutil.copy(presets()["pong"], elsewhere)
    arguments = run / "BreakoutNoFrameskip-v4" / "args.yml"
    args = read_args(arguments, trust=True)
    for conf_file, option in (
        (str(own), f"--conf-file {own} "),
        (str(elsewhere), "--conf-file pong "),
        ("/gone/c51.yml", "--conf-file c51 "),
        (str(presets()["dqn_custom"]), ""),
    ):
        arguments.write_text(yaml.safe_dump(dict(args) | {"conf_file": conf_file, "env_kwargs": {"frameskip": 1}}))
        file = call(
            "collect", run, "--machine", "2 cores", "--commit", "abc", "--label", "C51", "--into", tmp_path / "results"
        )
        command = json.loads(Path(file.strip()).read_text())["training"]["command"]
        assert f"--env BreakoutNoFrameskip-v4 {option}--seed 1 -n 400 " in command
        assert " --env-kwargs frameskip:1 -params " in command
    other = json.loads(Path(file.strip()).read_text()) | {"env_id": "PongNoFrameskip-v4"}
    Path(file.strip()).write_text(json.dumps(other))
    with pytest.raises(AssertionError, match="is of PongNoFrameskip-v4, not of BreakoutNoFrameskip-v4: give each game"):
        call("collect", run, "--machine", "2 cores", "--commit", "abc", "--label", "C51", "--into", tmp_path / "results")


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_the_documentation_has_the_tables_of_all_results(folder: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs").glob("*.md"))
    assert call("show", folder).strip() in pages
