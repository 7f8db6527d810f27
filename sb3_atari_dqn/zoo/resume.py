"""``python -m sb3_atari_dqn resume``: a training run goes on where its last checkpoint stands."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_atari_dqn.atomic_files import is_of_files, what_failed
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints.logs import say
from sb3_atari_dqn.checkpoints.memory_log import Segment
from sb3_atari_dqn.checkpoints.store import Checkpoint, CheckpointStore, FolderLock
from sb3_atari_dqn.checkpoints.watcher import continue_logs, restore
from sb3_atari_dqn.progress_log import ProgressLog
from sb3_atari_dqn.sweep_logs import LOGS, SweepLogs
from sb3_atari_dqn.versions import versions
from sb3_atari_dqn.zoo.checkpointing import Resumed, Settings
from sb3_atari_dqn.zoo.register import ALGORITHMS
from sb3_atari_dqn.zoo.run_files import check_resumable, not_a_run, packages_to_import, read_yaml, without_texts
from sb3_atari_dqn.zoo.runs import Run, find_run
from sb3_atari_dqn.zoo.tracking import check_tracking, continue_tracking

#: arguments of RL Zoo's ``train`` that its experiment takes, and what it calls them
_ARGUMENTS = {
    "tensorboard_log": "tensorboard_log",
    "eval_freq": "eval_freq",
    "eval_episodes": "n_eval_episodes",
    "save_freq": "save_freq",
    "env_kwargs": "env_kwargs",
    "eval_env_kwargs": "eval_env_kwargs",
    "seed": "seed",
    "log_interval": "log_interval",
    "save_replay_buffer": "save_replay_buffer",
    "verbose": "verbose",
    "vec_env": "vec_env_type",
    "n_eval_envs": "n_eval_envs",
    "device": "device",
    "progress": "show_progress",
}


class SavedRun(NamedTuple):
    """
    A run that can go on.

    :param run: the run
    :param hyperparams: its configuration
    :param packages: to import before its environment is there
    :param checkpoint: where it goes on
    :param n_timesteps: agent steps of the whole run
    """

    run: Run
    hyperparams: dict[str, Any]
    packages: list[str]
    checkpoint: Checkpoint
    n_timesteps: int

    @property
    def store(self) -> CheckpointStore:
        """Its checkpoints."""
        return CheckpointStore(self.run.checkpoints.folder, max(Settings.of(self.hyperparams).checkpoint_keep, 1))


def resume(arguments: Sequence[str]) -> None:
    """
    Go on with a training run.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn resume",
        description="Go on with a run of dqn_custom or dqn_sweep where its last checkpoint stands, in the same folder.",
    )
    parser.add_argument("run", type=Path, help="folder of the run, e.g. logs/dqn_custom/PongNoFrameskip-v4_1")
    parser.add_argument(
        "-n", "--n-timesteps", type=int, help="agent steps of the whole run (default: what it was started with)"
    )
    parser.add_argument("--device", help="PyTorch device (default: what the run was started with)")
    parser.add_argument("--trust", action="store_true", help="allow the run's configuration to run code, as RL Zoo does")
    parser.add_argument("--track", action="store_true", help="continue at Weights & Biases too, for a run of train --track")
    args = parser.parse_args(arguments)
    lock = FolderLock(args.run)
    try:
        lock.check_free()
        saved = find_saved_run(args.run, args.n_timesteps, args.trust)
        lock.acquire()
        if args.device is not None:
            saved.run.args["device"] = args.device
        note = check_tracking(saved.run.args, args.track)
        if note is not None:
            say(note)
        restored = bring_back(saved)
    except OSError as error:
        lock.release()
        if not is_of_files(error):
            raise
        parser.error(f"{what_failed(error)}. A run goes on in its own folder: copy it to where files can be written")
    except (ImportError, TypeError, ValueError) as error:
        lock.release()
        parser.error(str(error))
    if args.track:
        continue_tracking(saved.run.args)
    try:
        go_on(saved, restored, lock)
    except OSError as error:
        if not is_of_files(error):
            raise
        parser.exit(1, f"{parser.prog}: error: {what_failed(error)}\n")


