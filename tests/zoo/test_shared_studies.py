"""Studies that workers share: a real server, real workers, one killed and one cut off; and what cannot be a storage."""

import importlib.util
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from sb3_atari_dqn.zoo import storages
from sb3_atari_dqn.zoo.storages import ConnectionLostError, SharedStorage, StudyIsFullError, connect, open_storage
from sb3_atari_dqn.zoo.studies import open_study
from sb3_atari_dqn.zoo.tuning import _Worker
from tests.waiting import LONG, wait_for
from tests.zoo.experiments import make_experiment
from tests.zoo.postgresql import PASSWORD, Cable, Server, running_server

#: seconds between two signs of life of the workers here
HEARTBEAT = 3

pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning", "ignore:Heartbeat of storage is supposed to be used with Study.optimize"
)

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'sb3-atari-dqn[postgres]'")
    with running_server() as running:
        yield running


def start_worker(folder: Path, name: str, address: str, n_trials: int, *more: str) -> "subprocess.Popen[bytes]":
    command = (
        f"rl_zoo3.train --algo dqn_custom --env CartPole-v1 -optimize --max-total-trials {n_trials} -n 1000 --num-threads 1 "
        f"--n-startup-trials 2 --n-evaluations 4 --eval-episodes 2 --no-optim-plots --study-name pole -f {folder / name}"
    )
    with (folder / f"{name}.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command.split(), "--storage", address, *more],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, storages.HEARTBEAT_VARIABLE: str(HEARTBEAT)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # who runs the tests in the background ignores it
        )


def test_a_worker_dies_and_another_loses_its_connection(server: Server, tmp_path: Path) -> None:
    n_trials = 5
    cable = Cable(server.port)
    ports = {"dies": server.port, "is_cut_off": cable.port, "stays": server.port}
    workers: dict[str, subprocess.Popen[bytes]] = {}
    study: optuna.Study | None = None

    def running(name: str) -> optuna.trial.FrozenTrial | None:
        """The trial that a worker is in the middle of."""
        nonlocal study
        if workers[name].poll() is not None:
            raise AssertionError((tmp_path / f"{name}.txt").read_text())
        if study is None:
            with suppress(ValueError):
                study = open_study(server.address(), "pole")
            return None
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if f"process {workers[name].pid} " in trial.user_attrs.get("worker", "") and trial.intermediate_values:
                return trial
        return None

    def start(name: str) -> None:
        workers[name] = start_worker(tmp_path, name, server.address(ports[name]), n_trials)

    try:
        start("dies")
        killed = wait_for(lambda: running("dies"))
        workers["dies"].kill()
        assert workers["dies"].wait(LONG) == -9

        start("is_cut_off")
        cut = wait_for(lambda: running("is_cut_off"))
        n_before = cable.n_connections
        cable.cut()
        start("stays")
        time.sleep(2.5)
        cable.mend()
        assert workers["stays"].wait(LONG) == 0, (tmp_path / "stays.txt").read_text()
        assert workers["is_cut_off"].wait(LONG) == 0, (tmp_path / "is_cut_off.txt").read_text()
    finally:
        for worker in workers.values():
            worker.kill()

    assert study is not None
    trials = study.get_trials()
    ended = [trial for trial in trials if trial.state in ENDED]
    assert len(ended) == n_trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert all(trial.value is not None for trial in ended)

    # the dead worker's trial failed, and only that, and was run again with what it had sampled
    assert [trial.number for trial in trials if trial not in ended] == [killed.number]
    assert trials[killed.number].state == TrialState.FAIL
    again = [trial for trial in trials if trial.system_attrs.get("retry_history") == [killed.number]]
    assert [(trial.state in ENDED, trial.params) for trial in again] == [(True, killed.params)]
    assert len({tuple(trial.params.values()) for trial in ended}) == n_trials

    # the one that was cut off noticed it, and ended its trial all the same
    assert cable.n_connections > n_before
    log = (tmp_path / "is_cut_off.txt").read_text()
    assert f"PostgreSQL at 127.0.0.1, port {cable.port} is not there, and is asked again" in log
    assert "is there again" in log
    assert trials[cut.number].state in ENDED

    for name in ("is_cut_off", "stays"):
        assert list((tmp_path / name / "dqn_custom").glob("report_*.csv"))
        assert PASSWORD not in (tmp_path / f"{name}.txt").read_text()
        for path in (tmp_path / name).rglob("*"):
            assert path.is_dir() or PASSWORD.encode() not in path.read_bytes(), path
    assert PASSWORD not in study.user_attrs["command"]
    assert ":***@127.0.0.1" in study.user_attrs["command"]


