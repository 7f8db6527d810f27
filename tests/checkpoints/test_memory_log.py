"""Replay memories in segments: what comes back is what was there, and goes on as it would have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from sb3_atari_dqn.base import Memory
from sb3_atari_dqn.checkpoints import memory_log
from sb3_atari_dqn.checkpoints.files import BrokenFileError
from sb3_atari_dqn.checkpoints.memory_log import MemoryLog, fill, segments_from_json, segments_to_json
from sb3_atari_dqn.replay.buffer import FrameReplayBuffer
from sb3_atari_dqn.replay.record import BufferRecord
from sb3_atari_dqn.replay.sweep_memory import SweepMemory

N_ENVS, SIZE = 2, 60
IMAGES = spaces.Box(0, 255, (4, 12, 12), np.uint8)
ACTIONS: spaces.Space[Any] = spaces.Discrete(3)


class Play:
    """Random episodes with stacked frames, added to a memory."""

    def __init__(self, record: BufferRecord, seed: int = 0) -> None:
        self.record = record
        self.rng = np.random.default_rng(seed)
        self.stacks = self._frames(4)

    def _frames(self, n_frames: int) -> np.ndarray:
        return self.rng.integers(0, 255, (N_ENVS, n_frames, 12, 12), dtype=np.uint8)

    def add(self, n_rows: int) -> None:
        buffer = self.record.replay_buffer
        for _ in range(n_rows):
            following = np.concatenate([self.stacks[:, 1:], self._frames(1)], axis=1)
            done = self.rng.random(N_ENVS) < 0.1
            observations: list[Any] = [self.stacks, following]
            if isinstance(buffer, DictReplayBuffer):
                observations = [{"image": array} for array in observations]
            actions = self.rng.integers(0, 3, (N_ENVS, 1))
            infos: list[dict[str, Any]] = [{}, {"TimeLimit.truncated": done[1]}]
            buffer.add(observations[0], observations[1], actions, self.rng.normal(size=N_ENVS), done, infos)
            self.stacks = following.copy()
            self.stacks[done] = self._frames(4)[done]
            if isinstance(buffer, FrameReplayBuffer) and buffer.priority_exponent is not None:
                draw = buffer.draw(4)
                buffer.sampler.set_priorities(draw, self.rng.random(4))


def make(kind: str) -> ReplayBuffer:
    if kind == "plain":
        return ReplayBuffer(SIZE, IMAGES, ACTIONS, "cpu", N_ENVS)
    if kind == "thrifty":
        return ReplayBuffer(SIZE, IMAGES, ACTIONS, "cpu", N_ENVS, optimize_memory_usage=True, handle_timeout_termination=False)
    if kind == "n-step":
        return NStepReplayBuffer(SIZE, IMAGES, ACTIONS, "cpu", N_ENVS)
    if kind == "dictionary":
        return DictReplayBuffer(SIZE, spaces.Dict({"image": IMAGES}), ACTIONS, "cpu", N_ENVS)
    compression, exponent = {"lz4": ("lz4", 0.6), "zstd": ("zstd", None), "unpacked": (None, 0.5)}[kind]
    return FrameReplayBuffer(SIZE, IMAGES, ACTIONS, "cpu", N_ENVS, compression=compression, priority_exponent=exponent)


def sample(buffer: ReplayBuffer) -> list[np.ndarray]:
    np.random.seed(1)
    found: list[np.ndarray] = []
    for part in buffer.sample(40):
        found += [tensor.numpy() for tensor in (part.values() if isinstance(part, dict) else [part]) if tensor is not None]
    return found


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def save(log: MemoryLog, memory: Memory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    log.write()
    return memory.get_state(), segments_to_json(log.needed())


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_log, "SEGMENT_LENGTH", 10)


@pytest.mark.parametrize("kind", ["plain", "thrifty", "n-step", "dictionary", "lz4", "zstd", "unpacked"])
def test_a_buffer_comes_back_and_goes_on(kind: str, tmp_path: Path) -> None:
    buffer = make(kind)
    play = Play(BufferRecord(buffer))
    log = MemoryLog(tmp_path, play.record.stores())
    for n_rows in (7, 12, 1, 40, 11):  # 30 rows for each environment: round and round
        play.add(n_rows)
        state, segments = save(log, play.record)
        again = BufferRecord(make(kind))
        again.set_state(state)
        fill(tmp_path, again.stores(), segments_from_json(segments))
        assert (again.replay_buffer.pos, again.replay_buffer.full) == (buffer.pos, buffer.full)
        assert_same(sample(again.replay_buffer), sample(buffer))
    resumed = Play(again)
    resumed.rng.bit_generator.state, resumed.stacks = play.rng.bit_generator.state, play.stacks
    log = MemoryLog(tmp_path, again.stores(), segments_from_json(segments))
    np.random.seed(2)
    play.add(25)
    np.random.seed(2)
    resumed.add(25)
    assert_same(sample(again.replay_buffer), sample(buffer))
    state, segments = save(log, again)
    last = BufferRecord(make(kind))
    last.set_state(state)
    fill(tmp_path, last.stores(), segments_from_json(segments))
    assert_same(sample(last.replay_buffer), sample(buffer))


@pytest.mark.parametrize("kind", ["plain", "lz4", "unpacked"])
def test_only_what_is_new_is_written_and_what_is_old_goes(kind: str, tmp_path: Path) -> None:
    play = Play(BufferRecord(make(kind)))
    log = MemoryLog(tmp_path, play.record.stores())
    written: set[str] = set()
    for _ in range(30):
        play.add(5)
        _, segments = save(log, play.record)
        names = {segment["name"] for segment in segments}
        assert len(names - written) <= 4
        written |= names
    kept = sum(segment["size"] for segment in segments)
    assert kept < sum(path.stat().st_size for path in tmp_path.iterdir()) / 3
    before = len(list(tmp_path.iterdir()))
    log.write()
    assert len(list(tmp_path.iterdir())) == before, "nothing is new"


def test_a_cut_comes_back(tmp_path: Path) -> None:
    play = Play(BufferRecord(make("lz4")))
    log = MemoryLog(tmp_path, play.record.stores())
    play.add(5)
    log.write()
    play.record.cut()
    play.add(5)
    state, segments = save(log, play.record)
    again = BufferRecord(make("lz4"))
    again.set_state(state)
    fill(tmp_path, again.stores(), segments_from_json(segments))
    assert again.replay_buffer.dones[4].all()
    assert np.array_equal(again.replay_buffer.timeouts, play.record.replay_buffer.timeouts)


def test_a_missing_or_broken_segment_is_noticed(tmp_path: Path) -> None:
    play = Play(BufferRecord(make("lz4")))
    log = MemoryLog(tmp_path, play.record.stores())
    play.add(25)
    state, segments = save(log, play.record)
    again = BufferRecord(make("lz4"))
    again.set_state(state)
    with pytest.raises(ValueError, match=r"rows of the replay memory are missing"):
        fill(tmp_path, again.stores(), segments_from_json(segments[1:]))
    (tmp_path / segments[0]["name"]).write_bytes(b"x")
    with pytest.raises(BrokenFileError, match=r"memory-000001.safetensors' has 1 bytes"):
        fill(tmp_path, again.stores(), segments_from_json(segments))


def test_a_buffer_of_another_size_is_refused() -> None:
    state = BufferRecord(make("lz4")).get_state()
    other = FrameReplayBuffer(2 * SIZE, IMAGES, ACTIONS, "cpu", N_ENVS)
    with pytest.raises(ValueError, match=r"has size \[60, 2\], and that of the checkpoint \[30, 2\]"):
        BufferRecord(other).set_state(state)


def test_a_class_of_which_nothing_is_known_is_refused() -> None:
    class Own(ReplayBuffer):
        pass

    with pytest.raises(ValueError, match=r"Own cannot be written to checkpoints"):
        BufferRecord(Own(SIZE, IMAGES, ACTIONS))


@pytest.mark.parametrize("compression", ["lz4", None])
def test_a_memory_of_sweeps_comes_back(compression: str | None, tmp_path: Path) -> None:
    def make_memory() -> SweepMemory:
        return SweepMemory(SIZE, N_ENVS, (12, 12, 2), 3, compression)

    def add(memory: SweepMemory, n_steps: int) -> None:
        for _ in range(n_steps):
            states = rng.integers(0, 255, (N_ENVS, 12, 12, 2), dtype=np.uint8)
            flags = rng.random((3, N_ENVS)) < 0.1
            q_values = rng.normal(size=(N_ENVS, 3)).astype(np.float32)
            memory.add(states, q_values, rng.integers(0, 3, N_ENVS), rng.normal(size=N_ENVS), *flags)

    rng = np.random.default_rng(0)
    memory = make_memory()
    log = MemoryLog(tmp_path, memory.stores())
    for n_steps, sweeps in ((11, False), (9, True), (25, True)):
        add(memory, n_steps)
        if sweeps:
            memory.sweep(0.9, True, 0.1)
        state, segments = save(log, memory)
        again = make_memory()
        again.set_state(state)
        fill(tmp_path, again.stores(), segments_from_json(segments))
        assert_same(list(again.read(again.indices())), list(memory.read(memory.indices())))
        if sweeps:
            draws = [each.sample(8, 0.5, np.random.default_rng(3)) for each in (again, memory)]
            assert_same(list(draws[0]), list(draws[1]))
    assert memory.errors.any()
    memory.clear()
    state, segments = save(log, memory)
    assert len(segments) == 1, "which says how far it has come"
    again = make_memory()
    again.set_state(state)
    fill(tmp_path, again.stores(), segments_from_json(segments))
    arrays = []
    for each in (again, memory):
        rng = np.random.default_rng(1)
        add(each, 5)
        arrays.append(list(each.get_state()["arrays"].values()))
    assert_same(*arrays)
