"""``python -m sb3_atari_dqn evaluate``: whole games with a trained model, as in its training or by a protocol."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from rl_zoo3.utils import ALGOS, create_test_env
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack

from sb3_atari_dqn.atomic_files import cannot_write, check_output
from sb3_atari_dqn.checkpoints.logs import say
from sb3_atari_dqn.envs.ale_vec_env import is_atari
from sb3_atari_dqn.evaluation.environments import UNSEEN, Preprocessing, find_rom, guess_preprocessing
from sb3_atari_dqn.evaluation.play import N_ENVS, Episode, ModelPolicy, play_episodes, play_protocol
from sb3_atari_dqn.evaluation.protocols import PROTOCOLS, find_protocol
from sb3_atari_dqn.evaluation.results import AS_TRAINED, Evaluation, rules_of
from sb3_atari_dqn.evaluation.scores import human_normalized_score, reference_scores
from sb3_atari_dqn.evaluation.statistics import histogram
from sb3_atari_dqn.saving.normalization import load_normalization
from sb3_atari_dqn.saving.trust import UntrustedFileError
from sb3_atari_dqn.zoo.run_files import packages_to_import
from sb3_atari_dqn.zoo.runs import Run, find_algo, find_run, find_run_of, load_model

#: what is given in place of a model for random play
RANDOM = "random"


class _Player(NamedTuple):
    """
    Who is to play what.

    :param env_id: the game
    :param algo: name of the algorithm in RL Zoo, or ``RANDOM``
    :param model_path: file of the model; None for random play
    :param run: the run that the model is of; None if that is not known
    """

    env_id: str
    algo: str
    model_path: Path | None
    run: Run | None


def evaluate(arguments: Sequence[str]) -> None:
    """
    Play whole games, print their scores' statistics.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn evaluate", description="Play whole games with a trained model and print the scores."
    )
    parser.add_argument(
        "run", help="folder of a training run, e.g. logs/dqn_custom/PongNoFrameskip-v4_1; or a model's file; or 'random'"
    )
    parser.add_argument(
        "--protocol", metavar="NAME", help=f"rules to play by: {', '.join(PROTOCOLS)} (default: those of the run's training)"
    )
    parser.add_argument("--episodes", type=int, help="whole games to play (default: 30, or what the protocol says)")
    parser.add_argument("--seed", type=int, default=0, help="seed of games and epsilon (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, help="file for the scores of all games (default: in the run's folder, if there is a protocol)"
    )
    parser.add_argument("--load-best", action="store_true", help="the best model of the run's evaluations, not the last one")
    parser.add_argument("--deterministic", action="store_true", help="always the best action, never a random one")
    parser.add_argument("--env", metavar="ID", help="the game, for a file or 'random'")
    parser.add_argument("--algo", metavar="NAME", help="the algorithm of a file, where it does not tell")
    parser.add_argument("--trust", action="store_true", help="allow the files of model and run to run code, as RL Zoo does")
    args = parser.parse_args(arguments)

    try:
        _check(args)
        player = _find_player(args)
        output = _output(args, player)
        if output is not None:  # not after all games are played
            try:
                check_output(output)
            except ValueError as error:
                raise ValueError(f"{error}{_elsewhere(args)}") from None
        for package in [] if player.run is None else packages_to_import(player.run.args, args.trust):
            importlib.import_module(package)
        model = None if player.model_path is None else load_model(player.model_path, player.algo, args.seed, args.trust)
        evaluation = _play(args, player, model)
    except (ImportError, ValueError) as error:
        parser.error(str(error))

    spec = gym.registry.get(player.env_id)
    game = find_rom(player.env_id) if spec is not None and is_atari(spec) else None
    failure = None
    if output is not None:  # first of all: who reads what is printed may stop reading
        try:
            evaluation.save(output, game)
        except OSError as error:
            failure = f"{cannot_write(output, error)}{_elsewhere(args)}"
    _show(evaluation, game)
    if failure is not None:
        parser.error(failure)
    if output is not None:
        print(output)


def _elsewhere(args: argparse.Namespace) -> str:
    return "; --json FILE writes it elsewhere" if args.json is None else ""


def _output(args: argparse.Namespace, player: _Player) -> Path | None:
    """
    :param args: of the command line
    :param player: who plays
    :return: file for the scores of all games; None for no file
    """
    if args.json is not None or args.protocol is None or player.run is None:
        return args.json
    assert player.model_path is not None
    is_last = player.model_path.stem == player.run.params.name
    return evaluation_file(player.run.folder, args.protocol, "" if is_last else player.model_path.stem)


def evaluation_file(folder: Path, protocol: str, model: str = "") -> Path:
    """
    :param folder: of a training run
    :param protocol: name of a protocol
    :param model: name of the model, if it is not the last one of the run
    :return: where its evaluation is written if no other place is given
    """
    return folder / f"evaluation_{protocol}{'_' if model else ''}{model}.json"


def _check(args: argparse.Namespace) -> None:
    """
    :param args: of the command line
    :raises ValueError: for what is not allowed, whatever is to play
    """
    if args.episodes is not None and args.episodes < 1:
        raise ValueError(f"--episodes {args.episodes} must be at least 1")
    if not 0 <= args.seed < 2**32 - N_ENVS:
        raise ValueError(f"--seed {args.seed} must be from 0 to {2**32 - N_ENVS - 1}")
    if args.protocol is not None:
        find_protocol(args.protocol)
        if args.deterministic:
            raise ValueError(f"--deterministic does not go with --protocol {args.protocol}, which says how to act")
    if args.algo is not None and args.algo not in ALGOS:
        raise ValueError(f"--algo {args.algo!r} is not known; choose one of {', '.join(ALGOS)}")


def _find_player(args: argparse.Namespace) -> _Player:
    """
    :param args: of the command line
    :return: who is to play what
    :raises ValueError: if that is not clear
    """
    path = Path(args.run)
    if path.suffix in (".zip", ".safetensors") and not path.exists():
        raise ValueError(f"{args.run!r} does not exist")
    if args.load_best and (path.is_file() or args.run == RANDOM):
        raise ValueError(f"--load-best does not go with {args.run!r}")
    if path.is_file():
        try:
            run = find_run_of(path, args.trust)
        except ValueError as error:
            if args.env is None and isinstance(error, UntrustedFileError):
                raise
            if args.env is None:
                raise ValueError(f"{args.run!r} is not of a training run and does not tell the game: give --env") from None
        else:
            if args.env not in (None, run.args["env"]):
                raise ValueError(f"--env {args.env} does not go with {args.run!r}, of a run on {run.args['env']}")
            return _Player(run.args["env"], args.algo or run.args["algo"], path, run)
    if args.run == RANDOM or path.is_file():
        if args.env is None:
            raise ValueError(f"{args.run!r} does not tell the game: give --env, e.g. --env BreakoutNoFrameskip-v4")
        if args.protocol is None:
            raise ValueError(f"{args.run!r} does not tell the rules: give --protocol, one of {', '.join(PROTOCOLS)}")
        if args.run == RANDOM and args.algo is not None:
            raise ValueError(f"--algo does not go with {args.run!r}")
        find_rom(args.env)
        if args.run == RANDOM:
            return _Player(args.env, RANDOM, None, None)
        return _Player(args.env, args.algo or find_algo(path), path, None)
    run = find_run(path, args.trust)
    for name in ("env", "algo"):
        if vars(args)[name] is not None:
            raise ValueError(f"--{name} {vars(args)[name]} does not go with a run, which has its own: {run.args[name]}")
    model_path, notes = run.find_model(args.load_best)
    for note in notes:
        say(note)
    return _Player(run.args["env"], run.args["algo"], model_path, run)


def _play(args: argparse.Namespace, player: _Player, model: BaseAlgorithm | None) -> Evaluation:
    """
    :param args: of the command line
    :param player: who is to play what
    :param model: the player's model
    :return: the games
    :raises ValueError: if the model does not fit the game
    """
    if args.protocol is None:
        assert player.run is not None
        assert model is not None
        episodes = play_as_trained(player.run, model, args.episodes or 30, args.seed, args.deterministic)
        name, rules = AS_TRAINED, {}
    else:
        protocol = find_protocol(args.protocol).with_episodes(args.episodes)
        seen = _preprocessing(player, model)
        episodes = play_protocol(protocol, player.env_id, model, seen, args.seed)
        name, rules = protocol.name, rules_of(protocol)
    return Evaluation(
        protocol=name,
        rules=rules,
        env_id=player.env_id,
        label=player.run.label if player.run is not None else player.algo,
        model=RANDOM if player.model_path is None else str(player.model_path),
        algo=player.algo,
        training_seed=None if player.run is None else player.run.args["seed"],
        training_steps=None if model is None else model.num_timesteps,
        seed=args.seed,
        episodes=tuple(episodes),
    )


def _preprocessing(player: _Player, model: BaseAlgorithm | None) -> Preprocessing:
    """
    :param player: who is to play
    :param model: its model
    :return: what it was trained to see
    :raises ValueError: if that is not known
    """
    if model is None:
        return UNSEEN
    if player.run is not None:
        return player.run.preprocessing()
    return guess_preprocessing(player.env_id, model.observation_space)


def play_as_trained(run: Run, model: BaseAlgorithm, n_episodes: int, seed: int, deterministic: bool) -> list[Episode]:
    """
    Play in Gymnasium's environments, made from the configuration of the model's training.

    :param run: the model's training
    :param model: the model
    :param n_episodes: whole games to play
    :param seed: of games and epsilon
    :param deterministic: always the best action
    :return: the games
    """
    env = make_env_as_trained(run, min(n_episodes, N_ENVS), seed)
    set_random_seed(seed)
    model.set_random_seed(seed)
    try:
        return play_episodes(env, ModelPolicy(model, deterministic), n_episodes, seed)
    finally:
        env.close()


def make_env_as_trained(run: Run, n_envs: int, seed: int, **more: Any) -> VecEnv:
    """
    :param run: a training run
    :param n_envs: copies of the game
    :param seed: of the first copy
    :param more: arguments of the game besides those that the run gave it, such as ``render_mode``
    :return: Gymnasium's environments, made from the run's configuration
    :raises ValueError: if they were normalised, and the run's averages cannot be read
    """
    hyperparams = run.hyperparams()
    env_kwargs = {**(hyperparams.pop("env_kwargs", None) or {}), **(run.args.get("env_kwargs") or {}), **more}
    env = create_test_env(
        run.args["env"],
        n_envs=n_envs,
        stats_path=None,  # or RL Zoo would unpickle averages, before it stacks frames
        seed=seed,
        should_render=False,
        hyperparams=hyperparams,
        env_kwargs=env_kwargs,
        vec_env_cls=DummyVecEnv,
    )
    if hyperparams.get("normalize"):
        env = load_normalization(run.params / "vecnormalize.pkl", env, run.trust)
        env.training, env.norm_reward = False, False
    n_stack = hyperparams.get("frame_stack") or 0
    return VecFrameStack(env, n_stack) if n_stack > 0 else env


def _show(evaluation: Evaluation, game: str | None) -> None:
    """
    :param evaluation: what to print
    :param game: as ALE names its ROM; None if it is no Atari game
    """
    summary = evaluation.summary()
    mean = summary.mean.value
    print(
        f"{evaluation.env_id}: mean {mean:.2f}, standard deviation {summary.std:.2f}, "
        f"minimum {summary.minimum:.10g}, maximum {summary.maximum:.10g} (whole games: {len(evaluation.episodes)})"
    )
    line = f"{evaluation.protocol}: median {summary.median:.10g}"
    if len(evaluation.episodes) > 1:
        line += f", 95 % interval of the mean [{summary.mean.low:.2f}, {summary.mean.high:.2f}]"
    if game is not None and game in reference_scores():
        line += f", human-normalised {human_normalized_score(game, float(mean)):.3f}"
    print(line)
    print(histogram(evaluation.scores))
