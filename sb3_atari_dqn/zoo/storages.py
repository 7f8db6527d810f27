"""Where studies are kept: memory, SQLite's file, a journal file, or a PostgreSQL server that workers on many machines share.

What Optuna's storage lacks for the last is here. A worker may die at any moment, and so may a connection:

- A trial whose worker gives no sign of life is failed, and waits to be run again.
- A call that finds no connection is made again until there is one.
- A study of N trials gets N of them: whether there is room for one more is asked, and the trial made, by one worker at a time.
"""

import contextlib
import functools
import importlib.util
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from sb3_atari_dqn.checks import check_whole_number
from sb3_atari_dqn.zoo.answers import failure_of
from sb3_atari_dqn.zoo.passwords import hide_passwords

#: seconds between two signs of life of a trial; all workers of a study need the same
HEARTBEAT_VARIABLE = "SB3_ATARI_DQN_HEARTBEAT"
HEARTBEAT = 30

#: a trial is given up after this many intervals without one
GRACE = 4

#: how often a trial is run again whose worker died: it may be the trial that kills them
MAX_RETRIES = 3

#: seconds for which a call is made again when the connection is lost later on
PATIENCE = 300

#: what Optuna calls on its storage, directly and through its cache
_CALLS = (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "get_trial",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "record_heartbeat",
    "_create_new_trial",
    "_set_trial_param",
    "_get_trials",
    "_get_best_trial_id",
    "_get_stale_trial_ids",
    "n_unfinished",
)

#: any number that no other program takes for its advisory locks; the second number is the study's, which count from 1
_LOCKS = 1_395_802_951
_LOCK_OF_TABLES = 0

#: what is raised when a connection is lost; the last one if somebody asks again in the same transaction, as Optuna may
_SIGNS_OF_LOSS = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.PendingRollbackError)

_Result = TypeVar("_Result")


class StudyIsFullError(Exception):
    """All trials that a study is to have are finished, running, or waiting to be run."""


class ConnectionLostError(RuntimeError):
    """The database has not answered for longer than anybody wants to wait."""


def is_postgresql(address: str) -> bool:
    """
    :param address: as RL Zoo's ``--storage``
    :return: whether it is that of a PostgreSQL server
    """
    return address.partition(":")[0].partition("+")[0] in ("postgresql", "postgres")


def open_storage(address: str) -> str | BaseStorage:
    """
    :param address: as RL Zoo's ``--storage``: a database's address, or a journal file that ends in ``.log``
    :return: what Optuna takes for a storage that is there already
    :raises ValueError: if it is not there, or the server does not answer in time
    """
    if is_postgresql(address):
        url = connect(address)
        with _engine(url).connect() as connection:
            if not sa.inspect(connection).has_table("studies"):
                raise ValueError(f"--storage: there are no studies in database {url.database!r} of {server_of(url)}")
        return SharedStorage(url)
    file = Path(address.removeprefix("sqlite:///").partition("?")[0])
    if (address.startswith("sqlite:///") or address.endswith(".log")) and not file.is_file():  # opening it would make it
        raise ValueError(f"--storage {hide_passwords(address)!r}: there is no file {hide_passwords(str(file))!r}")
    return JournalStorage(JournalFileBackend(address)) if address.endswith(".log") else address


def connect(address: str) -> sa.URL:
    """
    Find out whether a PostgreSQL server can be used.

    :param address: of a database on it, ``postgresql://user:password@host:port/database``
    :return: the address with its driver
    :raises ValueError: if the driver is not installed, the address is none, or the server does not answer in time; the
        password is never named
    """
    try:
        url = sa.make_url(address)
        if url.drivername in ("postgresql", "postgres"):  # which driver that is depends on SQLAlchemy's version
            url = url.set(drivername="postgresql+psycopg")
        driver = url.get_dialect().driver
        has_driver = importlib.util.find_spec(driver) is not None
    except (sa.exc.ArgumentError, ValueError):  # their texts may hold the whole address
        raise ValueError("--storage is not an address such as postgresql://user@host:5432/database") from None
    if "@" in (url.host or ""):
        raise ValueError('--storage: in a password, "@" is written as "%40"')
    if not has_driver:
        install = "'sb3-atari-dqn[postgres]'" if driver == "psycopg" else driver
        raise ValueError(f"--storage: {server_of(url)} needs the package {driver}: pip install {install}")
    engine = _engine(url)
    failure = failure_of(lambda: engine.connect().close())
    if failure is not None:
        raise ValueError(f"--storage: no connection to {server_of(url)}: {_reason(failure, url)}")
    return url


