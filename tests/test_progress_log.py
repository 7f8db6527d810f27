"""What the logger prints, as a file that goes on."""

from pathlib import Path

import pandas as pd
import pytest
from stable_baselines3.common.logger import HumanOutputFormat, Logger

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.progress_log import FILE, ProgressLog, ProgressLogCallback, last_steps


def test_a_column_that_comes_later_stands_behind_the_others(tmp_path: Path) -> None:
    logger = Logger(None, [ProgressLog(tmp_path, 0)])
    logger.record("train/loss", 0.5)
    logger.record("note", "text is left out")
    logger.record("hidden", 1, exclude="csv")
    logger.dump(10)
    logger.record("eval/mean_reward", 3)
    logger.dump(20)
    logger.record("train/loss", 0.25)
    logger.dump(30)
    assert (tmp_path / FILE).read_text().splitlines() == [
        "steps,train/loss,eval/mean_reward",
        "10,0.5,",
        "20,,3.0",
        "30,0.25,",
    ]
    table = pd.read_csv(tmp_path / FILE)
    assert table["train/loss"].dropna().tolist() == [0.5, 0.25]


def test_goes_on_where_a_checkpoint_stands(tmp_path: Path) -> None:
    first = ProgressLog(tmp_path, 0)
    for steps in (10, 20, 30):
        first.write({"train/loss": steps / 100}, {"train/loss": ()}, steps)
    with (tmp_path / FILE).open("a") as file:
        file.write("40,0.")  # killed while it wrote
    assert [row["steps"] for row in ProgressLog.read(tmp_path)] == [10, 20, 30]
    second = ProgressLog(tmp_path, 20)
    second.write({"train/loss": 7.0}, {"train/loss": ()}, 25)
    assert ProgressLog.read(tmp_path) == [
        {"steps": 10, "train/loss": 0.1},
        {"steps": 20, "train/loss": 0.2},
        {"steps": 25, "train/loss": 7.0},
    ]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_rows_of_one_step_are_told_apart(tmp_path: Path) -> None:
    """``dqn_sweep`` writes several at the step at which it fits, and its checkpoint may be between them."""
    numbers: list[int] = []
    first = ProgressLog(tmp_path, 0, tell=numbers.append)
    for loss in (0.1, 0.2, 0.3):
        first.write({"train/loss": loss}, {"train/loss": ()}, 10)
    assert numbers == [0, 1, 2, 3]
    second = ProgressLog(tmp_path, 10, n_rows=2, tell=numbers.append)
    second.write({"train/loss": 0.3}, {"train/loss": ()}, 10)
    assert numbers[4:] == [2, 3]
    assert [row["train/loss"] for row in ProgressLog.read(tmp_path)] == [0.1, 0.2, 0.3]


def test_another_kind_of_file_is_named(tmp_path: Path) -> None:
    assert ProgressLog.read(tmp_path) == []
    (tmp_path / FILE).write_text("loss,epsilon\n1,2\n")
    with pytest.raises(ValueError, match=r"progress.csv' was not written by a training of this package"):
        ProgressLog.read(tmp_path)


def test_how_far_a_run_is(tmp_path: Path) -> None:
    assert last_steps(tmp_path) == 0
    log = ProgressLog(tmp_path, 0)
    assert last_steps(tmp_path) == 0
    for steps in range(5, 5_000, 5):
        log.write({"train/loss": 1 / 3, "eval/mean_reward": 2 / 3}, {"train/loss": (), "eval/mean_reward": ()}, steps)
        assert last_steps(tmp_path) == steps
    assert log.path.stat().st_size > 40_000, "more than is read"
    with log.path.open("a") as file:
        file.write("5000,0.")  # is being written
    assert last_steps(tmp_path) == 4_995
    log.path.write_text("loss,epsilon\n1.5,2\n")
    assert last_steps(tmp_path) == 0


def test_stands_beside_the_other_outputs_however_often_training_begins(tmp_path: Path) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=500, learning_starts=50, verbose=1)
    model.learn(120, callback=ProgressLogCallback(str(tmp_path)), log_interval=1)
    n_rows = len(ProgressLog.read(tmp_path))
    assert n_rows >= 2
    model.learn(120, callback=ProgressLogCallback(str(tmp_path)), log_interval=1, reset_num_timesteps=False)
    rows = ProgressLog.read(tmp_path)
    assert len(rows) > n_rows
    assert sorted(row["steps"] for row in rows) == [row["steps"] for row in rows]
    assert {"train/loss", "train/q_values_mean", "rollout/exploration_rate", "time/fps"} <= rows[-1].keys()
    assert [type(output) for output in model.logger.output_formats] == [HumanOutputFormat, ProgressLog]
