"""``python -m sb3_atari_dqn report``: a training run as one HTML page."""

import argparse
import importlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_atari_dqn.atomic_files import cannot_write, check_output, written_whole
from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.evaluation.environments import find_rom
from sb3_atari_dqn.evaluation.play import ModelPolicy
from sb3_atari_dqn.evaluation.recording import play_steps
from sb3_atari_dqn.loading import kind_of, read_model
from sb3_atari_dqn.report.curves import monitor_files
from sb3_atari_dqn.report.page import render_page
from sb3_atari_dqn.report.player import record_player
from sb3_atari_dqn.report.training import evaluation_results, network_weights, training_charts
from sb3_atari_dqn.versions import versions
from sb3_atari_dqn.zoo.evaluate import make_env_as_trained
from sb3_atari_dqn.zoo.run_files import packages_to_import
from sb3_atari_dqn.zoo.runs import NO_FINAL_MODEL, Run, find_preprocessing, find_run, load_model

#: a game that does not end is recorded until there
MAX_STEPS = 30_000


def report(arguments: Sequence[str]) -> None:
    """
    Write the page of a run.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn report",
        description="Write one HTML page of a training run: its curves and tests, a recorded game, what the network sees.",
    )
    parser.add_argument("run", type=Path, help="folder of a training run, e.g. logs/dqn_custom/PongNoFrameskip-v4_1")
    parser.add_argument("-o", "--output", type=Path, help="page to write (default: report.html in the run's folder)")
    parser.add_argument("--load-best", action="store_true", help="the best model of the run's evaluations, not the last one")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recorded game (default: %(default)s)")
    parser.add_argument("--trust", action="store_true", help="allow the files of model and run to run code, as RL Zoo does")
    args = parser.parse_args(arguments)
    output = args.output or args.run / "report.html"
    elsewhere = "; -o FILE writes it elsewhere" if args.output is None else ""
    try:
        if not 0 <= args.seed < 2**32:
            raise ValueError(f"--seed {args.seed} must be from 0 to {2**32 - 1}")
        run = find_run(args.run, args.trust)
        for package in packages_to_import(run.args, args.trust):
            importlib.import_module(package)
        model_path, notes = find_model(run, args.load_best)
        try:
            check_output(output)  # not after a game is recorded
        except ValueError as error:
            raise ValueError(f"{error}{elsewhere}") from None
        data = collect(run, model_path, notes, args.seed)
        page = render_page(f"{run.args['env']}, {run.label}", data)
    except (ImportError, ValueError) as error:
        parser.error(str(error))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(output) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        parser.error(f"{cannot_write(output, error)}{elsewhere}")
    for note in data["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(output)


def find_model(run: Run, best: bool) -> tuple[Path | None, list[str]]:
    """
    :param run: a training run
    :param best: the best model of its evaluations
    :return: the file to show: the last model; of a training that has not ended, its newest checkpoint, or else the newest zip
        file, None if there is neither; and what is to be said of it
    :raises ValueError: if the best one is wanted and not there, or the folder holds nothing of a training
    """
    try:
        path, notes = run.find_model(best)
        if path.suffix == ".json":
            read_model(path)  # it may be one that can only be resumed
        return path, notes
    except ValueError as error:
        if best:
            raise
        notes = [str(error)] if run.checkpoints.manifests() else []
    patterns = ("rl_model_*_steps.zip", "checkpoint.zip", "best_model.zip")
    saved = [path for pattern in patterns for path in run.folder.glob(pattern) if zipfile.is_zipfile(path)]
    if saved:
        newest = max(saved, key=lambda path: path.stat().st_mtime)
        return newest, [*notes, f"{NO_FINAL_MODEL} The page shows {newest.name}, the newest model in its folder."]
    if not monitor_files(run.folder) and not any(run.folder.glob("rewards.csv")):
        final = str(run.folder / f"{run.params.name}.zip")
        raise ValueError(f"{str(run.folder)!r} holds no model, such as {final!r}, and no scores of a training")
    return None, [*notes, f"{NO_FINAL_MODEL} Its folder holds no model, so the player and the network are left out."]


def collect(run: Run, model_path: Path | None, notes: Sequence[str], seed: int) -> dict[str, Any]:
    """
    :param run: a training run
    :param model_path: file of its model; None for a page without player and network
    :param notes: what is to be said at the top of the page
    :param seed: of the recorded game
    :return: all that the page shows, for JSON
    :raises ValueError: if the model cannot be loaded
    """
    hyperparams = run.hyperparams()
    model = None if model_path is None else load_model(model_path, run.args["algo"], seed, run.trust)
    n_steps = None if model is None else int(model.num_timesteps)
    try:
        game = find_rom(run.args["env"])
    except ValueError:
        game = None
    data: dict[str, Any] = {
        "title": run.args["env"],
        "algo": run.args["algo"],
        "label": run.label,
        "folder": run.folder.resolve().name,
        "notes": list(notes),
        "training": training_charts(run.folder, int(hyperparams.get("n_envs") or 1), n_steps),
        "test": evaluation_results(run.folder, game),
        "configuration": {
            "hyperparameters": _texts(hyperparams),
            "arguments": _texts(
                {name: value for name, value in run.args.items() if value is not False and value not in (None, "", [], -1)}
            ),
            "versions": _versions(model_path),
        },
        "player": None,
        "player_missing": "There is no model to play with.",
        "network": {"layers": [], "missing": "there is no model"},
    }
    if model is None or model_path is None:
        return data
    data["model"] = {"file": model_path.name, "steps": n_steps}
    if not all(bool(th.isfinite(parameter).all()) for parameter in model.policy.parameters()):
        data["notes"].append("The model has parameters that are not finite numbers: its training has diverged.")
    try:
        data["network"] = {"layers": network_weights(model), "missing": None}
    except ValueError as error:
        data["network"] = {"layers": [], "missing": str(error)}
    if isinstance(model.observation_space, gym.spaces.Dict):
        data["player_missing"] = "Games with observations of several parts are not shown."
    else:
        data["player"] = _record(run, hyperparams, model, seed)
    return data


def _record(run: Run, hyperparams: dict[str, Any], model: BaseAlgorithm, seed: int) -> dict[str, Any]:
    """
    :param run: the model's training
    :param hyperparams: its configuration
    :param model: what plays, as ``evaluate`` without a protocol lets it
    :param seed: of game and epsilon
    :return: a game
    """
    try:
        env = make_env_as_trained(run, 1, seed, render_mode="rgb_array")
    except TypeError:  # an environment that shows no pictures, and does not take the argument
        env = make_env_as_trained(run, 1, seed)
    try:
        set_random_seed(seed)
        model.set_random_seed(seed)
        steps = tqdm(
            play_steps(env, ModelPolicy(model, deterministic=False), MAX_STEPS),
            desc="recording a game",
            unit="step",
            disable=None,
        )
        player = record_player(model, steps, _action_names(env), _channel_names(hyperparams, model))
    finally:
        env.close()
    return player


def _action_names(env: VecEnv) -> list[str]:
    assert isinstance(env.action_space, gym.spaces.Discrete)
    try:
        return list(env.env_method("get_action_meanings")[0])
    except AttributeError:
        return [f"action {number}" for number in range(int(env.action_space.n))]


def _channel_names(hyperparams: dict[str, Any], model: BaseAlgorithm) -> list[str]:
    """
    :return: names for channels of the network's input: the frames of a stack, or those of the motion tracer
    """
    try:
        seen = find_preprocessing(hyperparams)
    except ValueError:  # wrappers of the user's own
        shape = model.observation_space.shape or (1,)
        return [f"channel {number}" for number in range(shape[0])] if len(shape) == 3 else []
    if seen.tracer is not None:
        return ["image", "motion trace"]
    ago = [f"{number} step{'s' if number > 1 else ''} before" for number in range(seen.n_stack - 1, 0, -1)]
    return [*ago, "now"]


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else repr(value) for name, value in sorted(values.items())}


def _versions(model_path: Path | None) -> dict[str, dict[str, str]]:
    """
    :return: versions of packages: of the training, as far as its model tells, and of this page
    """
    found = {"this page": versions()}
    if model_path is not None and kind_of(model_path) == "checkpoint":
        found["training"] = CheckpointStore(model_path.parent).read_manifest(model_path).versions
    elif model_path is not None:
        try:
            with zipfile.ZipFile(model_path) as model:
                lines = model.read("system_info.txt").decode().splitlines()
        except (zipfile.BadZipFile, KeyError):
            return found
        pairs = (line.removeprefix("- ").split(": ", 1) for line in lines if ": " in line)
        found["training"] = {name: value.strip() for name, value in pairs}
    return found
