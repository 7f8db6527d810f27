"""Training runs as RL Zoo leaves them: a folder with a model, arguments, configuration and Monitor's files."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rl_zoo3.utils import ALGOS, get_saved_hyperparams
from stable_baselines3.common.atari_wrappers import (
    AtariWrapper,
    ClipRewardEnv,
    EpisodicLifeEnv,
    FireResetEnv,
    MaxAndSkipEnv,
    NoopResetEnv,
    StickyActionEnv,
    WarpFrame,
)
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints.store import FOLDER, Checkpoint, CheckpointStore
from sb3_atari_dqn.envs.motion_tracer import MotionTracer
from sb3_atari_dqn.envs.preprocessing import MotionTracerAtariWrapper
from sb3_atari_dqn.evaluation.environments import Preprocessing
from sb3_atari_dqn.loading import kind_of, load, read_model
from sb3_atari_dqn.saving.model_files import ALGORITHMS as OURS
from sb3_atari_dqn.saving.trust import UntrustedFileError
from sb3_atari_dqn.saving.zip_files import best_algorithm, load_zip, read_data
from sb3_atari_dqn.zoo.native_envs import find_wrappers
from sb3_atari_dqn.zoo.register import ALGORITHMS
from sb3_atari_dqn.zoo.run_files import check_links, not_a_run, read_args, read_hyperparams

#: wrappers that are about a game's rules alone, which a protocol has
_RULES = (NoopResetEnv, MaxAndSkipEnv, StickyActionEnv, ClipRewardEnv)

#: arguments of ALE's environments that a protocol fixes
_RULES_OF_ENV = {"frameskip", "repeat_action_probability", "max_num_frames_per_episode", "full_action_space", "render_mode"}


#: of a run without its last model
NO_FINAL_MODEL = "This run has no final model: it is still in progress, or was ended before it saved one."


class Run(NamedTuple):
    """
    A training run.

    :param folder: where it is
    :param args: arguments that RL Zoo's ``train`` was called with
    :param params: folder with its configuration
    :param trust: whether what its files name may be imported and run
    """

    folder: Path
    args: dict[str, Any]
    params: Path
    trust: bool = False

    @property
    def label(self) -> str:
        """What runs have in common that differ in game and seed alone: algorithm, preset and what else was changed."""
        words = [self.args["algo"]]
        preset = Path(self.args.get("conf_file") or words[0]).stem
        if preset != words[0]:
            words.append(preset)
        if self.args.get("n_timesteps", -1) > 0:
            words.append(f"-n {self.args['n_timesteps']}")
        if self.args.get("trial_id") is not None:
            words.append(f"{self.args.get('study_name')} trial {self.args['trial_id']}")
        for key in ("env_kwargs", "hyperparams"):
            words += [f"{name}={value!r}" for name, value in sorted((self.args.get(key) or {}).items())]
        return " ".join(words)

    @property
    def checkpoints(self) -> CheckpointStore:
        """What it can go on from."""
        return CheckpointStore(self.folder / FOLDER)

    def find_model(self, best: bool = False) -> tuple[Path, list[str]]:
        """
        :param best: the best model of the run's evaluations, not the last one
        :return: the model's file, which for a run that has not saved its last one yet is its newest checkpoint that is whole;
            and what is to be said of it
        :raises ValueError: if there is none
        """
        path = self.folder / ("best_model.zip" if best else f"{self.params.name}.zip")
        newer = None if best else self._newer_checkpoint(path)
        if newer is None:
            if not path.is_file():
                raise ValueError(f"{str(path)!r} does not exist")
            return path, []
        checkpoint, complaints = newer
        notes = [f"{complaint}; the checkpoint before it is used" for complaint in complaints]
        if path.is_file() and steps_of(path) is None:
            return checkpoint.path, [
                *notes,
                f"{path.name} is damaged: the checkpoint at step {checkpoint.num_timesteps} is taken.",
            ]
        taken = f"Its checkpoint at step {checkpoint.num_timesteps} is taken, {checkpoint.path.name}."
        return checkpoint.path, [*notes, f"{NO_FINAL_MODEL} {taken}"]

    def _newer_checkpoint(self, path: Path) -> tuple[Checkpoint, list[str]] | None:
        """
        :param path: the run's model, which may not be there yet, or be of before an interruption
        :return: the newest checkpoint that is whole, and what is wrong with newer ones; None if the model is as new
            and not damaged
        :raises ValueError: if there are checkpoints and no model, and none of them is whole
        """
        if not self.checkpoints.manifests():
            return None
        if not path.is_file():
            return self.checkpoints.find_good()
        steps = steps_of(path)
        try:
            found = self.checkpoints.find_good()
        except ValueError:  # none that is whole, or of another version
            return None
        return found if steps is None or found[0].num_timesteps > steps else None

    def hyperparams(self) -> dict[str, Any]:
        """
        :return: its configuration
        :raises ValueError: if it is damaged, or names what could run code and is not trusted
        """
        if self.trust:
            return get_saved_hyperparams(str(self.params), test_mode=True)[0]
        return read_hyperparams(self.params)

    def preprocessing(self) -> Preprocessing:
        """
        :return: what its model was trained to see
        :raises ValueError: if that is something that protocols do not know
        """
        hyperparams = self.hyperparams()
        env_kwargs = {**(hyperparams.get("env_kwargs") or {}), **(self.args.get("env_kwargs") or {})}
        try:
            return find_preprocessing({**hyperparams, "env_kwargs": env_kwargs})
        except ValueError as error:
            raise ValueError(f"{str(self.folder)!r}: {error}") from None


def steps_of(path: Path) -> int | None:
    """
    :param path: a zip file of Stable-Baselines3
    :return: agent steps that its model has done; None if the file is not there, or does not say
    """
    try:
        return int(read_data(path)["num_timesteps"])
    except (KeyError, TypeError, ValueError):
        return None


def find_run(folder: Path, trust: bool = False) -> Run:
    """
    :param folder: of a training run
    :param trust: whether what its files name may be imported and run
    :return: the run
    :raises ValueError: if it is not one, or is not trusted and names what could run code or holds a link out of it
    """
    args_files = sorted(folder.glob("*/args.yml"))
    if len(args_files) != 1:
        raise ValueError(not_a_run(folder))
    if not trust:
        check_links(folder)
    return Run(folder, read_args(args_files[0], trust), args_files[0].parent, trust)


def find_run_of(model_path: Path, trust: bool = False) -> Run:
    """
    :param model_path: a model's file in the folder of a training run, or one of the run's checkpoints
    :param trust: see ``find_run``
    :return: the run
    :raises ValueError: see there
    """
    of_checkpoints = model_path.absolute().parent
    return find_run(of_checkpoints.parent if of_checkpoints.name == FOLDER else model_path.parent, trust)


def find_preprocessing(hyperparams: Mapping[str, Any]) -> Preprocessing:
    """
    :param hyperparams: what a configuration holds for one environment
    :return: the picture that its wrappers make
    :raises ValueError: for wrappers and arguments of the game that protocols do not know
    """
    env_kwargs = hyperparams.get("env_kwargs") or {}
    for name in env_kwargs.keys() - _RULES_OF_ENV:
        raise ValueError(f"env_kwargs: {name}={env_kwargs[name]!r} does not go with a protocol")
    for key in ("normalize", "vec_env_wrapper"):
        if hyperparams.get(key):
            raise ValueError(f"{key}={hyperparams[key]!r} does not go with a protocol")
    seen = Preprocessing(
        (0, 0), hyperparams.get("frame_stack") or 1, None, False, False, bool(hyperparams.get("native_envs", False))
    )
    for wrapper, kwargs in find_wrappers(dict(hyperparams)):
        if wrapper in (AtariWrapper, MotionTracerAtariWrapper):
            seen = seen._replace(fire_reset=True, episodic_life=kwargs.get("terminal_on_life_loss", True))
        if wrapper in (MotionTracer, MotionTracerAtariWrapper):
            tracer: dict[str, Any] = {name: kwargs[name] for name in ("decay", "threshold") if name in kwargs}
            seen = seen._replace(screen_size=(kwargs.get("height", 105), kwargs.get("width", 80)), tracer=tracer)
        elif wrapper is AtariWrapper:
            seen = seen._replace(screen_size=(kwargs.get("screen_size", 84),) * 2)
        elif wrapper is WarpFrame:
            seen = seen._replace(screen_size=(kwargs.get("height", 84), kwargs.get("width", 84)))
        elif wrapper is EpisodicLifeEnv:
            seen = seen._replace(episodic_life=True)
        elif wrapper is FireResetEnv:
            seen = seen._replace(fire_reset=True)
        elif wrapper not in _RULES:
            raise ValueError(f"env_wrapper: {wrapper.__name__} does not go with a protocol, which would not know what it does")
    if seen.screen_size == (0, 0) or (seen.tracer is not None and seen.n_stack > 1):
        raise ValueError(
            f"env_wrapper={hyperparams.get('env_wrapper')!r} with frame_stack={hyperparams.get('frame_stack')!r} does not go "
            "with a protocol: frames must be made small by AtariWrapper or WarpFrame, or be those of the motion tracer alone"
        )
    return seen


def find_algo(path: Path) -> str:
    """
    :param path: a model's file
    :return: name of its algorithm in RL Zoo: the one that it says, or in a zip file the one with its policy, and of several
        the one whose arguments it has saved
    :raises ValueError: if that is not clear
    """
    if kind_of(path) == "zip":
        fits = best_algorithm(read_data(path), ALGOS)
    else:
        algorithm = OURS.get(str(read_model(path)[0].get("algorithm")))
        fits = [name for name, ours in ALGORITHMS.items() if ours is algorithm]
    if len(fits) != 1:
        raise ValueError(f"{str(path)!r} does not tell its algorithm: give --algo, one of {', '.join(fits or ALGOS)}")
    return fits[0]


def load_model(path: Path, algo: str, seed: int | None = None, trust: bool = False) -> BaseAlgorithm:
    """
    :param path: a model's file
    :param algo: name of its algorithm in RL Zoo
    :param seed: of the model, in place of its own
    :param trust: whether its file may run code
    :return: the model, to play with
    :raises ValueError: if it cannot be loaded, or names what could run code and is not trusted
    """
    if algo not in ALGOS:
        raise ValueError(f"{str(path)!r} is of the algorithm {algo!r}, which is not known; those that are: {', '.join(ALGOS)}")
    algorithm = ALGOS[algo]
    if kind_of(path) != "zip":
        model = load(path, trust=trust)
        if not isinstance(model, algorithm):
            raise ValueError(f"{str(path)!r} cannot be loaded as {algo!r}: it holds a {type(model).__name__}")
        if seed is not None:
            model.seed = seed
            model.set_random_seed(seed)
        return model
    changes: dict[str, Any] = {} if seed is None else {"seed": seed}
    if issubclass(algorithm, OffPolicyAlgorithm) and not issubclass(algorithm, QLearningAlgorithm):
        changes["buffer_size"] = 1  # SB3 would allocate it whole
        if "optimize_memory_usage" in inspect.signature(algorithm).parameters:
            changes["optimize_memory_usage"] = False
    try:
        return load_zip(path, algorithm, trust=trust, **changes)
    except UntrustedFileError:
        raise
    except Exception as error:  # whatever another algorithm's file raises
        raise ValueError(f"{str(path)!r} cannot be loaded as {algo!r}: {error!r}") from error
