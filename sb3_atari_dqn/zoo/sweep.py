"""``python -m sb3_atari_dqn sweep`` and ``ablation``: presets times seeds times games, trained, played and compared."""

import argparse
import concurrent.futures
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch as th
from tqdm import tqdm

from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.plans import (
    EVALUATION_LOG,
    TRAINING_LOG,
    Plan,
    Run,
    check,
    check_folder,
    format_status,
    read_plan,
    runs_of,
    score,
    with_absolute_files,
    write_plan,
)
from sb3_atari_dqn.zoo.presets import ablations
from sb3_atari_dqn.zoo.trainings import Place, RayCluster, ThisMachine, check_ray

#: seconds between two looks at how far the runs are
_LOOK_EVERY = 2


def ablation(arguments: Sequence[str]) -> None:
    """
    Train what is not trained yet on one game, play, and compare.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn ablation",
        description="What does each improvement bring? Trains presets with several seeds, plays, and compares. Given again, "
        "the command goes on where it stopped.",
    )
    parser.add_argument("list", metavar="ablation", help=f"a YAML file, or one of {', '.join(ablations())}")
    parser.add_argument("-f", "--folder", type=Path, help="where runs, table and picture go (default: the list's name)")
    parser.add_argument("--env", metavar="ID", help="another game than the file's")
    _add_arguments(parser)
    _run(parser, parser.parse_args(arguments), "ablation")


def sweep(arguments: Sequence[str]) -> None:
    """
    Train what is not trained yet on several games, on this machine or on many, play, and compare.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn sweep",
        description="Trains presets with several seeds on several games, plays, and compares; on this machine or on a cluster "
        "of Ray. Given again, the command goes on where it stopped.",
    )
    parser.add_argument("list", metavar="file", help=f"a YAML file, or one of {', '.join(ablations())}")
    parser.add_argument(
        "-f",
        "--folder",
        type=Path,
        help="where runs, table and picture go, on storage that all machines share (default: the list's name)",
    )
    parser.add_argument("--envs", metavar="ID", nargs="+", help="other games than the file's")
    parser.add_argument("--ray", metavar="ADDRESS", help="train on this cluster of Ray: host:port of its head")
    parser.add_argument("--cpus", type=float, help="with --ray: processor cores of each run (default: 1)")
    parser.add_argument("--gpus", type=float, help="with --ray: GPUs of each run, 0.25 for a quarter of one (default: 0)")
    _add_arguments(parser)
    _run(parser, parser.parse_args(arguments), "sweep")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--n-timesteps", type=int, help="agent steps of each run, if not as many as in the file")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds, if not those of the file")
    parser.add_argument("--variants", metavar="NAME", nargs="+", help="these of the file's variants alone")
    parser.add_argument("--episodes", type=int, help="whole games to play in the end (default: as the protocol says)")
    parser.add_argument("--jobs", type=int, help="trainings at a time (default: 1)")
    parser.add_argument("--device", default="auto", help="of the trainings (default: %(default)s)")
    parser.add_argument("--list", dest="only_list", action="store_true", help="show how far the runs are, and train nothing")


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace, name: str) -> None:
    """
    Do what the command line says.

    :param parser: says what is wrong
    :param args: what it has read
    :param name: of the command, and of the files that it writes
    """
    address = getattr(args, "ray", None)
    folder = args.folder or Path(Path(args.list).stem)
    try:
        plan = _with_arguments(read_plan(args.list), args)
        if name == "ablation" and plan.env is None:
            raise ValueError(f"{args.list!r} is a list for several games: give --env, or take the command sweep")
        check(plan)
        _check_device(args.device)
        _check_shares(args, address)
        content = check_folder(plan, folder)
        place = None if args.only_list else _find_place(args, address)
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    if address is not None:  # nodes work elsewhere
        plan, folder = with_absolute_files(plan), folder.absolute()
    runs = list(runs_of(plan, folder))
    if place is not None:
        write_plan(content, folder)
        train_all(plan, runs, place, args.device)
    print(format_status(plan, runs))
    done = [run for run in runs if score(plan, run) is not None]
    if len(done) < len(runs):
        if not args.only_list:
            logs = ", ".join(str(run.folder) for run in runs if run not in done)
            sys.exit(f"{len(runs) - len(done)} of {len(runs)} runs failed; see {TRAINING_LOG} and {EVALUATION_LOG} in {logs}")
        return
    folders = [str(run.experiment) for run in runs]
    figures = ["--json", str(folder / f"{name}.json"), "-o", str(folder / f"{name}.png")]
    compare([*folders, "--protocol", plan.protocol, "--labels", *(run.label for run in runs), *figures])


