"""``python -m sb3_atari_dqn bench``: how fast is this on this machine, against what one uses now?

Contestants take turns, so that what else the machine does hits all of them; a figure is the median of their turns.
"""

import argparse
import contextlib
import functools
import gc
import importlib.util
import io
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch as th
from gymnasium import spaces
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecTransposeImage
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import sb3_atari_dqn
from sb3_atari_dqn.atomic_files import cannot_write, check_output, written_whole
from sb3_atari_dqn.dqn import CustomDQN
from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv
from sb3_atari_dqn.learning import accelerate as acceleration
from sb3_atari_dqn.replay.buffer import FrameReplayBuffer, sample_batch
from sb3_atari_dqn.replay.frames import COMPRESSIONS
from sb3_atari_dqn.replay.sweep_memory import Sweep, sweep_backwards
from sb3_atari_dqn.zoo.presets import find_config

EXTRA = "sb3-extra-buffers"
FRAMES = "FrameReplayBuffer"
PRIORITIZED = f"{FRAMES}, lz4, prioritized"

#: agent steps at random before learning is timed, and transitions that the timed runs keep
WARM_UP = 1000
KEPT = 20_000

PEER = "SB3's DQN, RL Zoo's settings"
PLAIN = "dqn_custom, one Gymnasium environment, float32"
PRESET = "dqn_custom, the preset"
RAINBOW = "dqn_custom, Rainbow"

#: what each learner is: RL Zoo's name of the algorithm, its configuration (None: that of --conf-file), and what is different
LEARNERS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    PEER: ("dqn", None, {}),
    PLAIN: (
        "dqn_custom",
        None,
        {"native_envs": False, "n_envs": 1, "precision": "float32", "accelerate": "fused", "overlap": False},
    ),
    PRESET: ("dqn_custom", None, {}),
    RAINBOW: ("dqn_custom", "rainbow", {}),
}


