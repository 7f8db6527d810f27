"""Evaluations as files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sb3_atari_dqn.evaluation.play import Episode
from sb3_atari_dqn.evaluation.protocols import PROTOCOLS
from sb3_atari_dqn.evaluation.results import AS_TRAINED, Evaluation, check_same_protocol, rules_of

EVALUATION = Evaluation(
    protocol="nature",
    rules=rules_of(PROTOCOLS["nature"]),
    env_id="PongNoFrameskip-v4",
    label="dqn_custom pong",
    model="model.zip",
    algo="dqn_custom",
    training_seed=1,
    training_steps=1000,
    seed=0,
    episodes=(Episode(-21.0, 760, 3050, 0, 0), Episode(18.0, 1700, 6810, 1, 0)),
)


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.json"
    EVALUATION.save(path, "pong")
    assert Evaluation.load(path) == EVALUATION
    data = json.loads(path.read_text())
    assert data["game"] == "pong"
    assert data["episodes"][1] == {"score": 18.0, "steps": 1700, "frames": 6810, "env_seed": 1, "number": 0}
    assert data["summary"]["mean"] == -1.5
    assert data["summary"]["human_normalized"] == pytest.approx(19.2 / 35.3)
    assert data["summary"]["mean_95_percent"] == [-21, 18]
    assert data["versions"]["ale-py"]


def test_one_game_has_no_interval(tmp_path: Path) -> None:
    replace(EVALUATION, episodes=EVALUATION.episodes[:1]).save(tmp_path / "one.json", None)
    summary = json.loads((tmp_path / "one.json").read_text())["summary"]
    assert summary["mean_95_percent"] is None
    assert "human_normalized" not in summary


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "episodes": [{"score": 1}]}', "\x00\xff"])
def test_other_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"other.json' was not written by `evaluate --json`"):
        Evaluation.load(tmp_path / "other.json")


def test_a_format_of_another_version(tmp_path: Path) -> None:
    EVALUATION.save(tmp_path / "scores.json", "pong")
    data = json.loads((tmp_path / "scores.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps({**data, "format": 2}))
    with pytest.raises(ValueError, match="has format 2, and this version reads format 1"):
        Evaluation.load(tmp_path / "scores.json")


def test_protocols_are_never_mixed() -> None:
    check_same_protocol([EVALUATION, replace(EVALUATION, seed=1)])
    for other in (
        replace(EVALUATION, protocol="machado"),
        replace(EVALUATION, rules={**EVALUATION.rules, "epsilon": 0.001}),
    ):
        with pytest.raises(ValueError, match="protocols are never mixed"):
            check_same_protocol([EVALUATION, other])
    with pytest.raises(ValueError, match="by no protocol that others share"):
        check_same_protocol([replace(EVALUATION, protocol=AS_TRAINED)])