def find_saved_run(folder: Path, n_timesteps: int | None = None, trust: bool = False) -> SavedRun:
    """
    Find out where a run can go on; nothing is changed.

    :param folder: the run's folder
    :param n_timesteps: agent steps of the whole run; None for those that it was started with
    :param trust: whether what its configuration names may be imported and run
    :return: the run
    :raises ValueError: if it cannot go on, or its configuration names what could run code and is not trusted, saying why
    """
    run = find_run(folder, trust)
    if not (run.params / "config.yml").is_file():
        raise ValueError(not_a_run(folder))
    hyperparams = read_yaml(run.params / "config.yml", trust)
    packages = packages_to_import(run.args, trust)
    if not trust:
        hyperparams = without_texts(hyperparams)
        check_resumable(hyperparams)
    if run.args["algo"] not in ALGORITHMS:
        raise ValueError(f"{str(folder)!r} is a run of {run.args['algo']!r}; only {', '.join(ALGORITHMS)} have checkpoints")
    checkpoint, complaints = run.checkpoints.find_good()
    for complaint in complaints:
        say(f"{complaint}; the checkpoint before it is used" if checkpoint.has_buffer else complaint)
    if not checkpoint.has_buffer:
        say(
            f"no checkpoint is whole: {checkpoint.path.name} is used without its replay buffer, which is filled anew before "
            "updates continue, so the run will not be what it would have been without the interruption"
        )
    if n_timesteps is not None and n_timesteps < checkpoint.num_timesteps:
        raise ValueError(
            f"--n-timesteps {n_timesteps} is less than the {checkpoint.num_timesteps} steps that {str(folder)!r} has done"
        )
    if n_timesteps is None:
        n_timesteps = checkpoint.n_timesteps
    ProgressLog.read(folder)  # logs that are damaged are noticed before anything is changed
    for name in LOGS:
        SweepLogs.read(folder, name)
    return SavedRun(run, hyperparams, packages, checkpoint, n_timesteps)


class Restored(NamedTuple):
    """
    A run that was brought to its checkpoint.

    :param manager: RL Zoo's experiment
    :param model: its model
    :param state: the checkpoint's
    :param segments: files that hold the replay memory
    """

    manager: Any
    model: QLearningAlgorithm
    state: dict[str, Any]
    segments: list[Segment]


def bring_back(saved: SavedRun) -> Restored:
    """
    Make a run's model and environments again, and bring them to its checkpoint. No file is changed.

    :param saved: the run
    :return: what was made
    :raises ValueError: if its configuration or its checkpoint cannot be used
    """
    for package in saved.packages:
        importlib.import_module(package)
    _say_what_differs(saved.checkpoint)
    if saved.run.args.get("num_threads", -1) > 0:
        th.set_num_threads(saved.run.args["num_threads"])
    set_random_seed(saved.run.args["seed"])
    state = saved.store.read_state(saved.checkpoint)
    manager = _make_experiment(saved)
    experiment = manager.setup_experiment()
    assert experiment is not None
    model: QLearningAlgorithm = experiment[0]
    return Restored(
        manager, model, state, restore(model, saved.store, saved.checkpoint, state, manager.callbacks, saved.run.args["seed"])
    )


def go_on(saved: SavedRun, restored: Restored, lock: FolderLock) -> None:
    """
    Train until the run is complete, and save its model.

    :param saved: the run
    :param restored: what ``bring_back`` gave for it
    :param lock: of its folder
    """
    manager, model, state, segments = restored
    saved.store.discard_after(saved.checkpoint)
    continue_logs(model, state, saved.run.folder, manager.callbacks)
    reason = "" if saved.checkpoint.is_exact else f", written at an {saved.checkpoint.reason}"
    print(f"{saved.run.folder} goes on at step {model.num_timesteps} of {saved.n_timesteps}{reason}")
    if state["environments"] is None:
        print("Its games could not be saved: those that were running end here as time-outs, and new ones begin")
    manager.resumed = Resumed(lock, segments)
    manager.learn(model)
    manager.save_trained_model(model)


def _say_what_differs(checkpoint: Checkpoint) -> None:
    """
    :param checkpoint: of a format that can be read
    """
    own = versions()
    different = [f"{name} {then} (now {own.get(name)})" for name, then in checkpoint.versions.items() if own.get(name) != then]
    if different:
        say(
            f"The checkpoint was written with {', '.join(different)}. Its format is the same, so the run can go on, but "
            "numbers may not be those of a run that was never interrupted"
        )


def _make_experiment(saved: SavedRun) -> Any:
    """
    :param saved: the run
    :return: RL Zoo's experiment, in the run's folder
    """
    from rl_zoo3.exp_manager import ExperimentManager  # register() has to come first

    class ResumedExperiment(ExperimentManager):
        """An experiment in the folder of one that was there before, whose files are kept."""

        resumed: Resumed | None = None

        def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
            module = ModuleType("configuration_of_the_run")  # it may hold classes, which a YAML file cannot
            module.__spec__ = ModuleSpec(module.__name__, None)
            vars(module)["hyperparams"] = {saved.run.args["env"]: dict(saved.hyperparams)}
            sys.modules[module.__name__] = module
            try:
                self.config = module.__name__
                return super().read_hyperparameters()
            finally:
                del sys.modules[module.__name__]

        def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
            self.monitor_kwargs = {**self.monitor_kwargs, "override_existing": False}
            return super().create_envs(n_envs, eval_env, no_log)

        def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
            print(f"Log path: {self.save_path}")

    arguments = {_ARGUMENTS[name]: value for name, value in saved.run.args.items() if name in _ARGUMENTS}
    manager = ResumedExperiment(
        argparse.Namespace(**saved.run.args),
        saved.run.args["algo"],
        saved.run.args["env"],
        str(saved.run.folder.parent.parent),
        n_timesteps=saved.n_timesteps,
        **arguments,
    )
    manager.save_path, manager.params_path = str(saved.run.folder), str(saved.run.params)
    return manager
