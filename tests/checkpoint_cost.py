"""What a checkpoint of a full replay memory costs: ``python -m tests.checkpoint_cost``.

A prioritized memory of a million transitions of Breakout, packed with LZ4, is filled by random play over and over; the network
is the Atari preset's.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch as th

from sb3_atari_dqn import AleVecEnv, CustomDQN
from sb3_atari_dqn.checkpoints.memory_log import SEGMENT_LENGTH, fill, segments_from_json
from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.checkpoints.watcher import Watcher
from sb3_atari_dqn.replay.buffer import FrameReplayBuffer
from sb3_atari_dqn.replay.record import BufferRecord

N_ENVS = 32


class Filler:
    """
    Adds transitions of random play to a model's memory.

    :param model: the model
    :param n_steps: steps to play; they are added over and over
    """

    def __init__(self, model: CustomDQN, n_steps: int = 400) -> None:
        self.model = model
        assert model.env is not None
        env, rng = model.env, np.random.default_rng(0)
        observations: Any = env.reset()
        self._steps: list[Any] = []
        for _ in range(n_steps):
            actions = rng.integers(env.action_space.n, size=N_ENVS)  # type: ignore[attr-defined]
            following, rewards, dones, infos = env.step(actions)
            last: Any = following.copy()  # type: ignore[union-attr]
            for index in np.flatnonzero(dones):
                last[index] = infos[index]["terminal_observation"]
            self._steps.append((observations, last, actions, rewards, dones, infos))
            observations = following
        self._next = 0

    def add(self, n_transitions: int, watcher: Watcher | None = None) -> float:
        """
        :param n_transitions: how many
        :param watcher: is told of each step
        :return: the longest time that it took, in seconds
        """
        assert self.model.replay_buffer is not None
        longest = 0.0
        for _ in range(n_transitions // N_ENVS):
            self.model.replay_buffer.add(*self._steps[self._next % len(self._steps)])
            self._next += 1
            self.model._n_calls += 1
            self.model.num_timesteps += N_ENVS
            if watcher is not None:
                start = time.perf_counter()
                watcher.at_rest()
                longest = max(longest, time.perf_counter() - start)
        return longest


def size_of(folder: Path) -> float:
    """
    :param folder: any
    :return: megabytes in it
    """
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def peak() -> float:
    """
    :return: megabytes that this process has taken at most so far
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def main() -> None:
    """Fill, write, read, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--game", default="BreakoutNoFrameskip-v4")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    args = parser.parse_args()
    th.set_num_threads(2)
    env = AleVecEnv(args.game, N_ENVS, seed=0)
    model = CustomDQN(
        "CnnPolicy",
        env,
        buffer_size=args.transitions,
        replay_buffer_class="FrameReplayBuffer",
        replay_buffer_kwargs={"priority_exponent": 0.6},
        learning_starts=10**9,
    )
    model.learn(N_ENVS)
    filler = Filler(model)
    process = psutil.Process()
    empty = process.memory_info().rss
    filler.add(args.transitions)
    full = process.memory_info().rss
    grown = (full - empty) / 1e6
    print(f"{args.transitions} transitions of {args.game}: the process grew by {grown:.0f} MB to {full / 1e6:.0f} MB")

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        run = Path(folder)
        store = CheckpointStore(run / "checkpoints")
        watcher = Watcher(model, store, run, 100_000)
        store.prepare()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        assert watcher.write("everything new")
        print(f"everything at once: {watcher.pause_seconds:.2f} s, {size_of(run):.0f} MB; peak {peak():.0f} MB")
        watcher = Watcher(model, store, run, 100_000, segments=watcher._memory_log().needed())
        for _ in range(3):
            longest = filler.add(100_000, watcher)
            print(
                f"100,000 later: {watcher.pause_seconds:.2f} s, longest stop of all {longest:.2f} s, "
                f"{size_of(run):.0f} MB on disk"
            )
        filler.add(SEGMENT_LENGTH // 2, watcher)
        assert watcher.write("SIGTERM")
        print(f"at a signal: {watcher.pause_seconds:.2f} s; peak {peak():.0f} MB")
        start = time.perf_counter()
        checkpoint, _ = store.find_good()
        verified = time.perf_counter() - start
        state = store.read_state(checkpoint)
        spaces = env.observation_space, env.action_space
        again = FrameReplayBuffer(args.transitions, *spaces, "cpu", N_ENVS, priority_exponent=0.6)
        record = BufferRecord(again)
        record.set_state(state["memory"])
        fill(store.folder, record.stores(), segments_from_json(checkpoint.segments))
        print(f"read again: {time.perf_counter() - start:.1f} s, of which checksums {verified:.1f} s")


if __name__ == "__main__":
    main()
