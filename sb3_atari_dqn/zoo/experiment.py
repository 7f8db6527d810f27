"""What RL Zoo's ``ExperimentManager`` does differently for our algorithms.

RL Zoo is written for a fixed set of algorithms: it passes unknown keys on until a constructor fails, behind the log
folder and the environments; it replaces ``policy_kwargs`` by what a trial sampled; it cannot load trial 0; a trial that
runs out of memory ends the study; a study leaves the empty folder of a run behind, which ``enjoy`` takes for the
latest one; workers that share a study count its trials each for itself; and a training that is killed leaves nothing. The
methods concerned are wrapped here, for our algorithms alone.
"""

import contextlib
import errno
import functools
import glob
import inspect
import os
import sys
import tempfile
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from pprint import pprint
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import URL, make_url
from stable_baselines3.common.atari_wrappers import AtariWrapper, MaxAndSkipEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule, get_device, get_latest_run_id
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_atari_dqn.atomic_files import check_folder, is_of_files, what_failed
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints.logs import say
from sb3_atari_dqn.checkpoints.store import FolderLock
from sb3_atari_dqn.checks import check_names, check_number, check_whole_number, keyword_names
from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv, check_skips_no_frames
from sb3_atari_dqn.envs.preprocessing import MotionTracerAtariWrapper
from sb3_atari_dqn.envs.vec_motion_tracer import VecMotionTracer
from sb3_atari_dqn.learning import accelerate as acceleration
from sb3_atari_dqn.networks.extractors import resolve_extractor
from sb3_atari_dqn.networks.optimizers import resolve_optimizer
from sb3_atari_dqn.progress_log import ProgressLogCallback
from sb3_atari_dqn.replay.buffer import REPLAY_BUFFERS
from sb3_atari_dqn.sweep_dqn import SweepDQN
from sb3_atari_dqn.zoo.checkpointing import SETTINGS, Learning, Resumed, Settings
from sb3_atari_dqn.zoo.elsewhere import save_elsewhere, write_config
from sb3_atari_dqn.zoo.native_envs import OTHERWISE, NativeArguments, check_native_envs, find_wrappers
from sb3_atari_dqn.zoo.passwords import hidden_in_command, hide_passwords
from sb3_atari_dqn.zoo.presets import atari_section, find_config
from sb3_atari_dqn.zoo.register import ALGORITHMS
from sb3_atari_dqn.zoo.search_space import SEARCH_SPACES, lay_over, preset_of_trial
from sb3_atari_dqn.zoo.storages import SharedStorage, connect, is_postgresql
from sb3_atari_dqn.zoo.studies import open_study, trial_hyperparams
from sb3_atari_dqn.zoo.tracking import tracked_run
from sb3_atari_dqn.zoo.tuning import work

if TYPE_CHECKING:  # it may be what is being imported while we are
    from rl_zoo3.exp_manager import ExperimentManager

#: what a configuration can hold besides the algorithm's arguments: RL Zoo takes these out
ZOO_KEYS = {
    "callback",
    "checkpoint_freq",
    "checkpoint_keep",
    "env_kwargs",
    "env_wrapper",
    "frame_stack",
    "monitor_kwargs",
    "n_envs",
    "n_timesteps",
    "native_envs",
    "normalize",
    "vec_env_wrapper",
}

#: arguments of the algorithm that RL Zoo gives itself
FROM_COMMAND_LINE = {"env", "seed", "device", "verbose", "tensorboard_log", "run_folder", "_init_setup_model"}

#: wrappers that skip frames, 4 if not told otherwise, and the argument that says so
SKIPPING: dict[type, str] = {AtariWrapper: "frame_skip", MotionTracerAtariWrapper: "frame_skip", MaxAndSkipEnv: "skip"}

#: how allocators say that memory is exhausted, where they have no exception of their own
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


#: what Optuna says when a best trial is wanted and none was completed, in memory and in a database
_NO_BEST_TRIAL = ("No trials are completed yet.", "Record does not exist.")


