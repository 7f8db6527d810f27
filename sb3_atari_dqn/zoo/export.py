"""``python -m sb3_atari_dqn export``: a trained model as a file for others, ONNX or safetensors."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rl_zoo3.utils import ALGOS

from sb3_atari_dqn.atomic_files import check_output, what_failed
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints.logs import say
from sb3_atari_dqn.saving.model_files import describe, save_model
from sb3_atari_dqn.saving.onnx_files import export_onnx
from sb3_atari_dqn.zoo.runs import find_algo, find_run, load_model


def export(arguments: Sequence[str]) -> None:
    """
    Write a model's files.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn export", description="Write a trained model as a file that holds no code."
    )
    parser.add_argument("run", type=Path, help="folder of a training run, or a model's file")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="ONNX file to write: observations in, Q-values out")
    parser.add_argument("--safetensors", type=Path, metavar="FILE", help="safetensors file to write, for sb3_atari_dqn.load")
    parser.add_argument("--no-optimizer", action="store_true", help="leave the optimizer's state out of the safetensors file")
    parser.add_argument("--load-best", action="store_true", help="the best model of the run's evaluations, not the last one")
    parser.add_argument("--algo", metavar="NAME", help="the algorithm of a file, where it does not tell")
    parser.add_argument("--trust", action="store_true", help="allow the model's file to run code, as Stable-Baselines3 does")
    args = parser.parse_args(arguments)
    try:
        outputs = _check(args)
        path, algo = _find_model(args)
        if path.resolve() in [output.resolve() for output in outputs]:
            raise ValueError(f"{str(path)!r} is what is exported: give another name for the new file")
        model = load_model(path, algo, trust=args.trust)
        if args.safetensors is not None:  # before any file is written
            if not isinstance(model, QLearningAlgorithm):
                raise ValueError(f"--safetensors does not go with a model of {algo!r}; what goes is dqn_custom and dqn_sweep")
            describe(model)
        if args.onnx is not None:
            export_onnx(model, args.onnx)
        if args.safetensors is not None:
            assert isinstance(model, QLearningAlgorithm)
            save_model(model, args.safetensors, optimizer=not args.no_optimizer)
    except OSError as error:
        parser.error(what_failed(error))
    except ValueError as error:
        parser.error(str(error))
    for output in outputs:
        print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")


def _check(args: argparse.Namespace) -> list[Path]:
    """
    :param args: of the command line
    :return: files to write
    :raises ValueError: for what is not allowed
    """
    outputs = [output for output in (args.onnx, args.safetensors) if output is not None]
    if not outputs:
        raise ValueError("nothing to write: give --onnx FILE or --safetensors FILE, or both")
    for name in ("onnx", "safetensors"):
        if vars(args)[name] is not None:
            try:
                check_output(vars(args)[name])
            except ValueError as error:
                raise ValueError(f"--{name} {error}") from None
    if len({output.resolve() for output in outputs}) < len(outputs):
        raise ValueError(f"--onnx and --safetensors are both {str(args.onnx)!r}: give each a file of its own")
    if args.no_optimizer and args.safetensors is None:
        raise ValueError("--no-optimizer goes with --safetensors alone")
    if args.algo is not None and args.algo not in ALGOS:
        raise ValueError(f"--algo {args.algo!r} is not known; choose one of {', '.join(ALGOS)}")
    return outputs


def _find_model(args: argparse.Namespace) -> tuple[Path, str]:
    """
    :param args: of the command line
    :return: the model's file, and name of its algorithm in RL Zoo
    :raises ValueError: if that is not clear
    """
    path: Path = args.run
    if path.is_dir():
        run = find_run(path, args.trust)
        if args.algo is not None:
            raise ValueError(f"--algo {args.algo} does not go with a run, which has its own: {run.args['algo']}")
        model_path, notes = run.find_model(args.load_best)
        for note in notes:
            say(note)
        return model_path, run.args["algo"]
    if args.load_best:
        raise ValueError(f"--load-best does not go with a file, {str(path)!r}")
    return path, args.algo or find_algo(path)
