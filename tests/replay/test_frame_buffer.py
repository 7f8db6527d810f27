"""Each frame once: what is sampled is what Stable-Baselines3's buffers return, byte for byte."""

import gc
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from sb3_atari_dqn import AleVecEnv, FrameReplayBuffer
from sb3_atari_dqn.replay.buffer import sample_together
from sb3_atari_dqn.replay.device_frames import DeviceFrames
from sb3_atari_dqn.replay.frames import BLACK, FRAMES_PER_BLOCK, FRAMES_PER_CHUNK, CompressedFrames, PlainFrames
from sb3_atari_dqn.zoo.bench import play as play_at_random

COMPRESSIONS = ("lz4", "zstd", None)
Transition = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]


def observation_space(n_channels: int = 4, height: int = 12, width: int = 10) -> spaces.Box:
    return spaces.Box(0, 255, (n_channels, height, width), np.uint8)


def play(
    n_envs: int, n_steps: int, starts: str, space: spaces.Box, rng: np.random.Generator, p_end: float = 0.15
) -> Iterator[Transition]:
    """
    Random episodes, as a vectorised environment and SB3's ``_store_transition`` hand them to a replay buffer.

    :param starts: how stacks begin an episode: ``"black"`` (VecFrameStack), ``"repeated"`` (FrameStackObservation),
        ``"kept"`` (a lost life, the game goes on), ``"replaced"`` (every observation is new: nothing is stacked)
    """
    shape = space.shape

    def frame() -> np.ndarray:
        image = rng.integers(0, 256, shape[1:], dtype=np.uint8)
        return image * rng.integers(0, 2, dtype=np.uint8)  # every other one is black

    def first() -> np.ndarray:
        if starts == "replaced":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        stack = np.zeros(shape, dtype=np.uint8)
        stack[-1] = frame()
        return np.repeat(stack[-1:], len(stack), axis=0) if starts == "repeated" else stack

    observations = np.stack([first() for _ in range(n_envs)])
    for _ in range(n_steps):
        if starts == "replaced":
            next_observations = np.stack([first() for _ in range(n_envs)])
        else:
            newest = np.stack([frame() for _ in range(n_envs)])
            next_observations = np.concatenate([observations[:, 1:], newest[:, None]], axis=1)
        dones = rng.random(n_envs) < p_end
        infos = [{"TimeLimit.truncated": bool(rng.random() < 0.5)} if done else {} for done in dones]
        actions, rewards = rng.integers(0, 4, n_envs), rng.normal(size=n_envs).astype(np.float32)
        yield observations, next_observations, actions, rewards, dones, infos
        observations = next_observations.copy()
        if starts != "kept":
            for index in np.flatnonzero(dones):
                observations[index] = first()


