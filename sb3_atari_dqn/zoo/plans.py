"""Lists of trainings: games times seeds times presets. What is in them, where it goes, how far it is, and what comes next.

All that is known of a run is in its folder, so that a list that was interrupted goes on where it stopped, on whatever machine.
A run is done when its evaluation is written; one that is trained is played; one that has a checkpoint that is whole goes on
from there; any other begins.
"""

import collections
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import yaml
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.monitor import LoadMonitorResultsError

from sb3_atari_dqn.atomic_files import written_whole
from sb3_atari_dqn.checkpoints.files import BrokenFileError
from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from sb3_atari_dqn.checks import check_names, keyword_names
from sb3_atari_dqn.evaluation.environments import find_rom
from sb3_atari_dqn.evaluation.protocols import find_protocol
from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.progress_log import last_steps
from sb3_atari_dqn.report.curves import training_scores
from sb3_atari_dqn.zoo.checkpointing import SETTINGS
from sb3_atari_dqn.zoo.evaluate import evaluation_file
from sb3_atari_dqn.zoo.experiment import ZOO_KEYS, check_frame_skip, check_from_command_line, check_hyperparams
from sb3_atari_dqn.zoo.native_envs import check_native_envs
from sb3_atari_dqn.zoo.presets import ablations, atari_section, default_config, find_config
from sb3_atari_dqn.zoo.register import ALGORITHMS
from sb3_atari_dqn.zoo.runs import find_preprocessing, steps_of

#: what is trained if a variant does not say
ALGO = "dqn_custom"

#: what RL Zoo takes out of a configuration for algorithms that are not ours
PEERS_KEYS = ZOO_KEYS - {"native_envs", *SETTINGS}

#: file that says what is trained in a folder
PLAN = "plan.json"

#: what is printed while a run is trained, in its folder, and while it is played
TRAINING_LOG, EVALUATION_LOG = "train.txt", "evaluate.txt"


class Variant(NamedTuple):
    """
    What is compared.

    :param conf_file: a preset, or a file of the user's; None for that of the algorithm
    :param params: hyperparameters to change
    :param algo: name of the algorithm in RL Zoo: one of ours, or ``dqn`` and others to compare with
    """

    conf_file: str | None = None
    params: Mapping[str, Any] = {}
    algo: str = ALGO

    @property
    def config(self) -> str:
        """
        Its configuration, as RL Zoo takes it.

        :raises ValueError: if there is none
        """
        return default_config(self.algo) if self.conf_file is None else find_config(self.conf_file)


class Plan(NamedTuple):
    """
    Presets times seeds on one game, or on several.

    :param n_timesteps: agent steps of each run
    :param seeds: of the runs
    :param protocol: rules of the games that are played in the end
    :param variants: what is compared, by label
    :param env: the game; None with ``envs``
    :param envs: the games, each of which has a folder of its own
    :param params: hyperparameters to change in all of them
    :param episodes: whole games to play in the end; None for as many as the protocol says
    """

    n_timesteps: int
    seeds: Sequence[int]
    protocol: str
    variants: Mapping[str, Variant]
    env: str | None = None
    envs: Sequence[str] = ()
    params: Mapping[str, Any] = {}
    episodes: int | None = None

    @property
    def games(self) -> Sequence[str]:
        """All games."""
        return self.envs if self.env is None else (self.env,)


