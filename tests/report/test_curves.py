"""Learning curves from the files that Monitor writes."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.monitor import LoadMonitorResultsError, ResultsWriter

from sb3_atari_dqn.report.curves import plot_scores, read_evaluations, training_scores
from sb3_atari_dqn.zoo.plot import plot


def write_run(folder: Path) -> None:
    """Two environments, games ending in turns."""
    for index, rows in enumerate([[(-21, 400, 1.0), (-19, 800, 3.0)], [(-20, 600, 2.0)]]):
        writer = ResultsWriter(str(folder / str(index)), {"t_start": 0.0, "env_id": "PongNoFrameskip-v4"})
        for score, length, seconds in rows:
            writer.write_row({"r": score, "l": length, "t": seconds})
        writer.close()


def test_games_of_all_environments_in_the_order_they_ended(tmp_path: Path) -> None:
    write_run(tmp_path)
    games = training_scores(tmp_path)
    assert games["steps"].tolist() == [200, 300, 600]  # two environments, 100, 150 and 300 steps of four frames each
    assert games["score"].tolist() == [-21, -20, -19]
    assert games["mean"].tolist() == [-21, -20.5, -20]


def test_games_that_an_interruption_cut_do_not_set_others_back(tmp_path: Path) -> None:
    for index, rows in enumerate([[(-21, 400, 1.0), (-20, 1600, 8.0)], [(-19, 600, 2.0), (-18, 200, 9.0)]]):
        writer = ResultsWriter(str(tmp_path / str(index)), {"t_start": 0.0, "env_id": "PongNoFrameskip-v4"})
        for score, length, seconds in rows:
            writer.write_row({"r": score, "l": length, "t": seconds})
        writer.close()
    games = training_scores(tmp_path)
    assert games["score"].tolist() == [-21, -19, -20, -18]
    assert games["steps"].tolist() == [200, 300, 1000, 1000]  # the last game began at step 450 of its environment, not at 150


def test_a_folder_whose_name_has_brackets(tmp_path: Path) -> None:
    run = tmp_path / "n [3]"
    run.mkdir()
    write_run(run)
    assert len(training_scores(run)) == 3


def test_a_step_is_a_frame_where_nothing_is_skipped(tmp_path: Path) -> None:
    writer = ResultsWriter(str(tmp_path / "0"), {"t_start": 0.0, "env_id": "CartPole-v1"})
    writer.write_row({"r": 30, "l": 30, "t": 1.0})
    writer.close()
    assert training_scores(tmp_path)["steps"].tolist() == [30]


def lines_of(**runs: Path) -> list[tuple[str, list[list[float]]]]:
    lines = plot_scores(runs).axes[0].lines
    return [(str(line.get_label()), np.asarray(line.get_xydata()).tolist()) for line in lines]


def test_picture_shows_games_and_evaluations(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert len(lines_of(pong=tmp_path)) == 2
    np.savez(tmp_path / "evaluations.npz", timesteps=[200, 400], results=[[-21, -19], [-18, -16]], ep_lengths=[[1, 1], [1, 1]])
    games, mean, evaluations = lines_of(pong=tmp_path)
    assert games[1] == [[200, -21], [300, -20], [600, -19]]
    assert mean == ("pong, mean of 30 games", [[200, -21], [300, -20.5], [600, -20]])
    assert evaluations == ("pong, evaluations", [[200, -20], [400, -17]])


def test_evaluations_that_are_just_being_written(tmp_path: Path) -> None:
    write_run(tmp_path)
    np.savez(tmp_path / "evaluations.npz", timesteps=[200], results=[[-21, -19]])
    whole = (tmp_path / "evaluations.npz").read_bytes()
    for n_bytes in (0, 100, len(whole) - 10):
        (tmp_path / "evaluations.npz").write_bytes(whole[:n_bytes])
        with pytest.raises(ValueError, match="damaged, or just being written"):
            read_evaluations(tmp_path)
        with pytest.warns(UserWarning, match="evaluations of .* are not shown"):
            assert len(lines_of(pong=tmp_path)) == 2
    with (tmp_path / "evaluations.npz").open("wb") as file:
        np.save(file, np.zeros(3))  # one array, not a file of several
    with pytest.raises(ValueError, match="damaged, or just being written"):
        read_evaluations(tmp_path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path)
    for output, message in (("curve.doc", "must end in one of"), (".", "is a folder")):
        with pytest.raises(SystemExit):
            plot([str(tmp_path), "-o", str(tmp_path / output)])
        assert message in capsys.readouterr().err
    next(tmp_path.glob("*monitor.csv")).write_text("nonsense\n")
    with pytest.raises(SystemExit):
        plot([str(tmp_path)])
    assert "Monitor's files in" in capsys.readouterr().err


def test_command_writes_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path)
    plot([str(tmp_path)])
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert f"{tmp_path.name}: 3 games, mean of up to 30 from -20.0 to -20.0" in capsys.readouterr().out
    plot([str(tmp_path), "-o", str(tmp_path / "curve.svg")])
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_several_runs_in_one_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [tmp_path / "first", tmp_path / "second"]
    for run in runs:
        run.mkdir()
        write_run(run)
    assert [label for label, _ in lines_of(one=runs[0], two=runs[1])][1::2] == [
        "one, mean of 30 games",
        "two, mean of 30 games",
    ]
    plot([*map(str, runs), "--labels", "seed 1", "seed 2", "-o", str(tmp_path / "both.png")])
    assert (tmp_path / "both.png").is_file()
    assert "seed 1: 3 games" in capsys.readouterr().out
    for labels in (["one"], ["same", "same"]):
        with pytest.raises(SystemExit):
            plot([*map(str, runs), "--labels", *labels])
        assert "--labels must give each of the 2 runs a name of its own" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadMonitorResultsError):
        training_scores(tmp_path)
    with pytest.raises(SystemExit):
        plot([str(tmp_path)])
    assert "is not the folder of a training run" in capsys.readouterr().err
    ResultsWriter(str(tmp_path / "0"), {"t_start": 0.0, "env_id": "PongNoFrameskip-v4"}).close()
    with pytest.raises(SystemExit):
        plot([str(tmp_path)])
    assert "no game" in capsys.readouterr().err