def test_ctrl_c_lets_a_worker_with_several_jobs_go(database: str, tmp_path: Path) -> None:
    def n_running() -> int:
        with suppress(ValueError):
            return len(open_study(database, "pole").get_trials(states=(TrialState.RUNNING,)))
        return 0

    worker = start_worker(tmp_path, "leaves", database, 10_000, "--n-jobs", "2")
    log = tmp_path / "leaves.txt"
    try:
        wait_for(lambda: worker.poll() is not None or n_running() == 2, log.read_text)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(LONG) == 0, log.read_text()
    finally:
        worker.kill()
    assert "Trials under way are finished first" in log.read_text()
    assert "Interrupted: this worker leaves the study" in log.read_text()
    assert n_running() == 0


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """Address of a database that is empty."""
    name = f"empty_{time.monotonic_ns()}"
    with psycopg_connection(server) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.address(database=name)
    with psycopg_connection(server) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def psycopg_connection(server: Server) -> Iterator[Any]:
    import psycopg

    with psycopg.connect(server.address(), autocommit=True) as connection:
        yield connection


def make_study(address: str, max_trials: int | None = None) -> tuple[SharedStorage, optuna.Study, int]:
    storage = SharedStorage(connect(address), max_trials)
    study = optuna.create_study(storage=storage, study_name="pole", direction="maximize", load_if_exists=True)
    return storage, study, storage.get_study_id_from_name("pole")


def test_never_more_trials_than_a_study_is_to_have(database: str) -> None:
    """Ten workers that find an empty database, and ask for a trial, at the same moment."""
    results: list[str] = []
    barrier = threading.Barrier(10)

    def ask() -> None:
        barrier.wait(LONG)
        _, study, _ = make_study(database, 4)
        barrier.wait(LONG)
        try:
            study.ask()
            results.append("trial")
        except StudyIsFullError:
            results.append("full")

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sorted(results) == ["full"] * 6 + ["trial"] * 4
    _, study, _ = make_study(database)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]


def test_a_failed_trial_leaves_its_place(database: str) -> None:
    storage, study, study_id = make_study(database, 1)
    trial = study.ask()
    with pytest.raises(StudyIsFullError):
        study.ask()
    assert storage.n_unfinished(study_id) == 1
    study.tell(trial, state=TrialState.FAIL)
    study.tell(study.ask(), 1.0)
    assert storage.n_unfinished(study_id) == 0
    with pytest.raises(StudyIsFullError):
        study.ask()


def test_a_worker_that_dies_before_its_first_sign_of_life(database: str) -> None:
    storage, study, _ = make_study(database, 1)
    dead = study.ask()
    optuna.storages.fail_stale_trials(study)  # sees it for the first time
    assert study.trials[dead.number].state == TrialState.RUNNING
    storage.grace_period = 0
    optuna.storages.fail_stale_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    again = study.ask()
    assert study.trials[again.number].system_attrs["retry_history"] == [dead.number]


def test_a_trial_that_kills_its_workers_is_given_up(database: str) -> None:
    storage, study, _ = make_study(database, 1)
    storage.grace_period = 0
    for _ in range(storages.MAX_RETRIES + 1):
        study.ask()
        for _ in range(2):
            optuna.storages.fail_stale_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * (storages.MAX_RETRIES + 1)


def test_a_connection_lost_between_doing_and_saying_so(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, study, _ = make_study(database)
    trial = study.ask()
    original, calls = RDBStorage.set_trial_state_values, []

    def lost_once(self: RDBStorage, *arguments: Any) -> bool:
        result = original(self, *arguments)
        calls.append(arguments)
        if len(calls) == 1:
            raise StorageInternalError from sa.exc.OperationalError("COMMIT", {}, Exception("connection lost"))
        return result

    monkeypatch.setattr(RDBStorage, "set_trial_state_values", lost_once)
    study.tell(trial, 7.0)
    assert study.trials[0].value == 7.0
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):  # that is for one who asks twice
        study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [7.0])


