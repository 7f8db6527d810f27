"""``python -m sb3_atari_dqn evaluate``: whole games with a trained model, in Gymnasium's environments as its run has them."""

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rl_zoo3.utils import ALGOS, create_test_env, get_saved_hyperparams
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv
from tqdm import tqdm


def evaluate(arguments: list[str]) -> None:
    """
    Play whole games, print their scores' statistics.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn evaluate", description="Play whole games with a trained model and print the scores."
    )
    parser.add_argument("run", type=Path, help="folder of a training run, e.g. logs/dqn_custom/PongNoFrameskip-v4_1")
    parser.add_argument("--episodes", type=int, default=30, help="whole games to play (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of games and epsilon (default: %(default)s)")
    parser.add_argument("--load-best", action="store_true", help="the best model of the run's evaluations, not the last one")
    parser.add_argument("--deterministic", action="store_true", help="always the best action, never a random one")
    args = parser.parse_args(arguments)

    args_files = sorted(args.run.glob("*/args.yml"))
    if len(args_files) != 1:
        parser.error(
            f"{str(args.run)!r} is not the folder of a training run: give one such as logs/dqn_custom/PongNoFrameskip-v4_1"
        )
    if args.episodes < 1:
        parser.error(f"--episodes {args.episodes} must be at least 1")
    run_args = yaml.load(args_files[0].read_text(), Loader=yaml.UnsafeLoader)  # RL Zoo's file, with its Python tags
    model_path = args.run / ("best_model.zip" if args.load_best else f"{args_files[0].parent.name}.zip")
    if not model_path.is_file():
        parser.error(f"{str(model_path)!r} does not exist")

    scores = play(model_path, run_args, args_files[0].parent, args.episodes, args.seed, args.deterministic)
    print(
        f"{run_args['env']}: mean {scores.mean():.2f}, standard deviation {scores.std():.2f}, "
        f"minimum {scores.min():g}, maximum {scores.max():g} (whole games: {len(scores)})"
    )


def play(
    model_path: Path, run_args: dict[str, Any], params_path: Path, n_episodes: int, seed: int, deterministic: bool
) -> np.ndarray:
    """
    :param model_path: the model's zip file
    :param run_args: arguments of the training run
    :param params_path: folder with the run's ``config.yml``
    :param n_episodes: whole games to play
    :param seed: of games and epsilon
    :param deterministic: always the best action
    :return: scores, float (n_episodes,)
    """
    for package in run_args.get("gym_packages") or []:
        importlib.import_module(package)
    hyperparams, stats_path = get_saved_hyperparams(str(params_path), test_mode=True)
    env_kwargs = {**(hyperparams.pop("env_kwargs", None) or {}), **(run_args["env_kwargs"] or {})}
    set_random_seed(seed)
    env = create_test_env(
        run_args["env"],
        n_envs=min(n_episodes, 8),
        stats_path=stats_path,
        seed=seed,
        should_render=False,
        hyperparams=hyperparams,
        env_kwargs=env_kwargs,
        vec_env_cls=DummyVecEnv,
    )
    model = ALGOS[run_args["algo"]].load(model_path, seed=seed)
    with tqdm(total=n_episodes, desc="games", unit="game") as bar:

        def show(variables: dict[str, Any], _: dict[str, Any]) -> None:
            bar.update(len(variables["episode_rewards"]) - bar.n)

        scores = np.array(
            evaluate_policy(model, env, n_episodes, deterministic, callback=show, return_episode_rewards=True)[0]
        )
        bar.update(len(scores) - bar.n)
    env.close()
    return scores