class Run(NamedTuple):
    """
    One training.

    :param env: the game
    :param label: of its variant
    :param variant: what is trained
    :param seed: of the training
    :param folder: RL Zoo's log folder, for it alone
    """

    env: str
    label: str
    variant: Variant
    seed: int
    folder: Path

    @property
    def experiment(self) -> Path:
        """The folder that RL Zoo makes."""
        return self.folder / self.variant.algo / f"{_name(self.env)}_1"

    @property
    def checkpoints(self) -> CheckpointStore:
        """What it can go on from."""
        return CheckpointStore(self.experiment / FOLDER)

    @property
    def has_checkpoint(self) -> bool:
        """
        Whether one of its checkpoints is whole, so that it can go on.

        :raises ValueError: if they are of another version's format
        """
        try:
            return bool(self.checkpoints.manifests() and self.checkpoints.find_good())
        except BrokenFileError:
            return False

    def steps(self) -> int:
        """
        :return: agent steps that it has done, as far as its logger has written them; of an algorithm that is not ours, about
            those of the games that have ended
        """
        if self.variant.algo in ALGORITHMS:
            return last_steps(self.experiment)
        try:
            return int(training_scores(self.experiment)["steps"].max())
        except (LoadMonitorResultsError, OSError, KeyError, ValueError):  # no game has ended, or files are being written
            return 0


def _name(env: str) -> str:
    return env.replace("/", "-")


def read_plan(name: str) -> Plan:
    """
    :param name: a YAML file, or one that comes with the package
    :return: what it holds
    :raises ValueError: if there is none, or something in it is missing or not known
    """
    path = Path(name)
    if not path.is_file():
        if name not in ablations():
            raise ValueError(f"{name!r} is neither a file nor one of {', '.join(ablations())}")
        path = ablations()[name]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("variants"), dict) or not content["variants"]:
        raise ValueError(f"{str(path)!r} needs variants: a name for each, with conf_file and params")
    try:
        check_names(str(path), content, Plan._fields)
        missing = [field for field in Plan._fields if field not in content and field not in Plan._field_defaults]
        if "env" in content and "envs" in content:
            raise ValueError(f"{str(path)!r} has both env and envs: give one game, or a list of them")
        if "env" not in content and "envs" not in content:
            missing = ["env", *missing]
        if missing:
            raise ValueError(f"{str(path)!r} lacks {', '.join(missing)}")
        variants = {}
        for label, variant in content["variants"].items():
            if not isinstance(variant or {}, dict):
                raise ValueError(f"variant {label!r}: {variant!r} must be conf_file, params or algo, by name")
            check_names(f"variant {label!r}", variant or {}, Variant._fields)
            variants[str(label)] = Variant(**(variant or {}))
            _check_types(f"variant {label!r}: ", variants[str(label)])
    except TypeError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content.get("params", {}), dict):
        raise ValueError(f"{str(path)!r}: params={content['params']!r} must be hyperparameters by name")
    return Plan(**{**content, "variants": variants})


def _check_types(what: str, variant: Variant) -> None:
    """
    :param what: to begin an error with
    :param variant: what a file holds
    :raises ValueError: for what is no name, or no dictionary
    """
    if variant.conf_file is not None and not isinstance(variant.conf_file, str):
        raise ValueError(f"{what}conf_file={variant.conf_file!r} must be the name of a preset, or a file")
    if not isinstance(variant.algo, str):
        raise ValueError(f"{what}algo={variant.algo!r} must be the name of an algorithm in RL Zoo")
    if not isinstance(variant.params, dict):
        raise ValueError(f"{what}params={variant.params!r} must be hyperparameters by name")


