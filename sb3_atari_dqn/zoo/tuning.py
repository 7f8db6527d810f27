"""A study that several workers share, on one machine or many: what each of them does.

RL Zoo runs a study by one call of Optuna's, in which each worker counts trials for itself. That is too many where two of them
count at the same moment, and too few where one has died, whose trial counts as running for ever. Here a worker takes one trial
after the other, and the last ones wait until those of the others are finished, or have to be run again.
"""

import os
import platform
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError

from sb3_atari_dqn.zoo.passwords import hide_passwords
from sb3_atari_dqn.zoo.storages import SharedStorage, StudyIsFullError

if TYPE_CHECKING:  # it may be what is being imported while we are
    from rl_zoo3.exp_manager import ExperimentManager

#: seconds between two looks at trials of other workers, at most
_LOOK_EVERY = 5


def work(manager: "ExperimentManager", storage: SharedStorage) -> None:
    """
    Run trials of a study until it has its ``--max-total-trials``; without these, as many as this worker's ``--n-trials``.

    :param manager: the experiment
    :param storage: where the study is
    """
    sampler = manager._create_sampler(manager.sampler)
    sampler.reseed_rng()  # workers with the same --seed would try the same
    study = optuna.create_study(
        sampler=sampler,
        pruner=manager._create_pruner(manager.pruner),
        storage=storage,
        study_name=manager.study_name,
        load_if_exists=True,
        direction="maximize",
    )
    manager.study_name = study.study_name
    _say_what_it_is(study, manager)
    if manager.max_total_trials is None:
        print(f"This worker runs {manager.n_trials} trials; with --max-total-trials, that is what all workers run together")
    worker = _Worker(study, manager, storage)
    try:
        if manager.n_jobs == 1:
            worker.run()
            return
        n_jobs = manager.n_jobs if manager.n_jobs > 0 else os.cpu_count() or 1
        with ThreadPoolExecutor(n_jobs) as pool:
            try:
                for future in [pool.submit(worker.run) for _ in range(n_jobs)]:
                    future.result()
            except BaseException:
                worker.leave()
                print("Trials under way are finished first; once more ends at once")
                raise
    except KeyboardInterrupt:
        print("Interrupted: this worker leaves the study, and others may go on with it")


def _say_what_it_is(study: optuna.Study, manager: "ExperimentManager") -> None:
    """What RL Zoo notes in a study, but for the database's password."""
    if "command" not in study.user_attrs:
        study.set_user_attr("command", " ".join(map(hide_passwords, sys.orig_argv)))
        for key in sorted(manager._hyperparams):
            study.set_user_attr(key, str(manager._hyperparams[key]))


class _Worker:
    """
    Takes trials and runs them, in as many threads as call ``run``.

    :param study: what they are trials of
    :param manager: runs them
    :param storage: where the study is
    """

    def __init__(self, study: optuna.Study, manager: "ExperimentManager", storage: SharedStorage) -> None:
        self._study = study
        self._manager = manager
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._lock = threading.Lock()
        self._left = manager.n_trials if manager.max_total_trials is None else None
        self._local = threading.local()
        self._leaves = False

    def leave(self) -> None:
        """Start no more trials."""
        self._leaves = True

    def run(self) -> None:
        """Run trials until there are enough."""
        has_waited = False
        while self._may_start():
            self._local.is_taken = False
            try:
                with self._storage.one_at_a_time(self._study_id), warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    optuna.storages.fail_stale_trials(self._study)  # these run again, so nobody else may take their place
                self._study.optimize(self._objective, n_trials=1, gc_after_trial=True)
            except StudyIsFullError:
                n_unfinished = self._storage.n_unfinished(self._study_id)
                if n_unfinished == 0:
                    return
                if not has_waited:
                    print(f"All trials are under way; waiting for the last {n_unfinished}, in case a worker dies")
                    has_waited = True
                time.sleep(min(self._storage.heartbeat_interval or _LOOK_EVERY, _LOOK_EVERY))
            except (ValueError, UpdateFinishedTrialError) as error:  # a finished trial cannot be told how it ended
                if not self._local.is_taken and not isinstance(error, UpdateFinishedTrialError):
                    raise
                print("The connection was away for so long that another worker was given this trial", file=sys.stderr)

    def _may_start(self) -> bool:
        if self._leaves:
            return False
        if self._left is None:
            return True
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _objective(self, trial: optuna.Trial) -> float:
        try:
            trial.set_user_attr("worker", f"process {os.getpid()} on {platform.node()}")
            return self._manager.objective(trial)
        except UpdateFinishedTrialError:
            self._local.is_taken = True
            raise
        finally:
            if self._storage.get_trial(trial._trial_id).state.is_finished():
                self._local.is_taken = True
