"""``python -m sb3_atari_dqn ablation``: what does each improvement bring? Presets times seeds, trained, played and compared.

A run is trained by RL Zoo in a process of its own. It is done when its evaluation is written; what is done stays done, so that
an ablation that was interrupted goes on where it stopped: runs that were not finished are trained anew.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import yaml
from tqdm import tqdm

from sb3_atari_dqn.checks import check_names
from sb3_atari_dqn.evaluation.environments import find_rom
from sb3_atari_dqn.evaluation.protocols import find_protocol
from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluation_file
from sb3_atari_dqn.zoo.experiment import check_hyperparams
from sb3_atari_dqn.zoo.presets import ablations, find_config

ALGO = "dqn_custom"

#: file that says what is trained in a folder
PLAN = "plan.json"

#: what RL Zoo's log says of a training now and then
_TIMESTEPS = re.compile(r"total_timesteps\s*\|\s*(\d+)")


class Variant(NamedTuple):
    """
    What is compared.

    :param conf_file: a preset, or a file of the user's
    :param params: hyperparameters to change
    """

    conf_file: str = ALGO
    params: Mapping[str, Any] = {}


class Ablation(NamedTuple):
    """
    Presets times seeds on one game.

    :param env: the game
    :param n_timesteps: agent steps of each run
    :param seeds: of the runs
    :param protocol: rules of the games that are played in the end
    :param variants: what is compared, by label
    :param params: hyperparameters to change in all of them
    :param episodes: whole games to play in the end; None for as many as the protocol says
    """

    env: str
    n_timesteps: int
    seeds: Sequence[int]
    protocol: str
    variants: Mapping[str, Variant]
    params: Mapping[str, Any] = {}
    episodes: int | None = None


class Run(NamedTuple):
    """
    One training.

    :param label: of its variant
    :param variant: what is trained
    :param seed: of the training
    :param folder: RL Zoo's log folder, for it alone
    """

    label: str
    variant: Variant
    seed: int
    folder: Path

    def experiment(self, env: str) -> Path:
        """
        :param env: the game
        :return: the folder that RL Zoo makes
        """
        return self.folder / ALGO / f"{env}_1"


def ablation(arguments: Sequence[str]) -> None:
    """
    Train what is not trained yet, play, and compare.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn ablation",
        description="What does each improvement bring? Trains presets with several seeds, plays, and compares. Given again, "
        "the command goes on where it stopped.",
    )
    parser.add_argument("ablation", help=f"a YAML file, or one of {', '.join(ablations())}")
    parser.add_argument("-f", "--folder", type=Path, required=True, help="where runs, table and picture go")
    parser.add_argument("--env", metavar="ID", help="another game than the file's")
    parser.add_argument("-n", "--n-timesteps", type=int, help="agent steps of each run, if not as many as in the file")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds, if not those of the file")
    parser.add_argument("--episodes", type=int, help="whole games to play in the end (default: as the protocol says)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="of the trainings (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show what is done, and train nothing")
    args = parser.parse_args(arguments)
    try:
        plan = read_ablation(args.ablation)
        overrides = ("env", "n_timesteps", "seeds", "episodes")
        plan = plan._replace(**{name: getattr(args, name) for name in overrides if getattr(args, name) is not None})
        check(plan)
        if args.jobs < 1:
            raise ValueError(f"--jobs {args.jobs} must be at least 1")
        content = check_folder(plan, args.folder)
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    runs = list(runs_of(plan, args.folder))
    if not args.list:
        args.folder.mkdir(parents=True, exist_ok=True)
        (args.folder / PLAN).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        train_all(plan, runs, args.jobs, args.device)
    print(format_status(plan, runs))
    done = [run for run in runs if score(plan, run) is not None]
    if len(done) < len(runs):
        if not args.list:
            logs = ", ".join(str(run.folder) for run in runs if run not in done)
            sys.exit(f"{len(runs) - len(done)} of {len(runs)} runs failed; see train.txt and evaluate.txt in {logs}")
        return
    folders = [str(run.experiment(plan.env)) for run in runs]
    figures = ["--json", str(args.folder / "ablation.json"), "-o", str(args.folder / "ablation.png")]
    compare([*folders, "--protocol", plan.protocol, "--labels", *(run.label for run in runs), *figures])


def read_ablation(name: str) -> Ablation:
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
        check_names(str(path), content, Ablation._fields)
        missing = [field for field in Ablation._fields if field not in content and field not in Ablation._field_defaults]
        if missing:
            raise ValueError(f"{str(path)!r} lacks {', '.join(missing)}")
        variants = {}
        for label, variant in content["variants"].items():
            check_names(f"variant {label!r}", variant or {}, Variant._fields)
            variants[str(label)] = Variant(**(variant or {}))
    except TypeError as error:
        raise ValueError(str(error)) from error
    return Ablation(**{**content, "variants": variants})


def check(plan: Ablation) -> None:
    """
    :param plan: what is to be trained
    :raises ValueError: for what is not allowed
    :raises TypeError: for a hyperparameter that does not exist
    """
    if plan.env not in gym.registry:
        raise ValueError(f"env={plan.env!r} is not known to Gymnasium")
    find_rom(plan.env)
    find_protocol(plan.protocol)
    for name, value in (("n_timesteps", plan.n_timesteps), ("episodes", plan.episodes)):
        is_allowed = value is None if name == "episodes" else False
        if not is_allowed and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}={value!r} must be a whole number, at least 1")
    seeds = plan.seeds
    if not isinstance(seeds, list | tuple) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds={seeds!r} must be whole numbers of at least 0, at least one")
    for seed, count in collections.Counter(seeds).items():
        if count > 1:
            raise ValueError(f"seed {seed} is given twice")
    for label, variant in plan.variants.items():
        if not re.fullmatch(r"[^/\\]+", label) or label.startswith("."):
            raise ValueError(f"variant {label!r} must be a name for a folder")
        check_hyperparams(ALGO, {**_section(find_config(variant.conf_file), plan.env), **plan.params, **variant.params})


def _section(config: str, env_id: str) -> dict[str, Any]:
    """
    :param config: a path, or a Python module, which is not looked into
    :param env_id: an Atari game
    :return: what RL Zoo will take for this game
    :raises ValueError: if there is nothing for it
    """
    if not Path(config).is_file() or Path(config).suffix == ".py":
        return {}
    sections = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    for name in (env_id, "atari"):
        if name in sections:
            return sections[name]
    raise ValueError(f"{config} has no section for {env_id!r}, and none for Atari games; it has {', '.join(sections)}")


def check_folder(plan: Ablation, folder: Path) -> dict[str, Any]:
    """
    :param plan: what is to be trained
    :param folder: where
    :return: what the folder is to say of what is trained there
    :raises ValueError: if something else was trained there
    """
    file = folder / PLAN
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
        for name in ("env", "n_timesteps", "protocol", "episodes", "params"):
            if old[name] != new[name]:
                raise ValueError(f"{str(folder)!r} is of another ablation, with {name}={old[name]!r}, not {new[name]!r}")
        for label in old["variants"].keys() & new["variants"].keys():
            if old["variants"][label] != new["variants"][label]:
                raise ValueError(f"{str(folder)!r} is of another ablation, whose {label!r} is {old['variants'][label]}")
        new["variants"] = {**old["variants"], **new["variants"]}
    return new


def runs_of(plan: Ablation, folder: Path) -> Iterator[Run]:
    """
    :param plan: what is to be trained
    :param folder: where
    :return: its runs; the first seed of all variants comes first
    """
    for seed in plan.seeds:
        for label, variant in plan.variants.items():
            yield Run(label, variant, seed, folder / label.replace(" ", "_") / f"seed_{seed}")


def score(plan: Ablation, run: Run) -> float | None:
    """
    :param plan: what it belongs to
    :param run: a run
    :return: mean of its games; None if they were not played yet
    """
    file = evaluation_file(run.experiment(plan.env), plan.protocol)
    return float(Evaluation.load(file).scores.mean()) if file.is_file() else None


def format_status(plan: Ablation, runs: Sequence[Run]) -> str:
    """
    :param plan: what is trained
    :param runs: its runs
    :return: a line for each variant, with the score of each seed that is done
    """
    lines = [[f"{plan.env}, {plan.n_timesteps} steps", *(f"seed {seed}" for seed in plan.seeds)]]
    for label in plan.variants:
        scores = [score(plan, run) for run in runs if run.label == label]
        lines.append([label, *("-" if value is None else f"{value:.2f}" for value in scores)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


class _Processes:
    """
    Commands that run at the same time.

    :param n_jobs: how many; each gets its share of the processor's cores
    :param bar: shows their agent steps
    """

    def __init__(self, n_jobs: int, bar: "tqdm[None]") -> None:
        self._environment = dict(os.environ)
        if n_jobs > 1:
            self._environment["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // n_jobs, 1))
        self._bar = bar
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, log: Path, *command: str) -> bool:
        """
        :param log: file for what the command prints
        :param command: module and arguments
        :return: whether it succeeded
        """
        known = 0
        with (
            log.open("w", encoding="utf-8") as file,
            subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment,
            ) as process,
        ):
            self._running.add(process)
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                found = _TIMESTEPS.search(line)
                if found and int(found[1]) > known:
                    with self._lock:
                        self._bar.update(int(found[1]) - known)
                    known = int(found[1])
        self._running.discard(process)
        return process.returncode == 0

    def say(self, text: str) -> None:
        """
        :param text: to print above the bar
        """
        with self._lock:
            self._bar.write(text)

    def terminate(self) -> None:
        """End all commands."""
        for process in list(self._running):
            process.terminate()


def train_all(plan: Ablation, runs: Sequence[Run], n_jobs: int, device: str) -> None:
    """
    Train and play what is not done yet. A run that fails does not stop the others.

    :param plan: what is to be trained
    :param runs: its runs
    :param n_jobs: how many at a time
    :param device: where
    """
    waiting = [run for run in runs if score(plan, run) is None]
    total = len(waiting) * plan.n_timesteps
    bar: tqdm[Any] = tqdm(total=total, desc=f"{len(waiting)} runs", unit="step", smoothing=0.05)
    with bar:
        processes = _Processes(n_jobs, bar)

        def train(run: Run) -> None:
            shutil.rmtree(run.folder, ignore_errors=True)  # of a run that was not finished
            run.folder.mkdir(parents=True)
            if processes.run(run.folder / "train.txt", *train_command(plan, run, device)):
                processes.run(run.folder / "evaluate.txt", *evaluate_command(plan, run))
            processes.say(format_status(plan, runs))

        with concurrent.futures.ThreadPoolExecutor(n_jobs) as pool:
            futures = [pool.submit(train, run) for run in waiting]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                processes.terminate()
                raise


def train_command(plan: Ablation, run: Run, device: str) -> list[str]:
    """
    :param plan: what it belongs to
    :param run: what is to be trained
    :param device: where
    :return: module and arguments
    """
    params = [f"{name}:{value!r}" for name, value in {**plan.params, **run.variant.params}.items()]
    return [
        *f"rl_zoo3.train --algo {ALGO} --env {plan.env} --seed {run.seed} -n {plan.n_timesteps}".split(),
        *f"--eval-freq -1 --device {device}".split(),
        *("--conf-file", find_config(run.variant.conf_file), "-f", str(run.folder)),
        *(["-params", *params] if params else []),
    ]


def evaluate_command(plan: Ablation, run: Run) -> list[str]:
    """
    :param plan: what it belongs to
    :param run: what is to be played
    :return: module and arguments
    """
    episodes = [] if plan.episodes is None else ["--episodes", str(plan.episodes)]
    own = "--trust"  # it was trained a moment ago, maybe with networks and wrappers of the user's own
    return ["sb3_atari_dqn", "evaluate", str(run.experiment(plan.env)), "--protocol", plan.protocol, own, *episodes]