def check(plan: Plan) -> None:
    """
    :param plan: what is to be trained
    :raises ValueError: for what is not allowed
    :raises TypeError: for a hyperparameter that does not exist
    """
    if plan.env is None and (not isinstance(plan.envs, list | tuple) or not plan.envs):
        raise ValueError(f"envs={plan.envs!r} must be a list of games, at least one")
    for env in plan.games:
        if env not in gym.registry:
            raise ValueError(f"env={env!r} is not known to Gymnasium")
        find_rom(env)
    find_protocol(plan.protocol)
    for name, value in (("n_timesteps", plan.n_timesteps), ("episodes", plan.episodes)):
        is_allowed = value is None if name == "episodes" else False
        if not is_allowed and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}={value!r} must be a whole number, at least 1")
    seeds = plan.seeds
    if not isinstance(seeds, list | tuple) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds={seeds!r} must be whole numbers of at least 0, at least one")
    for what, values in (("seed", seeds), ("game", plan.games)):
        for value, count in collections.Counter(values).items():
            if count > 1:
                raise ValueError(f"{what} {value} is given twice")
    folders: dict[str, str] = {}
    for label, variant in plan.variants.items():
        other = folders.setdefault(_folder_name(label).lower(), label)  # some systems know no capitals
        if other != label:
            raise ValueError(f"variants {other!r} and {label!r} would have the same folder, {_folder_name(label)!r}")
        if not re.fullmatch(r"[^/\\]+", label) or label.startswith((".", "-")):
            raise ValueError(f"variant {label!r} must be a name for a folder, and not begin with a point or a dash")
        known = dict.fromkeys([*ALGORITHMS, *ALGOS])
        if variant.algo not in known:
            raise ValueError(f"variant {label!r}: algo={variant.algo!r} is not known; choose one of {', '.join(known)}")
        for params in (plan.params, variant.params):
            if "n_timesteps" in params:
                raise ValueError(f"n_timesteps={params['n_timesteps']!r} does not go into params: it is the list's")
        for env in plan.games:
            hyperparams = {**atari_section(variant.config, env), **plan.params, **variant.params}
            if variant.algo in ALGORITHMS:
                check_hyperparams(variant.algo, hyperparams)
            else:
                check_from_command_line(hyperparams)
                check_names(f"variant {label!r}: {variant.algo}", hyperparams, keyword_names(ALGOS[variant.algo]) | PEERS_KEYS)
            find_preprocessing(hyperparams)
            check_frame_skip(env, hyperparams, {})
            if hyperparams.get("native_envs") is True:
                check_native_envs(env, hyperparams)


def with_absolute_files(plan: Plan) -> Plan:
    """
    :param plan: what is to be trained
    :return: the same, for whoever works in another folder
    """
    variants = {
        label: variant._replace(conf_file=str(Path(variant.conf_file).absolute()))
        if variant.conf_file is not None and Path(variant.conf_file).is_file()
        else variant
        for label, variant in plan.variants.items()
    }
    return plan._replace(variants=variants)


def check_folder(plan: Plan, folder: Path) -> dict[str, Any]:
    """
    :param plan: what is to be trained
    :param folder: where
    :return: what the folder is to say of what is trained there
    :raises ValueError: if something else was trained there
    """
    file = folder / PLAN
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder")
    new: dict[str, Any] = {
        "env": plan.env,
        "n_timesteps": plan.n_timesteps,
        "protocol": plan.protocol,
        "episodes": plan.episodes,
        "params": plan.params,
        "variants": {label: variant._asdict() for label, variant in plan.variants.items()},
    }
    new = json.loads(json.dumps(new))
    if file.is_file():
        old = json.loads(file.read_text(encoding="utf-8"))
        if not new.keys() <= old.keys():
            raise ValueError(f"{str(file)!r} is not of a list of trainings")
        for name in ("env", "n_timesteps", "protocol", "episodes", "params"):
            if old[name] != new[name]:
                raise ValueError(f"{str(folder)!r} is of another list, with {name}={old[name]!r}, not {new[name]!r}")
        for label in old["variants"].keys() & new["variants"].keys():
            if _what(Variant(**old["variants"][label])) != _what(Variant(**new["variants"][label])):
                raise ValueError(f"{str(folder)!r} is of another list, whose {label!r} is {old['variants'][label]}")
        new["variants"] = {**old["variants"], **new["variants"]}
    return new


def _what(variant: Variant) -> tuple[str, str, Mapping[str, Any]]:
    """
    :param variant: of a list
    :return: what is trained, however it is said
    """
    return variant.algo, variant.conf_file or variant.algo, variant.params


