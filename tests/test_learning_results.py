"""``docs/learning_results.py``, and that the tables in the documentation are what it prints of the files beside them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.report.curves import training_scores
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluate
from tests.report.runs import train_short

REPOSITORY = Path(__file__).parents[1]
RESULTS = sorted({file.parent for file in (REPOSITORY / "docs" / "results").rglob("*.json")})


def call(*arguments: str | Path) -> str:
    script = REPOSITORY / "docs" / "learning_results.py"
    done = subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_the_documentation_has_the_tables_of_all_results(folder: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs").glob("*.md"))
    assert call("show", folder).strip() in pages
