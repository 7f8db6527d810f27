"""Passwords of databases are neither shown nor written."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from rl_zoo3.exp_manager import ExperimentManager

from sb3_atari_dqn.zoo import report as report_command
from sb3_atari_dqn.zoo.passwords import hidden_in_command, hide_passwords
from sb3_atari_dqn.zoo.register import register
from sb3_atari_dqn.zoo.runs import find_run
from sb3_atari_dqn.zoo.studies import open_study

register()

SECRET = "xyzzy-%40secret"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"postgresql://tuner:{SECRET}@host:5432/studies", "postgresql://tuner:***@host:5432/studies"),
        (
            f"train --storage mysql+pymysql://u:{SECRET}@host/db --seed 1",
            "train --storage mysql+pymysql://u:***@host/db --seed 1",
        ),
        (f"postgresql://host/db?user=u&password={SECRET}&x=1", "postgresql://host/db?user=u&password=***&x=1"),
        ("postgresql://tuner:pa@ss:wo/rd@host/db", "postgresql://tuner:***@host/db"),  # not encoded as it ought to be
        ("--storage=postgresql://tuner:pass word@host/db", "--storage=postgresql://tuner:***@host/db"),
        ("postgresql://me@work:secret@host/db", "postgresql://me@work:***@host/db"),
        ("postgresql://:secret@host:port/db", "postgresql://:***@host:port/db"),
        ("mysql://host/db?ssl_passwd=secret&x=1", "mysql://host/db?ssl_passwd=***&x=1"),
        ("postgresql://tuner@host:5432/db?application_name=x", "postgresql://tuner@host:5432/db?application_name=x"),
        ("http://localhost:6006", "http://localhost:6006"),
        ("sqlite:///tune.db", "sqlite:///tune.db"),
        ("postgresql://tuner@host/studies", "postgresql://tuner@host/studies"),
        ("logs at 12:30@home", "logs at 12:30@home"),
    ],
)
def test_passwords_are_hidden(text: str, hidden: str) -> None:
    assert hide_passwords(text) == hidden


def test_runs_and_their_reports_have_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = f"postgresql://tuner:{SECRET}@host:5432/studies"
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "rl_zoo3.train", "--storage", storage])
    hyperparams: dict[str, Any] = {"buffer_size": 100, "learning_starts": 10, "policy_kwargs": {"net_arch": [4]}}
    args = Namespace(algo="dqn_custom", env="CartPole-v1", seed=1, storage=storage, study_name="pole", hyperparams=hyperparams)
    args.command = f"python -m rl_zoo3.train --track --storage {storage}"  # RL Zoo's, with --track
    experiment = ExperimentManager(
        args,
        "dqn_custom",
        "CartPole-v1",
        str(tmp_path),
        n_timesteps=50,
        seed=1,
        hyperparams=hyperparams,
        storage=storage,
        verbose=0,
    )
    assert experiment.setup_experiment() is not None
    assert args.storage == storage
    run = Path(experiment.save_path)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"args.yml", "command.txt"} <= {path.name for path in files}
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    assert "postgresql://tuner:***@host:5432/studies" in (run / "CartPole-v1" / "command.txt").read_text()

    # a run of before
    args_file = run / "CartPole-v1" / "args.yml"
    args_file.write_text(args_file.read_text().replace("***", SECRET))
    data = report_command.collect(find_run(run), None, [], 0)
    assert SECRET not in str(data)
    assert "tuner:***@host" in str(data["configuration"]["arguments"])


def test_errors_have_no_password() -> None:
    with pytest.raises(ValueError, match=r"--storage .* cannot be opened") as error:
        open_study(f"mysql://tuner:{SECRET}@127.0.0.1:1/studies", "pole")
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


def test_commands_have_passwords_again_when_rl_zoo_has_written_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python", f"--storage=postgresql://tuner:{SECRET}@host/studies"])
    with hidden_in_command():
        assert sys.orig_argv == ["python", "--storage=postgresql://tuner:***@host/studies"]
    assert SECRET in sys.orig_argv[1]