def server_of(url: sa.URL) -> str:
    """
    :param url: of a database
    :return: server and port, to show
    """
    host, port = (
        in_address or url.query.get(name) or os.environ.get(variable) or default
        for name, in_address, variable, default in (
            ("host", url.host, "PGHOST", "this machine"),
            ("port", url.port, "PGPORT", "5432"),
        )
    )
    return f"PostgreSQL at {host}, port {port}"


def _reason(error: BaseException, url: sa.URL) -> str:
    """What the driver says, in one line."""
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    for password in (url.password, url.query.get("password")):
        text = text.replace(str(password), "***") if password else text
    return text


def _engine(url: sa.URL) -> sa.Engine:
    """One that keeps no connections."""
    return sa.create_engine(url, poolclass=sa.NullPool, connect_args=_connect_args(url))


def _connect_args(url: sa.URL) -> dict[str, Any]:
    """Arguments of the driver that the address does not give: when a connection counts as lost."""
    wanted = {
        "connect_timeout": 5,  # seconds, for each address of a host
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,  # milliseconds
        "application_name": "sb3_atari_dqn",
    }
    return {name: value for name, value in wanted.items() if name not in url.query}


def _heartbeat() -> int:
    """
    :return: seconds between two signs of life
    :raises ValueError: if the environment's variable says something else
    """
    text = os.environ.get(HEARTBEAT_VARIABLE, str(HEARTBEAT))
    check_whole_number({HEARTBEAT_VARIABLE: int(text) if text.isdecimal() else text}, HEARTBEAT_VARIABLE, 1, "seconds")
    return int(text)


def _set_timeouts(connection: Any, record: Any) -> None:
    """Let the server notice soon that a worker with a lock is gone, whose machine did not say good-bye."""
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '60s'")
        for name, seconds in (("idle", 10), ("interval", 5), ("count", 3)):
            cursor.execute(f"SET tcp_keepalives_{name} = {seconds}")
    connection.commit()