def write_plan(content: Mapping[str, Any], folder: Path) -> None:
    """
    :param content: what ``check_folder`` returned
    :param folder: to say it in; other machines may do so at the same moment
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / PLAN) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def runs_of(plan: Plan, folder: Path) -> Iterator[Run]:
    """
    :param plan: what is to be trained
    :param folder: where
    :return: its runs; the first seed of all games and variants comes first
    """
    for seed in plan.seeds:
        for env in plan.games:
            folder_of_game = folder if plan.env is not None else folder / _name(env)
            for label, variant in plan.variants.items():
                yield Run(env, label, variant, seed, folder_of_game / _folder_name(label) / f"seed_{seed}")


def _folder_name(label: str) -> str:
    return label.replace(" ", "_")


def score(plan: Plan, run: Run) -> float | None:
    """
    :param plan: what it belongs to
    :param run: a run
    :return: mean of its games; None if they were not played yet
    """
    file = evaluation_file(run.experiment, plan.protocol)
    return float(Evaluation.load(file).scores.mean()) if file.is_file() else None


def is_trained(plan: Plan, run: Run) -> bool:
    """
    :param plan: what it belongs to
    :param run: a run
    :return: whether it has a model that has done all its steps; one that was interrupted may have left a model too
    """
    return (steps_of(run.experiment / f"{_name(run.env)}.zip") or 0) >= plan.n_timesteps


def format_status(plan: Plan, runs: Sequence[Run]) -> str:
    """
    :param plan: what is trained
    :param runs: its runs
    :return: a line for each game and variant, with the score of each seed that is done, and how far the others are
    """
    lines = []
    for env in plan.games:
        lines.append([f"{env}, {plan.n_timesteps} steps", *(f"seed {seed}" for seed in plan.seeds)])
        for label in plan.variants:
            lines.append([label, *(_state(plan, run) for run in runs if (run.env, run.label) == (env, label))])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _state(plan: Plan, run: Run) -> str:
    value = score(plan, run)
    if value is not None:
        return f"{value:.2f}"
    steps = run.steps()
    return f"{min(100 * steps // plan.n_timesteps, 100)} %" if steps > 0 else "-"


def next_command(plan: Plan, run: Run, device: str) -> list[str] | None:
    """
    :param plan: what it belongs to
    :param run: a run
    :param device: where it is to be trained, if it begins
    :return: module and arguments of what trains it, from where it stands; None if it is trained
    :raises ValueError: if its checkpoints are of another version's format
    """
    if is_trained(plan, run):
        return None
    if run.has_checkpoint:
        return ["sb3_atari_dqn", "resume", str(run.experiment), "--device", device, "--trust"]  # it is our own
    return train_command(plan, run, device)


def train_command(plan: Plan, run: Run, device: str) -> list[str]:
    """
    :param plan: what it belongs to
    :param run: what is to be trained
    :param device: where
    :return: module and arguments
    """
    params = {**plan.params, **run.variant.params}
    texts = [f"{name}:{_python(value)}" for name, value in params.items()]
    return [
        *f"sb3_atari_dqn train --algo {run.variant.algo} --env {run.env} --seed {run.seed} -n {plan.n_timesteps}".split(),
        *f"--eval-freq -1 --device {device}".split(),
        *("--conf-file", run.variant.config, "-f", str(run.folder)),
        *(["-params", *texts] if texts else []),
    ]


def _python(value: Any) -> str:
    """
    :param value: a hyperparameter
    :return: what RL Zoo evaluates to it
    """
    return "float('inf')" if value == math.inf else repr(value)


def evaluate_command(plan: Plan, run: Run) -> list[str]:
    """
    :param plan: what it belongs to
    :param run: what is to be played
    :return: module and arguments
    """
    episodes = [] if plan.episodes is None else ["--episodes", str(plan.episodes)]
    own = "--trust"  # maybe with networks and wrappers of the user's own
    return ["sb3_atari_dqn", "evaluate", str(run.experiment), "--protocol", plan.protocol, own, *episodes]
