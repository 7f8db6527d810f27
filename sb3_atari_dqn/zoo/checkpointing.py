"""RL Zoo's training with checkpoints, and the settings of these."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stable_baselines3.common.utils import configure_logger

from sb3_atari_dqn.atomic_files import is_of_files
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints.memory_log import Segment
from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore, FolderLock
from sb3_atari_dqn.checkpoints.watcher import Watcher
from sb3_atari_dqn.checks import check_whole_number

if TYPE_CHECKING:  # it may be what is being imported while we are
    from rl_zoo3.exp_manager import ExperimentManager

#: keys of a configuration that are about checkpoints
SETTINGS = ("checkpoint_freq", "checkpoint_keep")


class Settings(NamedTuple):
    """
    :param checkpoint_freq: agent steps between two checkpoints; None for none but at signals, exceptions and the end
    :param checkpoint_keep: how many are kept; 0 for no checkpoints at all
    """

    checkpoint_freq: int | None = 100_000
    checkpoint_keep: int = 3

    @classmethod
    def of(cls, hyperparams: Mapping[str, Any]) -> "Settings":
        """
        :param hyperparams: what a configuration holds for one environment
        :return: the settings
        :raises ValueError: for one that is out of its range
        """
        given = {name: hyperparams[name] for name in SETTINGS if name in hyperparams}
        if given.get("checkpoint_freq") is not None:
            check_whole_number(given, "checkpoint_freq", 1, "agent steps")
        check_whole_number(given, "checkpoint_keep", 0, "checkpoints")
        return cls(**given)


class Resumed(NamedTuple):
    """
    What a run that goes on brings with it.

    :param lock: of its folder
    :param segments: files that hold its replay memory
    """

    lock: FolderLock
    segments: list[Segment]


class Learning:
    """
    A model, as far as RL Zoo's ``learn`` looks at it: one that writes checkpoints while it learns, and that goes on where it
    was loaded to go on.

    :param manager: the experiment
    :param model: its model
    """

    def __init__(self, manager: "ExperimentManager", model: QLearningAlgorithm) -> None:
        self._manager = manager
        self._model = model
        self._resumed: Resumed | None = getattr(manager, "resumed", None)
        self._watcher: Watcher | None = None
        self._steps_at_start = model.num_timesteps

    def is_lost(self, error: BaseException) -> bool:
        """
        :param error: what has ended the training
        :return: whether it has learned what no checkpoint holds because none could be written
        """
        if self._model.num_timesteps == self._steps_at_start or not self._model.is_finite():
            return False
        return is_of_files(error) if self._watcher is None else self._watcher.is_behind

    @property
    def env(self) -> Any:
        """
        :return: the model's environments
        """
        return self._model.env

    def learn(self, total_timesteps: int, **kwargs: Any) -> None:
        """
        :param total_timesteps: agent steps, more of them for a model that was loaded with ``-i``; of the whole run for one
            that is resumed
        :param kwargs: other arguments of the model's ``learn``
        """
        manager, model = self._manager, self._model
        if manager.continue_training or self._resumed is not None:
            kwargs["reset_num_timesteps"] = False
        if self._resumed is not None:
            total_timesteps -= model.num_timesteps
        elif manager.continue_training:  # in a run of its own; SB3 would go on in whatever log is the latest
            name = inspect.signature(model.learn).parameters["tb_log_name"].default
            model.set_logger(configure_logger(model.verbose, model.tensorboard_log, name))
        settings: Settings = manager.checkpoint_settings  # type: ignore[attr-defined]  # read_hyperparameters of ours
        folder = Path(manager.save_path)
        if settings.checkpoint_keep == 0:
            model.learn(total_timesteps, **kwargs)
            return
        store = CheckpointStore(folder / FOLDER, settings.checkpoint_keep)
        segments = [] if self._resumed is None else self._resumed.segments
        self._watcher = Watcher(model, store, folder, settings.checkpoint_freq, manager.callbacks, segments)
        with self._watcher:
            model.learn(total_timesteps, **kwargs)