def test_a_connection_lost_while_trials_are_read(server: Server, database: str) -> None:
    """Optuna asks for trials in a second way then, on the connection that is lost."""
    storage, study, study_id = make_study(database)
    study.ask()
    lost: list[str] = []

    @sa.event.listens_for(storage.engine, "before_cursor_execute")
    def lose(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not lost and "FROM trials" in statement and "ORDER BY trials.trial_id" in statement:
            lost.append(statement)
            with psycopg_connection(server) as other:
                name = sa.make_url(database).database
                other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    assert [trial.number for trial in storage._get_trials(study_id, None, set(), -1)] == [0]
    assert len(lost) == 1


def test_a_trial_that_was_given_to_another_worker(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker's trial is failed while it runs, as others do after too long a silence: it goes on with another one."""
    storage, study, _ = make_study(database, 2)
    manager = make_experiment(tmp_path, "CartPole-v1", max_total_trials=2)
    numbers = []

    def run(trial: optuna.Trial) -> float:
        numbers.append(trial.number)
        if len(numbers) == 1:
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            RetryHeartbeatStaleTrialCallback()(study, study.trials[trial.number])
            trial.report(1.0, 1)
        return 1.0

    monkeypatch.setattr(manager, "objective", run)
    _Worker(study, manager, storage).run()
    assert numbers == [0, 1, 2]
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]

    def fail(trial: optuna.Trial) -> float:
        raise ValueError("of its own")

    monkeypatch.setattr(manager, "objective", fail)
    storage.max_trials = 3
    with pytest.raises(ValueError, match="of its own"):
        _Worker(study, manager, storage).run()


def test_a_server_that_stays_away(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = sa.make_url(database).port
    assert port is not None
    cable = Cable(port)
    storage, study, _ = make_study(database.replace(f":{port}/", f":{cable.port}/"))
    monkeypatch.setattr(storages, "PATIENCE", 0.3)
    cable.cut()
    with pytest.raises(ConnectionLostError, match=f"PostgreSQL at 127.0.0.1, port {cable.port} has not answered"):
        study.ask()
    cable.mend()
    assert study.ask().number == 0
    assert pickle.loads(pickle.dumps(storage)).get_all_studies()[0].study_name == "pole"  # as RL Zoo's report does


def test_a_study_that_is_not_there(database: str) -> None:
    with pytest.raises(ValueError, match=r"there are no studies in database 'empty_.*' of PostgreSQL at 127.0.0.1"):
        open_study(database, "pole")
    with sa.create_engine(connect(database)).connect() as connection:
        assert not sa.inspect(connection).get_table_names()
    make_study(database)
    with pytest.raises(ValueError, match="--study-name 'pong' is not in --storage the database; there are pole"):
        open_study(database, "pong")
    assert open_study(database, "pole").study_name == "pole"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql://tester:{secret}@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgresql://tester@127.0.0.1:{port}/postgres?password={secret}", "password authentication failed"),
        ("postgresql://tester:{password}@127.0.0.1:{port}/nothing", 'database "nothing" does not exist'),
        ("postgresql://tester:{password}@127.0.0.1:{closed}/postgres", "port {closed}: .*refused"),
        ("postgresql://tester:{password}@127.0.0.1:{mute}/postgres?connect_timeout=2", "port {mute}: .*timeout"),
        ("postgresql://tester:{password}@no.such.host.invalid/postgres", "no.such.host.invalid, port 5432"),
        ("postgresql://tester:{secret}@se@127.0.0.1/postgres", '"@" is written as "%40"'),
        ("postgresql://tester:{secret}@127.0.0.1:port/postgres", "is not an address such as postgresql://"),
        ("postgresql+nothing://tester:{secret}@127.0.0.1/postgres", "is not an address such as postgresql://"),
        ("postgresql+pg8000://tester:{secret}@127.0.0.1/postgres", "127.0.0.1, port 5432 needs the package pg8000"),
    ],
)
def test_servers_that_cannot_be_used(address: str, message: str, server: Server, tmp_path: Path) -> None:
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as mute:
        closed.bind(("127.0.0.1", 0))
        ports = {"port": server.port, "closed": closed.getsockname()[1], "mute": mute.getsockname()[1]}
        storage = address.format(**ports, password=PASSWORD, secret="xyzzy-secret")
        if "mute" not in address:
            with pytest.raises(ValueError, match=message.format(**ports)):
                open_study(storage, "pole")
        experiment = make_experiment(
            tmp_path / "logs", "CartPole-v1", optimize_hyperparameters=True, storage=storage, study_name="pole"
        )
        with pytest.raises(ValueError, match=message.format(**ports)) as error:
            experiment.setup_experiment()
    assert PASSWORD not in str(error.value)
    assert "xyzzy" not in str(error.value)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    "address", ["postgresql://tester:{}@127.0.0.1:{}/{}", "postgresql://tester@127.0.0.1:{1}/{2}?password={0}"]
)
def test_rl_zoo_is_given_an_address_without_password(
    address: str, server: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "another")  # and afterwards, as it was
    storage = address.format(PASSWORD, server.port, sa.make_url(database).database)
    experiment = make_experiment(
        tmp_path, "CartPole-v1", optimize_hyperparameters=True, storage=storage, study_name="pole", no_optim_plots=True
    )
    experiment.setup_experiment()
    assert experiment.storage is not None
    assert PASSWORD not in experiment.storage
    make_study(experiment.storage)
    assert open_study(storage, "pole").study_name == open_study(experiment.storage, "pole").study_name == "pole"


def test_says_how_to_install_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "psycopg" else find_spec(name, *rest))
    with pytest.raises(ValueError, match=re.escape("pip install 'sb3-atari-dqn[postgres]'")):
        connect("postgresql://tester@127.0.0.1/postgres")


@pytest.mark.parametrize("heartbeat", ["0", "-1", "often"])
def test_a_heartbeat_that_is_none(heartbeat: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(storages.HEARTBEAT_VARIABLE, heartbeat)
    with pytest.raises(ValueError, match="must be a whole number of seconds, at least 1"):
        SharedStorage(connect(database))


def test_other_storages_are_as_they_were(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        open_storage(f"sqlite:///{tmp_path}/nothing.db")
    address = f"sqlite:///{tmp_path}/there.db"
    optuna.create_study(storage=address, study_name="pong")
    assert open_storage(address) == address
    with pytest.raises(ValueError, match=r"--study-name 'ping' is not in --storage 'sqlite:.*; there are pong"):
        open_study(address, "ping")
