"""The benchmark at small size: real learners, environments and replay memories."""

import json
from pathlib import Path
from typing import Any

import pytest

from sb3_atari_dqn.zoo.bench import LEARNERS, bench, format_table, replay_buffers


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    output = tmp_path / "figures.json"
    bench([*arguments, "--rounds", "1", "--device", "cpu", "--json", str(output)])
    return json.loads(output.read_text())


def test_learners_and_environments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = run(tmp_path, "--only", "learning", "--only", "environments", "--steps", "64", "--env", "BreakoutNoFrameskip-v4")
    assert "cores" in figures["machine"]
    assert figures["learning"].keys() == LEARNERS.keys()
    for row in figures["learning"].values():
        assert row["agent steps/s"] > 0
        assert (row["network"], row["batch"]) == ("NatureCNN", 32)
        assert row["ms/update"] > row["ms at matrix speed"] > 0
    assert {row["times SB3"] for row in figures["learning"].values()} > {1.0}
    assert list(figures["environments"]) == ["SB3's DummyVecEnv of 8", "AleVecEnv of 8"]
    assert all(row["agent steps/s"] > 0 for row in figures["environments"].values())
    printed = capsys.readouterr().out
    assert "| AleVecEnv of 8" in printed
    assert "start-up" not in printed.lower()


def test_replay_memories(tmp_path: Path) -> None:
    figures = run(tmp_path, "--only", "memory", "--transitions", "12000")["memory"]
    assert list(figures) == replay_buffers()
    for name, row in figures.items():
        assert row["ms to sample 32"] > 0, name
        assert row["us to add one"] > 0, name
    # each frame once is 7,056 bytes a transition, SB3's eight times as much; compressed ones are far smaller
    assert 50 < figures["SB3's ReplayBuffer"]["GB a million"] < 62
    assert 6.5 < figures["FrameReplayBuffer, None"]["GB a million"] < 8
    assert 0 < figures["FrameReplayBuffer, lz4"]["GB a million"] < 1


def test_sweep(tmp_path: Path) -> None:
    figures = run(tmp_path, "--only", "sweep")["sweep"]
    assert list(figures) == ["plain loop", "SweepDQN"]
    assert all(row["seconds"] > 0 for row in figures.values())


def test_start_up(tmp_path: Path) -> None:
    figures = run(tmp_path, "--only", "start-up")["start-up"]
    assert {name: row["seconds"] > 1 for name, row in figures.items()} == {
        "rl_zoo3.train --algo dqn": True,
        "rl_zoo3.train --algo dqn_custom": True,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds 0 must be at least 1"),
        (["--transitions", "7"], "--transitions 7 must be at least 8"),
        (["--env", "PongNoFrameskip-v5"], "did you mean 'PongNoFrameskip-v4'"),
        (["--only", "nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench(arguments)
    assert message in capsys.readouterr().err


def test_table() -> None:
    table = format_table({"one": {"a": 1234.5, "b": "text"}, "another": {"a": 0.01234, "b": None}})
    assert table.splitlines() == [
        "|         | a      | b    |",
        "|---------|--------|------|",
        "| one     | 1234   | text |",
        "| another | 0.0123 |      |",
    ]