def bench(arguments: list[str]) -> None:
    """
    Measure and print the tables.

    :param arguments: of the command line
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_atari_dqn bench",
        description="How fast is this on this machine, beside Stable-Baselines3's DQN? It takes minutes.",
    )
    parser.add_argument("--env", default="PongNoFrameskip-v4", help="the game (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="agent steps of a learner's turn (default: %(default)s)")
    parser.add_argument(
        "--transitions",
        type=int,
        default=200_000,
        help="to fill replay memories with (default: %(default)s); 1000000 takes 8 GB",
    )
    parser.add_argument(
        "--conf-file", default="dqn_custom", help="preset or file that dqn_custom is measured with (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to as well")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="measure this part only; can be given more than once (default: all)"
    )
    args = parser.parse_args(arguments)
    for name, least in (("rounds", 1), ("steps", 1), ("transitions", 8)):  # one of each environment
        if getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)} must be at least {least}")
    try:
        AleVecEnv.check_values(args.env)
        find_config(args.conf_file)
        if args.json is not None:
            check_output(args.json)
    except ValueError as error:
        parser.error(str(error))

    results: dict[str, Any] = {"machine": describe_machine(args.device)}
    print(results["machine"])
    for part in args.only or PARTS:
        results[part] = PARTS[part](args)
        print(f"\n{TITLES[part]}\n{format_table(results[part])}", flush=True)
    if args.json:
        try:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(args.json) as temporary:
                temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            parser.error(cannot_write(args.json, error))


def describe_machine(device: str) -> str:
    """
    :param device: as given
    :return: processor, threads, GPU, versions and date
    """
    names = [line.split(":")[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    parts = [
        f"{os.cpu_count()} cores {names[0] if names else platform.processor()}, {th.get_num_threads()} threads",
        f"torch {th.__version__}, sb3_atari_dqn {sb3_atari_dqn.__version__}, Python {platform.python_version()}",
        time.strftime("%Y-%m-%d"),
    ]
    if th.cuda.is_available() and device != "cpu":
        parts.insert(1, th.cuda.get_device_name())
    return "; ".join(parts)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def alternate(turns: dict[str, Callable[[], float]], n_rounds: int, unit: str) -> dict[str, list[float]]:
    """
    :param turns: of each contestant, a turn that returns its figure
    :param n_rounds: turns of each
    :param unit: what is measured, for the progress bar
    :return: figures of each
    """
    figures: dict[str, list[float]] = {name: [] for name in turns}
    with tqdm(total=n_rounds * len(turns), desc=unit, leave=False, disable=None) as bar:
        for _ in range(n_rounds):
            for name, turn in turns.items():
                figures[name].append(turn())
                bar.update()
    return figures


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what RL Zoo prints."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def make_learner(name: str, args: argparse.Namespace, folder: str) -> OffPolicyAlgorithm:
    """
    A model as ``rl_zoo3.train`` makes it, past its random steps.

    :param name: a key of ``LEARNERS``
    :param args: of the command line
    :param folder: for logs
    :return: the model
    """
    algo, config, different = LEARNERS[name]
    if algo == "dqn_custom" and config is None:
        config = args.conf_file
    with quiet():
        manager = ExperimentManager(
            argparse.Namespace(),
            algo,
            args.env,
            folder,
            eval_freq=-1,
            hyperparams={**different, "learning_starts": WARM_UP, "buffer_size": KEPT},
            verbose=0,
            device=args.device,
            seed=1,
            config=config,
        )
        made = manager.setup_experiment()
        assert made is not None
        model: BaseAlgorithm = made[0]
        model.learn(WARM_UP + 100, log_interval=10**9)
    assert isinstance(model, OffPolicyAlgorithm)
    return model


def learning(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """
    :param args: of the command line
    :return: agent steps a second while learning, and ms an update, of each learner
    """
    with tempfile.TemporaryDirectory() as folder:
        models = {
            name: make_learner(name, args, folder) for name in tqdm(LEARNERS, desc="learners", leave=False, disable=None)
        }

        def steps_per_second(model: OffPolicyAlgorithm) -> float:
            start, before = time.perf_counter(), model.num_timesteps
            model.learn(args.steps, log_interval=10**9, reset_num_timesteps=False)
            _wait(model.device)
            return (model.num_timesteps - before) / (time.perf_counter() - start)

        def ms_per_update(model: OffPolicyAlgorithm, n_updates: int = 20) -> float:
            start = time.perf_counter()
            make_updates(model, n_updates)
            return 1000 * (time.perf_counter() - start) / n_updates

        rates = alternate(
            {name: functools.partial(steps_per_second, model) for name, model in models.items()}, args.rounds, "learning"
        )
        updates = alternate(
            {name: functools.partial(ms_per_update, model) for name, model in models.items()}, args.rounds, "updates"
        )
        n_flops = {name: count_flops(model) for name, model in models.items()}
        precisions = {name: precision_of(model) for name, model in models.items()}
        speeds = matrix_speeds(models[PEER].device, set(precisions.values()))

    table = {}
    for name, model in models.items():
        precision = precisions[name]
        limit = 1000 * n_flops[name] / speeds[precision]
        table[name] = {
            "agent steps/s": statistics.median(rates[name]),
            "times SB3": statistics.median(rates[name]) / statistics.median(rates[PEER]),
            "ms/update": statistics.median(updates[name]),
            "ms at matrix speed": limit,
            "matrix speed": f"{speeds[precision] / 1e9:.0f} GFLOP/s {precision}",
            "network": type(model.policy.get_submodule("q_net.features_extractor")).__name__,
            "batch": model.batch_size,
        }
    return table


def _wait(device: th.device) -> None:
    if device.type == "cuda":
        th.cuda.synchronize()


def make_updates(model: OffPolicyAlgorithm, n_updates: int) -> None:
    """
    :param model: a learner
    :param n_updates: gradient steps to make, and to wait for
    """
    model.train(n_updates, model.batch_size)
    if isinstance(model, CustomDQN):
        model.make_pending_updates()
    _wait(model.device)


def count_flops(model: OffPolicyAlgorithm) -> int:
    """
    :param model: a learner
    :return: floating-point operations of the matrices and convolutions of an update
    """
    with FlopCounterMode(display=False) as counter:
        make_updates(model, 1)
    return counter.get_total_flops()


def precision_of(model: OffPolicyAlgorithm) -> str:
    """
    :param model: a learner
    :return: number format that its updates are computed in
    """
    if isinstance(model, CustomDQN):
        return acceleration.resolve(model.precision, model.accelerate, model.device)[0]
    return "float32"


def matrix_speeds(device: th.device, precisions: Iterable[str]) -> dict[str, float]:
    """
    :param device: where it is measured
    :param precisions: ``"float32"``, ``"bf16"``; where the processor has no bf16, that one takes minutes
    :return: floating-point operations a second of a matrix product of 2048, for each precision
    """
    speeds = {}
    for name in precisions:
        matrix = th.randn(2048, 2048, device=device).to({"float32": th.float32, "bf16": th.bfloat16}[name])
        times = []
        for _ in range(7):
            start = time.perf_counter()
            matrix @ matrix
            _wait(device)
            times.append(time.perf_counter() - start)
        speeds[name] = 2 * 2048**3 / statistics.median(times)
    return speeds


def environments(args: argparse.Namespace, n_envs: int = 8) -> dict[str, dict[str, Any]]:
    """
    :param args: of the command line
    :param n_envs: environments in each
    :return: agent steps a second of environments alone, under random actions
    """
    with quiet():
        envs: dict[str, VecEnv] = {
            f"SB3's DummyVecEnv of {n_envs}": VecTransposeImage(
                VecFrameStack(make_atari_env(args.env, n_envs, seed=1, vec_env_cls=DummyVecEnv), 4)
            ),
            f"AleVecEnv of {n_envs}": AleVecEnv(args.env, n_envs, seed=1),
        }
    rng = np.random.default_rng(1)

    def steps_per_second(env: VecEnv, n_steps: int = 100) -> float:
        assert isinstance(env.action_space, spaces.Discrete)
        actions = rng.integers(0, env.action_space.n, (n_steps, n_envs))
        start = time.perf_counter()
        for action in actions:
            env.step(action)
        return n_steps * n_envs / (time.perf_counter() - start)

    for env in envs.values():
        env.reset()
    rates = alternate(
        {name: functools.partial(steps_per_second, env) for name, env in envs.items()}, args.rounds, "environments"
    )
    for env in envs.values():
        env.close()
    peer = statistics.median(next(iter(rates.values())))
    return {
        name: {"agent steps/s": statistics.median(figures), "times SB3": statistics.median(figures) / peer}
        for name, figures in rates.items()
    }


def make_replay_buffer(name: str, n_transitions: int, env: VecEnv) -> ReplayBuffer:
    """
    :param name: of ``replay_buffers()``
    :param n_transitions: of all environments together
    :param env: what is stored
    :return: an empty replay memory
    """
    kind, _, method = name.partition(", ")
    make: Callable[..., ReplayBuffer] = ReplayBuffer
    if name == PRIORITIZED:
        make = functools.partial(FrameReplayBuffer, compression="lz4", priority_exponent=0.5)
    elif kind == FRAMES:
        make = functools.partial(FrameReplayBuffer, compression=None if method == "None" else method)
    elif kind == EXTRA:
        buffers = importlib.import_module("sb3_extra_buffers.compressed")
        make = functools.partial(buffers.CompressedReplayBuffer, compression_method=method)
    return make(n_transitions, env.observation_space, env.action_space, device="cpu", n_envs=env.num_envs)


def replay_buffers() -> list[str]:
    """
    :return: names of the contestants that are installed
    """
    peers = ["SB3's ReplayBuffer"]
    if importlib.util.find_spec("sb3_extra_buffers"):
        peers += [f"{EXTRA}, lz4-block", f"{EXTRA}, zstd1"]
    else:
        print(f"{EXTRA} is not installed and not compared: pip install {EXTRA} lz4 zstd")
    return [*peers, *(f"{FRAMES}, {compression}" for compression in COMPRESSIONS), PRIORITIZED]


def fill(name: str, env_id: str, n_transitions: int) -> dict[str, Any]:
    """
    Fill a replay memory with play, in a process of its own.

    :param name: of ``replay_buffers()``
    :param env_id: the game, under random actions; what is played over and over is 1,500 steps of 8 environments
    :param n_transitions: how many
    :return: GB a million transitions, by growth of the process, microseconds to add one, and ms to sample 32
    """
    with quiet():
        env = AleVecEnv(env_id, 8, seed=1)
        played = list(play(env, 1500))
        n_transitions -= n_transitions % env.num_envs
        gc.collect()
        process = psutil.Process()
        before = process.memory_info().rss
        buffer = make_replay_buffer(name, n_transitions, env)
    start = time.perf_counter()
    for step in range(n_transitions // env.num_envs):
        buffer.add(*played[step % len(played)])
    seconds = time.perf_counter() - start
    grown = process.memory_info().rss - before
    assert buffer.full
    times = []
    for _ in range(200):
        start = time.perf_counter()
        if name == PRIORITIZED:  # it is told what was to be learnt, too
            batch, report_priorities = sample_batch(buffer, 32, gamma=0.99)
            report_priorities(batch.weights.squeeze(1))
        else:
            buffer.sample(32)
        times.append(time.perf_counter() - start)
    return {
        "GB a million": grown / n_transitions / 1000,
        "us to add one": 1e6 * seconds / n_transitions,
        "ms to sample 32": 1000 * statistics.median(times),
        "transitions": n_transitions,
    }


def play(env: VecEnv, n_steps: int) -> Iterator[tuple[Any, ...]]:
    """
    :param env: environments, played at random
    :param n_steps: of each
    :return: what a replay memory is given at each step
    """
    rng = np.random.default_rng(1)
    assert isinstance(env.action_space, spaces.Discrete)
    observations = env.reset()
    for _ in range(n_steps):
        actions = rng.integers(0, env.action_space.n, env.num_envs)
        new_observations, rewards, dones, infos = env.step(actions)
        assert isinstance(new_observations, np.ndarray)
        next_observations = new_observations.copy()
        for index in np.flatnonzero(dones):
            next_observations[index] = infos[index]["terminal_observation"]
        yield observations, next_observations, actions, rewards, dones, infos
        observations = new_observations


def memory(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """
    :param args: of the command line
    :return: what each replay memory takes
    """
    table = {}
    spawn = multiprocessing.get_context("spawn")
    for name in tqdm(replay_buffers(), desc="replay memories", leave=False, disable=None):
        stored_bytes = {"SB3's ReplayBuffer": 56_500, f"{FRAMES}, None": 7_300}.get(name, 3_000)
        fits = int(0.7 * psutil.virtual_memory().available / stored_bytes)
        with spawn.Pool(1) as pool:
            table[name] = pool.apply(fill, (name, args.env, min(args.transitions, fits)))
    return table


def start_up(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """
    :param args: of the command line
    :return: seconds that ``rl_zoo3.train`` takes for a single step, from the start of Python to its end
    """

    def seconds(algo: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = f"-m rl_zoo3.train --algo {algo} --env {args.env} -n 1 --eval-freq -1 --device {args.device}"
            config = ["--conf-file", args.conf_file] if algo == "dqn_custom" else []
            start = time.perf_counter()
            subprocess.run([sys.executable, *command.split(), "-f", folder, *config], check=True, capture_output=True)
            return time.perf_counter() - start

    times = alternate(
        {algo: functools.partial(seconds, algo) for algo in ("dqn", "dqn_custom")}, min(args.rounds, 3), "start-up"
    )
    return {f"rl_zoo3.train --algo {algo}": {"seconds": statistics.median(figures)} for algo, figures in times.items()}


def sweep_plainly(
    q_values: np.ndarray, actions: np.ndarray, rewards: np.ndarray, ends: np.ndarray, cuts: np.ndarray, gamma: float
) -> Sweep:
    """
    ``sweep_backwards`` as one would write it down: state by state, environment by environment, in double precision.

    :param q_values: see there, like the others
    :param actions: see there
    :param rewards: see there
    :param ends: see there
    :param cuts: see there
    :param gamma: see there
    :return: new Q-values and errors, float64
    """
    q_values = q_values.astype(np.float64)
    errors = np.zeros(actions.shape)
    for env in range(len(q_values)):
        for step in reversed(range(q_values.shape[1] - 1)):
            action = actions[env, step]
            if ends[env, step]:
                value = float(rewards[env, step])
            elif cuts[env, step]:
                continue
            else:
                value = rewards[env, step] + gamma * q_values[env, step + 1].max()
            errors[env, step] = abs(value - q_values[env, step, action])
            q_values[env, step, action] = value
    return Sweep(q_values, errors)


def sweep(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """
    :param args: of the command line
    :return: seconds of a backward sweep through the tutorial's memory, 200,000 states and 4 actions of 16 environments
    """
    rng = np.random.default_rng(0)
    shape = (16, 12_500)
    arrays = (
        rng.normal(size=(*shape, 4)).astype(np.float32),
        rng.integers(4, size=shape),
        rng.integers(-1, 2, size=shape).astype(np.float32),
        rng.random(shape) < 0.02,
        rng.random(shape) < 0.001,
    )

    def seconds(function: Callable[..., Sweep]) -> float:
        start = time.perf_counter()
        function(*arrays, gamma=0.97)
        return time.perf_counter() - start

    contestants = {"plain loop": sweep_plainly, "SweepDQN": sweep_backwards}
    turns = {name: functools.partial(seconds, function) for name, function in contestants.items()}
    times = alternate({**turns}, args.rounds, "sweep")
    return {name: {"seconds": statistics.median(figures)} for name, figures in times.items()}


#: what is measured, by the name that ``--only`` takes, and the headings
PARTS: dict[str, Callable[[argparse.Namespace], dict[str, dict[str, Any]]]] = {
    "learning": learning,
    "environments": environments,
    "memory": memory,
    "sweep": sweep,
    "start-up": start_up,
}
TITLES = {
    "learning": "Learning, past the random steps",
    "environments": "Environments alone, random actions",
    "memory": "Replay memories",
    "sweep": "Backward sweep through 200,000 states",
    "start-up": "Start-up: one step and the end",
}


def format_table(table: dict[str, dict[str, Any]]) -> str:
    """
    :param table: of each row, its cells by the name of their columns
    :return: the same as a Markdown table
    """
    columns = list(next(iter(table.values())))
    lines = [["", *columns], *([name, *(_format(row[column]) for column in columns)] for name, row in table.items())]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns) + 1)]
    rows = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]])


def _format(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
