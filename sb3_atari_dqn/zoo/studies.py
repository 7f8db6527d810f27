"""Optuna's studies, as RL Zoo names them on the command line."""

from typing import Any

import optuna

from sb3_atari_dqn.zoo.passwords import hide_passwords
from sb3_atari_dqn.zoo.search_space import SearchSpace
from sb3_atari_dqn.zoo.storages import is_postgresql, open_storage


def open_study(storage: str, study_name: str) -> optuna.Study:
    """
    :param storage: as RL Zoo's ``--storage``: a database's address, or a journal file that ends in ``.log``
    :param study_name: name of the study
    :return: the study
    :raises ValueError: if it is not there, naming those that are
    """
    shown = "the database" if is_postgresql(storage) else repr(hide_passwords(storage))
    opened = open_storage(storage)
    try:
        names = optuna.get_all_study_names(opened)
        if study_name in names:
            return optuna.load_study(study_name=study_name, storage=opened)
    except Exception as error:  # whatever a database's driver raises
        raise ValueError(f"--storage {shown} cannot be opened: {hide_passwords(str(error))}") from None
    raise ValueError(f"--study-name {study_name!r} is not in --storage {shown}; there are {', '.join(names) or 'none'}")


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