def assert_same_samples(ours: ReplayBuffer, theirs: ReplayBuffer, batch_size: int = 40) -> None:
    samples = []
    for buffer in (ours, theirs):
        np.random.seed(0)
        samples.append(buffer.sample(batch_size))
    for name, own, other in zip(samples[0]._fields, *samples, strict=True):
        if other is None:
            assert own is None, name
        else:
            assert own.dtype == other.dtype, name
            assert own.shape == other.shape, name
            assert th.equal(own, other), name


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("starts", ["black", "repeated", "kept", "replaced"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_samples_what_sb3_samples(n_envs: int, starts: str, n_steps: int, compression: str | None) -> None:
    space, actions = observation_space(), spaces.Discrete(4)
    ours = FrameReplayBuffer(
        30 * n_envs, space, actions, "cpu", n_envs, compression=compression, n_steps=n_steps, gamma=0.9, n_stack=4
    )
    theirs: ReplayBuffer
    if n_steps == 1:
        theirs = ReplayBuffer(30 * n_envs, space, actions, "cpu", n_envs)
    else:
        theirs = NStepReplayBuffer(30 * n_envs, space, actions, "cpu", n_envs, n_steps=n_steps, gamma=0.9)
    for step, transition in enumerate(play(n_envs, 150, starts, space, np.random.default_rng(1))):
        for buffer in (ours, theirs):
            buffer.add(*transition)
        if step in (0, 1, 7, 28, 29, 30, 31, 59, 77, 149):  # not full, just full, wrapped around
            assert (ours.pos, ours.full, ours.size()) == (theirs.pos, theirs.full, theirs.size())
            assert_same_samples(ours, theirs)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_state_of_two_channels_is_one_frame(compression: str | None) -> None:
    """The motion tracer's states are not stacked: each is stored once."""
    space, actions = observation_space(2), spaces.Discrete(4)
    ours = FrameReplayBuffer(50, space, actions, "cpu", n_stack=1, compression=compression)
    theirs = ReplayBuffer(50, space, actions, "cpu")
    for transition in play(1, 120, "black", space, np.random.default_rng(2)):
        ours.add(*transition)
        theirs.add(*transition)
    assert_same_samples(ours, theirs)
    assert len(np.unique(ours._frame_ids)) < 70  # 50 states, one more for each episode; 100 if next ones were stored too


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("buffer_size", [1, 2, 3, 5])
def test_tiny_buffers(buffer_size: int, compression: str | None) -> None:
    space, actions = observation_space(), spaces.Discrete(4)
    ours = FrameReplayBuffer(buffer_size, space, actions, "cpu", compression=compression)
    theirs = ReplayBuffer(buffer_size, space, actions, "cpu")
    for transition in play(1, 60, "black", space, np.random.default_rng(3)):
        ours.add(*transition)
        theirs.add(*transition)
        assert_same_samples(ours, theirs, batch_size=8)


def test_a_reset_between_two_calls_of_learn_is_noticed() -> None:
    """Observations that do not go on from the last ones, although no episode ended."""
    space, actions = observation_space(), spaces.Discrete(4)
    ours = FrameReplayBuffer(40, space, actions, "cpu", 2)
    theirs = ReplayBuffer(40, space, actions, "cpu", 2)
    for seed in (4, 5, 6):
        for transition in play(2, 8, "black", space, np.random.default_rng(seed), p_end=0.0):
            ours.add(*transition)
            theirs.add(*transition)
    assert_same_samples(ours, theirs)


def test_arrays_that_the_caller_uses_again() -> None:
    space, actions = observation_space(), spaces.Discrete(4)
    ours, theirs = FrameReplayBuffer(40, space, actions, "cpu"), ReplayBuffer(40, space, actions, "cpu")
    observations, next_observations = np.zeros((2, 1, *space.shape), dtype=np.uint8)
    for transition in play(1, 60, "black", space, np.random.default_rng(7)):
        observations[:], next_observations[:] = transition[:2]
        ours.add(observations, next_observations, *transition[2:])
        theirs.add(*transition)
    assert_same_samples(ours, theirs)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("starts", ["black", "repeated", "kept"])
def test_every_frame_is_stored_once_and_goes_when_it_is_not_needed(starts: str, compression: str | None) -> None:
    space = observation_space()
    buffer = FrameReplayBuffer(300, space, spaces.Discrete(4), "cpu", 3, compression=compression)
    for transition in play(3, 1000, starts, space, np.random.default_rng(8), p_end=0.05):
        buffer.add(*transition)
    needed = np.unique(buffer._frame_ids)
    n_starts = int(buffer.dones.sum()) + 3
    assert 300 * 0.4 < len(needed) <= 300 + 4 * n_starts
    frames = buffer.frames
    if isinstance(frames, PlainFrames):
        assert len(frames._ids.free_ids) + len(set(needed) | {BLACK}) == len(frames._blocks) * FRAMES_PER_BLOCK
        assert not set(frames._ids.free_ids) & set(needed)
        assert len(frames._blocks) == 1
    else:
        assert isinstance(frames, CompressedFrames)
        chunks = set(needed // FRAMES_PER_CHUNK) | {0} | set(frames._open_chunk)
        assert set(range(len(frames._packed))) == chunks | set(frames._free_chunks)
        assert not chunks & set(frames._free_chunks)


def test_n_steps_of_one_and_no_discount() -> None:
    """Hand-computed: rewards 1, 2, 4 with gamma 0.5, the second step ending an episode."""
    space = observation_space(1)
    buffer = FrameReplayBuffer(3, space, spaces.Discrete(2), "cpu", n_stack=1, n_steps=2, gamma=0.5)
    images = np.arange(5, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 1, *space.shape), dtype=np.uint8)
    for step, (reward, done, info) in enumerate([(1, False, {}), (2, True, {"TimeLimit.truncated": True}), (4, True, {})]):
        buffer.add(images[step], images[step + 1], np.array([0]), np.array([reward]), np.array([done]), [info])
    samples = buffer._get_samples(np.array([0, 1, 2]))
    assert samples.rewards.flatten().tolist() == [1 + 0.5 * 2, 2, 4]
    assert samples.discounts is not None
    assert samples.discounts.flatten().tolist() == [0.25, 0.5, 0.5]
    assert samples.dones.flatten().tolist() == [0, 0, 1]  # a time-out is bootstrapped from
    assert samples.next_observations[:, 0, 0, 0].tolist() == [2, 2, 3]


def test_a_frame_that_is_shown_again_after_a_lost_life_is_not_stored_again() -> None:
    env = AleVecEnv("BreakoutNoFrameskip-v4", 2, seed=1)
    buffer = FrameReplayBuffer(4000, env.observation_space, env.action_space, "cpu", 2)
    theirs = ReplayBuffer(4000, env.observation_space, env.action_space, "cpu", 2)
    for transition in play_at_random(env, 2500):
        buffer.add(*transition)
        theirs.add(*transition)
    assert_same_samples(buffer, theirs, batch_size=300)
    n_lives, n_stored = int(buffer.dones.sum()), len(np.unique(buffer._frame_ids))
    assert n_lives > 50
    assert n_stored < 4000 + n_lives / 2


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_memory_grows_with_what_is_stored(compression: str | None) -> None:
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    space = observation_space(4, 84, 84)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this machine may well have less than 7 GB free
        buffer = FrameReplayBuffer(1_000_000, space, spaces.Discrete(4), "cpu", compression=compression)
    for transition in play(1, 20, "black", space, np.random.default_rng(9)):
        buffer.add(*transition)
    assert process.memory_info().rss - before < 200e6
    assert buffer.size() == 20


def test_a_buffer_larger_than_memory_is_warned_of_with_both_figures() -> None:
    size = int(psutil.virtual_memory().total / 7000 * 2)
    with pytest.warns(UserWarning, match=rf"replay memory of {size} transitions takes about [\d.]+ GB .* [\d.]+ GB are free"):
        FrameReplayBuffer(size, observation_space(4, 84, 84), spaces.Discrete(4), "cpu", compression=None)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_saved_and_loaded(compression: str | None) -> None:
    space = observation_space()
    buffer = FrameReplayBuffer(100, space, spaces.Discrete(4), "cpu", 2, compression=compression)
    transitions = list(play(2, 120, "black", space, np.random.default_rng(10)))
    for transition in transitions[:70]:
        buffer.add(*transition)
    again = pickle.loads(pickle.dumps(buffer))
    for transition in transitions[70:]:
        buffer.add(*transition)
        again.add(*transition)
    assert_same_samples(again, buffer)


def test_reset_forgets() -> None:
    space = observation_space()
    buffer = FrameReplayBuffer(20, space, spaces.Discrete(4), "cpu")
    theirs = ReplayBuffer(20, space, spaces.Discrete(4), "cpu")
    for transition in play(1, 30, "black", space, np.random.default_rng(11)):
        buffer.add(*transition)
    buffer.reset()
    assert buffer.size() == 0
    for transition in play(1, 15, "black", space, np.random.default_rng(12)):
        buffer.add(*transition)
        theirs.add(*transition)
    assert_same_samples(buffer, theirs)


@pytest.mark.parametrize(
    ("space", "arguments", "message"),
    [
        (observation_space(2), {}, r"n_stack=4: observations of shape \(2, 12, 10\)"),
        (spaces.Box(0, 1, (4, 8, 8), np.float32), {}, r"needs images, uint8 \(channels, height, width\), not Box"),
        (spaces.Box(0, 255, (8,), np.uint8), {}, r"observations of shape \(8,\)"),
        (spaces.Discrete(3), {}, "needs images"),
        (observation_space(), {"compression": "gzip"}, "compression='gzip' is not known; choose one of 'lz4', 'zstd', None"),
        (observation_space(), {"n_stack": 0}, "n_stack=0 must be a whole number of frames, at least 1"),
        (observation_space(), {"n_steps": 1.5}, "n_steps=1.5 must be a whole number of steps, at least 1"),
        (observation_space(), {"gamma": 2}, r"gamma=2 must be a number in \[0, 1\]"),
        (observation_space(), {"optimize_memory_usage": True}, "optimize_memory_usage=True is not for FrameReplayBuffer"),
    ],
)
def test_refuses_what_it_cannot_serve(space: spaces.Space[Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameReplayBuffer(10, space, spaces.Discrete(2), "cpu", **arguments)


@pytest.mark.parametrize("starts", ["black", "repeated", "kept", "replaced"])
def test_frames_as_tensors_that_have_to_grow(starts: str) -> None:
    """What a GPU holds, on the CPU."""
    space, actions = observation_space(), spaces.Discrete(4)
    ours = FrameReplayBuffer(90, space, actions, "cpu", 3, compression=None)
    ours.frames = DeviceFrames(120, 20, th.device("cpu"))
    theirs = ReplayBuffer(90, space, actions, "cpu", 3)
    for transition in play(3, 150, starts, space, np.random.default_rng(13)):
        ours.add(*transition)
        theirs.add(*transition)
    assert_same_samples(ours, theirs)


def test_saved_frames_hold_nothing_that_was_only_read() -> None:
    frames = CompressedFrames(4, 1, "lz4")
    ids = [frames.add(np.full((1, 4), number, dtype=np.uint8), [0])[0] for number in range(100)]
    before = len(pickle.dumps(frames))
    frames.read(np.array(ids))
    saved = pickle.dumps(frames)
    assert len(saved) <= before + 100
    assert pickle.loads(saved).read(np.array(ids[:2])).tolist() == [[0] * 4, [1] * 4]


def test_saved_frames_of_a_gpu_can_be_read_without_one() -> None:
    frames = DeviceFrames(4, 3, th.device("cpu"))
    ids = frames.add(np.arange(8, dtype=np.uint8).reshape(2, 4), [0, 1])
    again = pickle.loads(pickle.dumps(frames))
    again.to(th.device("cpu"))
    assert again.read(np.array(ids)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert frames.__getstate__()["_frames"].device == th.device("cpu")


@pytest.mark.parametrize("n_batches", [1, 8, 20])
def test_batches_drawn_together_are_as_many_as_asked_for(n_batches: int) -> None:
    space = observation_space()
    buffer = FrameReplayBuffer(90, space, spaces.Discrete(4), "cpu", 3)
    for transition in play(3, 40, "black", space, np.random.default_rng(1)):
        buffer.add(*transition)
    batches = [drawn.batch for drawn in sample_together(buffer, n_batches, 5, 0.9)]
    assert [batch.actions.shape for batch in batches] == [(5, 1)] * n_batches
    assert all(len(batch.observations) == len(batch.rewards) == 5 for batch in batches)


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("starts", ["black", "repeated", "kept", "replaced"])
def test_frames_on_the_gpu(starts: str) -> None:
    space, actions = observation_space(), spaces.Discrete(4)
    ours = FrameReplayBuffer(90, space, actions, "cuda", 3, compression=None)
    theirs = ReplayBuffer(90, space, actions, "cuda", 3)
    for transition in play(3, 150, starts, space, np.random.default_rng(13)):
        ours.add(*transition)
        theirs.add(*transition)
    assert_same_samples(ours, theirs)
