"""The model of a training whose folder can no longer be written: saved in another one, with its configuration."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it may be what is being imported while we are
    from rl_zoo3.exp_manager import ExperimentManager

#: where a folder is tried, in this order
PLACES: tuple[Callable[[], str], ...] = (os.getcwd, tempfile.gettempdir, lambda: os.path.expanduser("~"))


def save_elsewhere(manager: "ExperimentManager", save: Callable[[], None]) -> str:
    """
    Save a model in a new folder: in the current one, in that of temporary files, or at home, whichever can be written first.
    If no place has room for the replay buffer, the model is saved without it.

    :param manager: the experiment; the new folder becomes that of its run
    :param save: saves model and replay buffer where ``manager`` says
    :return: one sentence, where the model is
    """
    params = manager.params_path
    for save_replay_buffer in dict.fromkeys((manager.save_replay_buffer, False)):
        manager.save_replay_buffer = save_replay_buffer
        for place in PLACES:
            folder = None
            try:
                folder = Path(place(), f"{manager.env_name}_{uuid.uuid4().hex[:8]}")
                folder.mkdir()
                manager.save_path, manager.params_path = str(folder), str(folder / manager.env_name)
                if os.path.isdir(params):
                    shutil.copytree(params, manager.params_path)
                else:
                    write_config(manager)
                save()
            except Exception:  # no folder, a read-only or a full one; PyTorch has RuntimeError for that
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                return f"The model is saved in {str(folder)!r}"
    return "The model could not be saved elsewhere either"


def write_config(manager: "ExperimentManager") -> None:
    """
    Write the configuration of a run whose folder is new, or has been deleted.

    :param manager: its experiment
    """
    os.makedirs(manager.params_path, exist_ok=True)
    manager._save_config(manager.saved_hyperparams)  # type: ignore[attr-defined]  # setup_experiment of ours