class SharedStorage(RDBStorage):
    """
    Optuna's storage in a PostgreSQL database, for workers that come and go.

    :param url: of the database, after ``connect``
    :param max_trials: how many trials a study may have that are finished, but not failed, or running, or waiting to be run;
        None for any number
    """

    def __init__(self, url: sa.URL, max_trials: int | None = None) -> None:
        self.max_trials = max_trials
        self.server = server_of(url)
        self._local = threading.local()
        self._is_lost = False
        self._without_sign: dict[int, float] = {}
        heartbeat = _heartbeat()
        with _engine(url).connect() as connection, warnings.catch_warnings():
            # several workers may find an empty database
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCKS, _LOCK_OF_TABLES)))
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(
                url.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True, "connect_args": _connect_args(url)},
                heartbeat_interval=heartbeat,
                grace_period=GRACE * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
        sa.event.listen(self.engine, "connect", _set_timeouts)
        self.engine.dispose()

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "_local": None}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__({**state, "_local": threading.local()})

    @contextlib.contextmanager
    def one_at_a_time(self, study_id: int) -> Iterator[None]:
        """
        A context that one worker of a study can be in; within one thread it can be nested.

        :param study_id: Optuna's number of the study
        """
        if getattr(self._local, "is_inside", False):
            yield
            return
        connection = self.patiently(lambda: self._lock(study_id))
        self._local.is_inside = True
        try:
            yield
        finally:
            self._local.is_inside = False
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # what was done is done; a lost connection has no lock
                connection.close()

    def _lock(self, study_id: int) -> sa.Connection:
        """The lock is that of a transaction: the server lets go of it when the connection ends, however it ends."""
        connection = self.engine.connect()
        try:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCKS, study_id)))
        except BaseException:
            connection.close()
            raise
        return connection

    def n_unfinished(self, study_id: int) -> int:
        """
        :param study_id: Optuna's number of the study
        :return: trials that are running, or waiting to be run
        """
        return self._count(study_id, "'RUNNING', 'WAITING'")

    def _count(self, study_id: int, states: str) -> int:
        query = sa.text(f"SELECT count(*) FROM trials WHERE study_id = :study_id AND state IN ({states})")
        with self.engine.connect() as connection:
            return int(connection.execute(query, {"study_id": study_id}).scalar_one())

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        with self.one_at_a_time(study_id):
            if self.max_trials is not None:
                n_trials = self._count(study_id, "'COMPLETE', 'PRUNED', 'RUNNING', 'WAITING'")
                if n_trials >= self.max_trials:
                    raise StudyIsFullError
            return super()._create_new_trial(study_id, template_trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        try:
            return super().set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            trial = self.get_trial(trial_id)
            # the connection was lost between the server's doing it and its saying so
            if getattr(self._local, "is_repeated", False) and trial.state == state and trial.values == values:
                return True
            raise

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """
        :param study_id: Optuna's number of the study
        :return: trials without a sign of life; also those whose worker died before the first one, which Optuna leaves out:
            they are given the same time from when they are first seen
        """
        stale = super()._get_stale_trial_ids(study_id)
        query = sa.text(
            "SELECT trial_id FROM trials WHERE study_id = :study_id AND state = 'RUNNING' "
            "AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
        )
        with self.engine.connect() as connection:
            without_sign = set(connection.execute(query, {"study_id": study_id}).scalars())
        now = time.monotonic()
        self._without_sign = {trial_id: self._without_sign.get(trial_id, now) for trial_id in without_sign}
        assert self.grace_period is not None
        return stale + [trial_id for trial_id, since in self._without_sign.items() if now - since > self.grace_period]

    def patiently(self, call: Callable[[], _Result]) -> _Result:
        """
        :param call: that needs the database
        :return: what it returns, after as many attempts as it takes
        :raises ConnectionLostError: if the connection stays away for ``PATIENCE`` seconds
        """
        start = time.monotonic()
        pause = 0.1
        while True:
            try:
                result = call()
            except (StorageInternalError, sa.exc.DBAPIError) as error:
                reason = error.__cause__ if isinstance(error, StorageInternalError) else error
                if not isinstance(reason, _SIGNS_OF_LOSS):
                    raise
                url = self.engine.url
                if time.monotonic() - start > PATIENCE:
                    message = f"{self.server} has not answered for {PATIENCE} seconds: {_reason(reason, url)}"
                    raise ConnectionLostError(message) from None
                if not self._is_lost:
                    self._is_lost = True
                    print(f"{self.server} is not there, and is asked again: {_reason(reason, url)}", file=sys.stderr)
                self._local.is_repeated = True
                time.sleep(pause * (1 + random.random()))  # not all workers at the same moment
                pause = min(2 * pause, 5.0)
            else:
                if self._is_lost:
                    self._is_lost = False
                    print(f"{self.server} is there again", file=sys.stderr)
                return result


def _patient(method: Callable[..., _Result]) -> Callable[..., _Result]:
    @functools.wraps(method)
    def call(self: SharedStorage, *args: Any, **kwargs: Any) -> _Result:
        if getattr(self._local, "is_patient", False):  # one method calls another: the outer one is made again
            return method(self, *args, **kwargs)
        self._local.is_patient = True
        self._local.is_repeated = False
        try:
            return self.patiently(lambda: method(self, *args, **kwargs))
        finally:
            self._local.is_patient = False

    return call


for _name in _CALLS:
    setattr(SharedStorage, _name, _patient(getattr(SharedStorage, _name)))