def extend(manager_class: type["ExperimentManager"]) -> None:
    """
    Wrap the methods of ``manager_class``, in place and once.

    :param manager_class: RL Zoo's
    """
    wrappers: tuple[Callable[..., Any], ...] = (
        setup_experiment,
        read_hyperparameters,
        create_log_folder,
        create_envs,
        _maybe_normalize,
        _save_config,
        objective,
        hyperparameters_optimization,
        learn,
        save_trained_model,
    )
    originals = [getattr(manager_class, wrapper.__name__) for wrapper in wrappers]  # all of them, before one is replaced
    for wrapper, original in zip(wrappers, originals, strict=True):
        if not hasattr(original, "__wrapped__"):
            setattr(manager_class, wrapper.__name__, _for_our_algorithms(wrapper, original))


def _for_our_algorithms(wrapper: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: "ExperimentManager", *args: Any, **kwargs: Any) -> Any:
        if self.algo not in ALGORITHMS:
            return original(self, *args, **kwargs)
        return wrapper(self, functools.partial(original, self), *args, **kwargs)

    return method


def read_hyperparameters(
    manager: "ExperimentManager", original: Callable[[], tuple[dict[str, Any], dict[str, Any]]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Find the configuration by name too, load any trial of a study, and check it all before anything is made; whether the server
    of a study answers, too.

    :param manager: the experiment
    :param original: RL Zoo's method
    :return: hyperparameters, and a copy of them to save
    :raises ValueError: for a preset, a trial or a value that is not allowed, or a server that does not answer
    :raises TypeError: for a key that does not exist, naming the nearest one
    :raises ImportError: for a wrapper that cannot be imported
    :raises SystemExit: for any of these, with the message alone, if RL Zoo's script is what the user has called
    """
    try:
        return _read_hyperparameters(manager, original)
    except (ImportError, TypeError, ValueError) as error:
        _exit_from_script(str(error))
        raise


def _exit_from_script(message: str, status: int = 2) -> None:
    """
    Say what is wrong, as argparse does, and end the process, if RL Zoo's script is what the user has called.

    :param message: one line
    :param status: exit status
    """
    script = Path(sys.argv[0])
    if "rl_zoo3" in (script.stem, script.parent.name):  # its command, its module
        print(f"{script.name}: error: {message}", file=sys.stderr)
        sys.exit(status)


def _read_hyperparameters(
    manager: "ExperimentManager", original: Callable[[], tuple[dict[str, Any], dict[str, Any]]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    manager.config = find_config(manager.config)
    trial_id, manager.trial_id = manager.trial_id, None
    sampled = {} if trial_id is None else _load_trial(manager, trial_id)
    try:
        hyperparams, _ = original()
    except KeyError:  # of a section, as a rule
        atari_section(manager.config, manager.env_name.gym_id)
        raise
    if manager._eval_env_kwargs_args is None:  # games of the training, if no others are given
        manager.eval_env_kwargs = hyperparams.get("env_kwargs", manager.env_kwargs)
    evaluated = _evaluate_text(manager, hyperparams)
    if sampled:
        custom = _evaluate_text(manager, manager.custom_hyperparams or {})
        hyperparams = evaluated = lay_over(lay_over(evaluated, sampled), custom)
        print(f"Hyperparameters of trial {trial_id}:")
        pprint(hyperparams)
    check_hyperparams(manager.algo, evaluated)
    for key in ("policy", "n_timesteps"):
        if key not in evaluated:
            raise ValueError(f"{manager.config} has no {key} for {manager.env_name.gym_id}, which every configuration needs")
    acceleration.resolve(
        evaluated.get("precision", "float32"), evaluated.get("accelerate", "none"), get_device(manager.device)
    )
    manager.native_envs = _find_native_envs(manager, hyperparams)  # type: ignore[attr-defined]  # for create_envs
    check_frame_skip(manager.env_name.gym_id, evaluated, manager.env_kwargs)
    if manager.optimize_hyperparameters and manager.storage is not None and is_postgresql(manager.storage):
        manager.storage = _without_password(connect(manager.storage))
    saved = OrderedDict(sorted(hyperparams.items()))
    manager.checkpoint_settings = Settings.of(hyperparams)  # type: ignore[attr-defined]  # for learn
    hyperparams = {key: value for key, value in hyperparams.items() if key != "native_envs" and key not in SETTINGS}
    if hyperparams.get("replay_buffer_class") in REPLAY_BUFFERS:  # RL Zoo would look for the name in its own modules
        hyperparams["replay_buffer_class"] = REPLAY_BUFFERS[hyperparams["replay_buffer_class"]]
    return hyperparams, saved


def _without_password(url: URL) -> str:
    """
    Hand the password to PostgreSQL's library by its environment variable: RL Zoo pickles the study, address and all.

    :param url: of a database
    :return: the address to connect to from now on
    """
    password = url.password or url.query.get("password")
    if password is not None:
        os.environ["PGPASSWORD"] = str(password)
    query = {name: value for name, value in url.query.items() if name != "password"}
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query).render_as_string()


def _find_native_envs(manager: "ExperimentManager", hyperparams: dict[str, Any]) -> list[NativeArguments] | None:
    """
    :param manager: the experiment
    :param hyperparams: what a configuration holds for one environment
    :return: what native environments are made from, those for training and those for evaluation; None without ``native_envs``
    :raises ValueError: if they cannot be made
    """
    native_envs = hyperparams.get("native_envs", False)
    if not isinstance(native_envs, bool):
        raise ValueError(f"native_envs={native_envs!r} must be true or false")
    if not native_envs:
        return None
    if manager.vec_env_class is not DummyVecEnv:
        raise ValueError(f"--vec-env subproc does not go with native_envs=True: native environments have threads. {OTHERWISE}")
    env_kwargs = hyperparams.get("env_kwargs", manager.env_kwargs)
    return [
        check_native_envs(manager.env_name.gym_id, {**hyperparams, "env_kwargs": env_kwargs}),
        check_native_envs(
            manager.env_name.gym_id, {**hyperparams, "n_envs": manager.n_eval_envs, "env_kwargs": manager.eval_env_kwargs}
        ),
    ]


def _evaluate_text(manager: "ExperimentManager", hyperparams: dict[str, Any]) -> dict[str, Any]:
    """The same with objects in place of Python's text, as RL Zoo does a little later; names of our buffers stay."""
    evaluated = dict(hyperparams)
    for key in ("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs"):
        text = hyperparams.get(key)
        if not isinstance(text, str) or text in REPLAY_BUFFERS:
            continue
        try:
            evaluated[key] = eval(text, vars(sys.modules["rl_zoo3.exp_manager"]))
        except Exception as error:
            known = f"; choose one of {', '.join(REPLAY_BUFFERS)}, HerReplayBuffer" if key == "replay_buffer_class" else ""
            raise ValueError(f"{key}: {text!r} is not Python that RL Zoo can evaluate ({error}){known}") from error
    return evaluated


def _load_trial(manager: "ExperimentManager", trial_id: int) -> dict[str, Any]:
    if not manager.storage or not manager.study_name:
        raise ValueError(f"--trial-id {trial_id} needs the study it belongs to: give --storage and --study-name")
    study = open_study(manager.storage, manager.study_name)
    sampled = trial_hyperparams(study, trial_id, SEARCH_SPACES[manager.algo])
    command = hide_passwords(str(study.user_attrs.get("command")))
    print(f"Trial {trial_id} is laid over the configuration given now; the study was run as: {command}")
    return sampled


def check_hyperparams(algo: str, hyperparams: dict[str, Any]) -> None:
    """
    :param algo: one of ``ALGORITHMS``
    :param hyperparams: what a configuration holds for one environment
    :raises ValueError: for a value that is not allowed
    :raises TypeError: for a key that does not exist, naming the nearest one
    """
    algorithm = ALGORITHMS[algo]
    check_from_command_line(hyperparams)
    for key in ("policy_kwargs", "replay_buffer_kwargs", "env_kwargs"):
        if not isinstance(hyperparams.get(key) or {}, Mapping):
            raise ValueError(f"{key}={hyperparams[key]!r} must be arguments by name")
    algorithm.check_keywords(hyperparams, others=ZOO_KEYS)
    Settings.of(hyperparams)
    check_number(hyperparams, "n_timesteps", 1)
    check_whole_number(hyperparams, "n_envs", 1, "environments")
    algorithm.check_values({**hyperparams, **_learning_rate(hyperparams)})
    policy_kwargs = hyperparams.get("policy_kwargs") or {}
    policy = algorithm.policy_aliases.get(hyperparams.get("policy", ""))
    if policy is not None:  # one of the user's own may take anything
        given = {"observation_space", "action_space", "lr_schedule"}
        check_names("policy_kwargs", policy_kwargs, keyword_names(policy) - given)
    if "features_extractor_class" in policy_kwargs:
        extractor = resolve_extractor(policy_kwargs["features_extractor_class"])
        extractor_kwargs, given = policy_kwargs.get("features_extractor_kwargs") or {}, {"observation_space"}
        check_names(f"features_extractor_class {extractor.__name__}", extractor_kwargs, keyword_names(extractor) - given)
        if "check_values" in vars(extractor):  # not one that a class with other arguments has inherited
            vars(extractor)["check_values"](**extractor_kwargs)
    if "optimizer_class" in policy_kwargs:
        optimizer = resolve_optimizer(policy_kwargs["optimizer_class"])
        optimizer_kwargs = policy_kwargs.get("optimizer_kwargs") or {}
        check_names(f"optimizer_class {optimizer.__name__}", optimizer_kwargs, keyword_names(optimizer) - {"params"})
    n_stack, of_buffer = hyperparams.get("frame_stack"), (hyperparams.get("replay_buffer_kwargs") or {}).get("n_stack", 4)
    if hyperparams.get("replay_buffer_class") in REPLAY_BUFFERS and n_stack is not None and n_stack != of_buffer:
        raise ValueError(
            f"frame_stack={n_stack!r} does not go with replay_buffer_kwargs: n_stack={of_buffer!r}: give both the same number"
        )
    for wrapper, kwargs in find_wrappers(hyperparams):
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(wrapper).parameters.values()):
            check_names(wrapper.__name__, kwargs, keyword_names(wrapper) - {"env"})
        if hasattr(wrapper, "check_values"):
            wrapper.check_values(**kwargs)


def _learning_rate(hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param hyperparams: what a configuration holds for one environment
    :return: its learning rate as a schedule, where it is the text of one
    :raises ValueError: for any other text
    """
    rate = hyperparams.get("learning_rate")
    if not isinstance(rate, str):
        return {}
    kind, _, number = rate.partition("_")
    try:
        if kind != "lin":
            raise ValueError(kind)
        return {"learning_rate": LinearSchedule(float(number), 0.0, 1.0)}
    except ValueError:
        hint = "; YAML takes 1e-4 for text, and 1.0e-4 for a number"
        raise ValueError(f"learning_rate={rate!r} must be a number, or lin_NUMBER, which falls to zero{hint}") from None


def check_from_command_line(hyperparams: Mapping[str, Any]) -> None:
    """
    :param hyperparams: what a configuration holds for one environment, of any algorithm
    :raises ValueError: for what RL Zoo gives itself
    """
    for key in FROM_COMMAND_LINE & hyperparams.keys():
        raise ValueError(f"{key!r} cannot be set in a configuration: RL Zoo takes it from the command line")


def setup_experiment(
    manager: "ExperimentManager", original: Callable[[], tuple[BaseAlgorithm, dict[str, Any]] | None]
) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
    """
    Make the model, let its logs be written in the run's folder, and give one that writes files of its own that folder.

    :param manager: the experiment
    :param original: RL Zoo's method
    :return: the model and its hyperparameters; None for a study
    :raises OSError: if the run's folder cannot be written
    :raises SystemExit: instead, with the message alone, if RL Zoo's script is what the user has called
    """
    try:
        experiment = original()
    except OSError as error:
        if is_of_files(error):
            at = f"The run's folder is {manager.save_path!r}; -f FOLDER makes one elsewhere"
            _exit_from_script(f"{what_failed(error)}. {at}")
        raise
    if experiment is not None:
        manager.saved_hyperparams = experiment[1]  # type: ignore[attr-defined]  # for write_config
        manager.callbacks.append(ProgressLogCallback(os.path.abspath(manager.save_path)))
    if experiment is not None and isinstance(experiment[0], SweepDQN):
        experiment[0].run_folder = os.path.abspath(manager.save_path)
    return experiment


def check_frame_skip(env_id: str, hyperparams: dict[str, Any], env_kwargs: dict[str, Any]) -> None:
    """
    :param env_id: the environment
    :param hyperparams: what a configuration holds for it
    :param env_kwargs: arguments of it, from the command line
    :raises ValueError: if both environment and wrapper skip frames, which are lost
    """
    for wrapper, kwargs in find_wrappers(hyperparams):
        if wrapper in SKIPPING and kwargs.get(SKIPPING[wrapper], 4) > 1:
            who_does = f"{wrapper.__name__} would once more ({SKIPPING[wrapper]}: 1 is for such games)"
            check_skips_no_frames(env_id, who_does, **{**env_kwargs, **(hyperparams.get("env_kwargs") or {})})


def _maybe_normalize(
    manager: "ExperimentManager", original: Callable[[VecEnv, bool], VecEnv], env: VecEnv, eval_env: bool
) -> VecEnv:
    """
    Keep RL Zoo from unpickling running averages that nobody named: without ``-i`` it looks for those of another training in
    ``<environment>/vecnormalize.pkl`` of the current folder, which a folder from somebody else may hold.

    :param manager: the experiment
    :param original: RL Zoo's method
    :param env: environments
    :param eval_env: whether they are for evaluation
    :return: the environments, normalised if the configuration says so
    """
    if manager.trained_agent:
        return original(env, eval_env)
    manager.trained_agent = f"{os.devnull}/"  # in which no file can be
    try:
        return original(env, eval_env)
    finally:
        manager.trained_agent = ""


def _save_config(
    manager: "ExperimentManager", original: Callable[[dict[str, Any]], None], saved_hyperparams: dict[str, Any]
) -> None:
    """
    Write the run's configuration, arguments and command, but for the password of a study's database; and with ``--track`` the
    id of the run at Weights & Biases, by which it can be continued.

    :param manager: the experiment
    :param original: RL Zoo's method
    :param saved_hyperparams: hyperparameters to write
    """
    args = manager.args
    hidden = {name: hide_passwords(value) if isinstance(value, str) else value for name, value in vars(args).items()}
    manager.args = Namespace(**hidden, **tracked_run(vars(args)))
    try:
        with hidden_in_command():
            original(saved_hyperparams)
    finally:
        manager.args = args


def create_log_folder(manager: "ExperimentManager", original: Callable[[], None]) -> None:
    """
    Make the folder of a run; a study is not one, and gets a scratch folder that goes with it.

    :param manager: the experiment
    :param original: RL Zoo's method
    """
    if manager.optimize_hyperparameters:
        manager.scratch_folder = tempfile.TemporaryDirectory()  # type: ignore[attr-defined]  # lives as long as the study
        manager.save_path = manager.scratch_folder.name  # type: ignore[attr-defined]
        manager.params_path = f"{manager.save_path}/{manager.env_name}"
    elif not hasattr(manager, "resumed"):
        _take_folder(manager)
    original()
    try:
        check_folder(Path(manager.save_path))  # environments in processes of their own would say so at length
    except OSError:
        for folder in (manager.params_path, manager.save_path):
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(folder)
        raise


def _take_folder(manager: "ExperimentManager") -> None:
    """
    Make the folder of a run, and take another number where somebody else has made it since RL Zoo looked.

    :param manager: the experiment
    """
    while True:
        try:
            Path(manager.save_path).mkdir(parents=True)
            return
        except FileExistsError:
            if not os.path.lexists(manager.save_path):  # what is in the way is above, as a link that leads nowhere
                raise
            number = get_latest_run_id(glob.escape(manager.log_path), manager.env_name) + 1
            manager.save_path = os.path.join(manager.log_path, f"{manager.env_name}_{number}")
            manager.params_path = f"{manager.save_path}/{manager.env_name}"


def create_envs(
    manager: "ExperimentManager", original: Callable[..., VecEnv], n_envs: int, eval_env: bool = False, no_log: bool = False
) -> VecEnv:
    """
    Make native environments where the configuration asks for them.

    :param manager: the experiment
    :param original: RL Zoo's method
    :param n_envs: number of environments
    :param eval_env: whether they are for evaluation
    :param no_log: whether Monitor writes no files
    :return: the environments
    """
    native_envs = getattr(manager, "native_envs", None)
    if native_envs is None:
        return original(n_envs, eval_env, no_log)
    arguments, tracer = native_envs[eval_env]
    monitor_dir = None if eval_env or no_log else manager.save_path
    env: VecEnv = AleVecEnv(
        manager.env_name.gym_id,
        n_envs,
        **arguments,
        monitor_dir=monitor_dir,
        override_existing=manager.monitor_kwargs.get("override_existing", True),
        seed=manager.seed,
    )
    return env if tracer is None else VecMotionTracer(env, **tracer)


def objective(manager: "ExperimentManager", original: Callable[[optuna.Trial], float], trial: optuna.Trial) -> float:
    """
    Run a trial with the preset at hand for the sampler; prune it if it runs out of memory.

    :param manager: the experiment
    :param original: RL Zoo's method
    :param trial: the trial
    :return: its mean score
    """
    token = preset_of_trial.set(manager._hyperparams)
    try:
        return original(trial)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise
        print(f"Trial {trial.number} ran out of memory and is pruned: {error}")
        raise optuna.TrialPruned(str(error)) from error
    finally:
        preset_of_trial.reset(token)


def learn(manager: "ExperimentManager", original: Callable[[Any], None], model: QLearningAlgorithm) -> None:
    """
    Train, and write checkpoints meanwhile. A model that was loaded to go on does so: steps, exploration and schedules.

    The run's folder is locked until the model is saved.

    :param manager: the experiment
    :param original: RL Zoo's method
    :param model: the model
    :raises ValueError: if another process trains in the run's folder
    :raises OSError: if the run's files cannot be written, with what has become of the model
    :raises SystemExit: instead, with the message alone, if RL Zoo's script is what the user has called
    """
    resumed: Resumed | None = getattr(manager, "resumed", None)
    lock = FolderLock(Path(manager.save_path)) if resumed is None else resumed.lock
    lock.acquire()
    manager.run_lock = lock  # type: ignore[attr-defined]  # for save_trained_model
    learning = Learning(manager, model)
    try:
        original(learning)
    except BaseException as error:
        try:
            save = inspect.unwrap(type(manager).save_trained_model)  # RL Zoo's
            place = save_elsewhere(manager, lambda: save(manager, model)) if learning.is_lost(error) else ""
        finally:
            lock.release()
        if isinstance(error, OSError) and is_of_files(error):
            message = f"training ended at step {model.num_timesteps}: {what_failed(error)}. {place}".strip()
            _exit_from_script(message, 1)
            raise OSError(error.errno, message) from error
        if place:
            say(place)
        raise


def save_trained_model(manager: "ExperimentManager", original: Callable[[BaseAlgorithm], None], model: BaseAlgorithm) -> None:
    """
    Save the model, and let go of the run's folder; where that cannot be written, save it in another one.

    :param manager: the experiment
    :param original: RL Zoo's method
    :param model: the model
    :raises OSError: in that case, with where it is
    :raises SystemExit: instead, with the message alone, if RL Zoo's script is what the user has called
    """
    try:
        if not os.path.isdir(manager.params_path):  # deleted meanwhile
            write_config(manager)
        original(model)
    except (OSError, RuntimeError) as error:  # which PyTorch has for a full disk
        path = Path(manager.save_path, f"{manager.env_name}.zip")
        with contextlib.suppress(OSError):
            if path.is_file() and not zipfile.is_zipfile(path):  # half of it
                path.unlink()
        reason = what_failed(error) if isinstance(error, OSError) else str(error).partition("\n")[0]
        message = f"{manager.save_path!r} cannot be written: {reason}. {save_elsewhere(manager, lambda: original(model))}"
        _exit_from_script(message, 1)
        raise OSError(errno.EIO, message) from error
    finally:
        lock: FolderLock | None = getattr(manager, "run_lock", None)
        if lock is not None:  # it has learned
            lock.release()


def hyperparameters_optimization(manager: "ExperimentManager", original: Callable[[], None]) -> None:
    """
    Run the study, a shared one in our own way. If no trial of it was completed, say so; RL Zoo fails for want of a best one.

    :param manager: the experiment
    :param original: RL Zoo's method
    """
    if manager.storage is not None and is_postgresql(manager.storage):
        work(manager, SharedStorage(make_url(manager.storage), manager.max_total_trials))
        manager.max_total_trials = 0  # what is left to RL Zoo is the report
    try:
        with hidden_in_command():
            original()
    except ValueError as error:
        if str(error) not in _NO_BEST_TRIAL:
            raise
        print("All trials of the study were pruned: there is no best one, and no report")