def _check_device(device: str) -> None:
    """
    :param device: of the trainings
    :raises ValueError: if PyTorch has none of this name; whether there is one, the machine that trains finds out
    """
    try:
        th.device("cpu" if device == "auto" else device)
    except RuntimeError as error:
        raise ValueError(f"--device {device!r} is not known: {str(error).splitlines()[0]}") from None


def _find_place(args: argparse.Namespace, address: str | None) -> Place:
    """
    :param args: of the command line
    :param address: of a cluster of Ray, if there is one
    :return: where to train
    :raises ValueError: if there is no such cluster
    """
    if address is None:
        return ThisMachine(args.jobs or 1)
    check_ray(address)
    return RayCluster(address, 1 if args.cpus is None else args.cpus, args.gpus or 0)


def _with_arguments(plan: Plan, args: argparse.Namespace) -> Plan:
    if getattr(args, "env", None) is not None:
        plan = plan._replace(env=args.env, envs=())
    if getattr(args, "envs", None) is not None:
        plan = plan._replace(env=None, envs=args.envs)
    if args.variants is not None:
        for label in args.variants:
            if label not in plan.variants:
                raise ValueError(f"--variants {label!r} is none of {args.list!r}, which has {', '.join(plan.variants)}")
        plan = plan._replace(variants={label: plan.variants[label] for label in args.variants})
    overrides = ("n_timesteps", "seeds", "episodes")
    return plan._replace(**{name: getattr(args, name) for name in overrides if getattr(args, name) is not None})


def _check_shares(args: argparse.Namespace, address: str | None) -> None:
    """
    :param args: of the command line
    :param address: of a cluster of Ray, if there is one
    :raises ValueError: for a number that is not allowed, or that has no effect
    """
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs} must be at least 1")
    if address is not None and args.jobs is not None:
        raise ValueError(f"--jobs {args.jobs} has no effect with --ray, which trains as many as it has room for: give --cpus")
    for name, least in (("cpus", 0.01), ("gpus", 0.0)):
        value = getattr(args, name, None)
        if value is None:
            continue
        if address is None:
            raise ValueError(f"--{name} {value:g} has no effect without --ray")
        if not least <= value < float("inf"):
            raise ValueError(f"--{name} {value:g} must be at least {least:g}")
        if value > 1 and value != int(value):
            raise ValueError(f"--{name} {value:g} must be a whole number if it is above 1")


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which batch systems send, end the runs as Ctrl-C does: behind a checkpoint."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # others cannot have handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def train_all(plan: Plan, runs: Sequence[Run], place: Place, device: str) -> None:
    """
    Train and play what is not done yet. A run that fails does not stop the others.

    :param plan: what is to be trained
    :param runs: its runs
    :param place: where
    :param device: of each training
    """
    waiting = [run for run in runs if score(plan, run) is None]
    bar: tqdm[Any] = tqdm(
        total=len(waiting) * plan.n_timesteps,
        initial=_steps(plan, waiting),
        desc=f"{len(waiting)} runs",
        unit="step",
        smoothing=0.05,
        disable=None,
    )
    with bar, _ended_by_sigterm():
        try:
            pending = {place.submit(plan, run, device) for run in waiting}
            while pending:
                done, pending = concurrent.futures.wait(pending, _LOOK_EVERY, concurrent.futures.FIRST_COMPLETED)
                bar.n = _steps(plan, waiting)
                bar.refresh()
                for future in done:
                    error = future.exception()
                    if error is not None:
                        bar.write(f"A run failed: {error}")
                if done:
                    bar.write(format_status(plan, runs))
        finally:
            place.close()


def _steps(plan: Plan, runs: Sequence[Run]) -> int:
    return sum(min(run.steps(), plan.n_timesteps) for run in runs)
