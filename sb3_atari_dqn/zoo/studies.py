"""Optuna's studies, as RL Zoo names them on the command line."""

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sb3_atari_dqn.zoo.search_space import SearchSpace


def open_study(storage: str, study_name: str) -> optuna.Study:
    """
    :param storage: as RL Zoo's ``--storage``: a database's address, or a journal file that ends in ``.log``
    :param study_name: name of the study
    :return: the study
    :raises ValueError: if it is not there
    """
    file = Path(storage.removeprefix("sqlite:///").partition("?")[0])
    if (storage.startswith("sqlite:///") or storage.endswith(".log")) and not file.is_file():  # opening it would make it
        raise ValueError(f"--storage {storage!r}: there is no file {str(file)!r}")
    try:
        opened = JournalStorage(JournalFileBackend(storage)) if storage.endswith(".log") else storage
        return optuna.load_study(study_name=study_name, storage=opened)
    except KeyError:
        raise ValueError(f"--study-name {study_name!r} is not in --storage {storage!r}") from None
    except Exception as error:  # whatever a database's driver raises
        raise ValueError(f"--storage {storage!r} cannot be opened: {error}") from error


def trial_hyperparams(study: optuna.Study, trial_id: int, space: SearchSpace) -> dict[str, Any]:
    """
    :param study: a study of one of our algorithms
    :param trial_id: number of a trial in it
    :param space: what the algorithm samples
    :return: what the trial sampled, as hyperparameters
    :raises ValueError: if there is no such trial, or it has not sampled what our algorithms sample
    """
    trials = study.get_trials(deepcopy=False)
    if not 0 <= trial_id < len(trials):
        raise ValueError(f"--trial-id {trial_id} is not in study {study.study_name!r}; its trials: {len(trials)}, from 0 on")
    try:
        return space.convert(trials[trial_id].params)
    except KeyError as missing:
        raise ValueError(
            f"--trial-id {trial_id} of study {study.study_name!r} has no {missing}: it is not a trial of this algorithm, "
            "or has not started"
        ) from None
