"""Replay buffers in users' hands: saved with a model, odd observations, subclasses, transitions that callbacks add."""

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import sb3_atari_dqn
from sb3_atari_dqn import CustomDQN, FrameReplayBuffer, SweepDQN
from sb3_atari_dqn.checkpoints.memory_log import MemoryLog, fill
from sb3_atari_dqn.replay.sweep_memory import SweepMemory
from tests.test_replaced_parts import RandomImages, filled, make_env, train

SPACE = spaces.Box(0, 255, (4, 36, 36), np.uint8)


def random_observations(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape or (1, 4, 36, 36)).astype(dtype)


def add(buffer: ReplayBuffer, obs: np.ndarray, next_obs: np.ndarray) -> None:
    buffer.add(obs, next_obs, np.zeros((1, 1)), np.ones(1), np.zeros(1, dtype=bool), [{}])


@pytest.mark.parametrize("buffer_class", [None, "FrameReplayBuffer"])
def test_a_buffer_that_is_saved_with_the_model_is_there_again(buffer_class: str | None, tmp_path: Path) -> None:
    model = filled(CustomDQN, replay_buffer_class=buffer_class, clip_rewards=True)
    model.save(tmp_path / "model", include=["replay_buffer"])
    assert set(model.replay_buffer.sample(50).rewards.flatten().tolist()) <= {-1.0, 0.0, 1.0}  # still clipped
    raw: Any = CustomDQN.load(tmp_path / "model", env=make_env(), clip_rewards=False)
    clipped: Any = CustomDQN.load(tmp_path / "model", env=make_env())
    for loaded in (raw, clipped):
        assert loaded.replay_buffer.size() == 40
        assert np.array_equal(loaded.replay_buffer.rewards, model.replay_buffer.rewards)
        rewards = loaded.replay_buffer._get_samples(np.arange(40)).rewards.numpy().flatten()
        expected = model.replay_buffer.rewards[:40, 0]
        np.testing.assert_array_equal(rewards, expected if loaded is raw else np.sign(expected))
    clipped.learn(60, reset_num_timesteps=False)
    assert clipped.replay_buffer.size() == 100
    assert clipped._n_updates > 0
    other = DQN("CnnPolicy", make_env(), buffer_size=100)
    if buffer_class is None:  # and Stable-Baselines3 loads it with its own rewards
        theirs = DQN.load(tmp_path / "model", env=other.get_env())
        assert theirs.replay_buffer is not None
        assert np.array_equal(theirs.replay_buffer._get_samples(np.arange(40)).rewards.numpy()[:, 0], expected)


def test_a_saved_buffer_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    filled(CustomDQN).save(tmp_path / "model", include=["replay_buffer"])
    with pytest.warns(UserWarning, match="the replay buffer in the model's file is left out: .* of other environments"):
        model = CustomDQN.load(tmp_path / "model", env=DummyVecEnv([RandomImages] * 2))
    assert model.replay_buffer is None
    inert: Any = sb3_atari_dqn.load(tmp_path / "model.zip")
    assert inert.replay_buffer is None  # nothing is unpickled here


def test_saved_without_its_buffer_a_model_has_none(tmp_path: Path) -> None:
    filled(CustomDQN).save(tmp_path / "model")
    assert CustomDQN.load(tmp_path / "model", env=make_env()).replay_buffer is None


@pytest.mark.parametrize("shape", [(1, 36, 36, 4), (1, 4, 18, 72), (2, 4, 36, 36), (36, 36, 4), (1, 1, 36, 144)])
def test_observations_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    buffer = FrameReplayBuffer(10, SPACE, spaces.Discrete(3))
    good, bad = random_observations(), random_observations(*shape)
    for name, arguments in (("obs", (bad, good)), ("next_obs", (good, bad))):
        message = f"{name} has shape {shape}, and this replay buffer stores (1, 4, 36, 36)"
        with pytest.raises(ValueError, match=re.escape(message)):
            add(buffer, *arguments)
    assert buffer.size() == 0
    memory = SweepMemory(10, 1, (4, 36, 36), 3)
    with pytest.raises(ValueError, match="states has shape"):
        memory.add(bad, np.zeros((1, 3)), *(np.zeros(1) for _ in range(5)))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64, bool])
def test_observations_of_another_dtype_are_cast_where_values_are_the_same(dtype: Any) -> None:
    buffers = [kind(10, SPACE, spaces.Discrete(3)) for kind in (FrameReplayBuffer, ReplayBuffer)]
    pixels = random_observations(2, 1, 4, 36, 36) % (2 if dtype is bool else 255)
    for buffer in buffers:
        add(buffer, *pixels.astype(dtype))
    ours, theirs = (buffer._get_samples(np.zeros(1, dtype=int)) for buffer in buffers)
    assert th.equal(ours.observations, theirs.observations)
    assert th.equal(ours.next_observations, theirs.next_observations)


@pytest.mark.parametrize(("value", "dtype"), [(256, np.int64), (-1, np.int64), (0.5, np.float32), (np.nan, np.float32)])
def test_values_that_uint8_does_not_have_are_refused(value: float, dtype: Any) -> None:
    buffer = FrameReplayBuffer(10, SPACE, spaces.Discrete(3))
    bad = np.full((1, 4, 36, 36), value, dtype=dtype)
    with pytest.raises(ValueError, match=f"next_obs has dtype {np.dtype(dtype)} and values that the observation space"):
        add(buffer, random_observations(), bad)


class WideImages(RandomImages):
    """Its observations are not of the dtype that its space says, as of many environments."""

    def _draw(self) -> np.ndarray:
        return super()._draw().astype(np.int64)


@pytest.mark.parametrize("algorithm", [CustomDQN, SweepDQN])
def test_an_environment_in_a_process_may_give_another_dtype(algorithm: Any) -> None:
    kwargs: dict[str, Any] = {"accelerate": "fused", "seed": 1}
    if algorithm is CustomDQN:
        kwargs |= {"replay_buffer_class": "FrameReplayBuffer", "buffer_size": 100, "learning_starts": 10}
    weights = []
    for env in (SubprocVecEnv([WideImages]), DummyVecEnv([RandomImages])):
        model = algorithm("CnnPolicy", env, **kwargs).learn(40)
        weights.append(model.policy.q_net.q_net[-1].weight)
        env.close()
    assert th.equal(*weights)


class Augmenting(FrameReplayBuffer):
    """Shifts the brightness of what is sampled, as users of Stable-Baselines3 augment data."""

    n_calls = 0

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> ReplayBufferSamples:
        self.n_calls += 1
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(observations=samples.observations // 2)


class Newest(FrameReplayBuffer):
    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        self.n_calls = getattr(self, "n_calls", 0) + 1
        return self._get_samples(np.full(batch_size, self.pos - 1), env)


@pytest.mark.parametrize("accelerate", ["none", "fused"])
@pytest.mark.parametrize("buffer_class", [Augmenting, Newest])
def test_a_subclass_samples_in_its_own_way(buffer_class: type[FrameReplayBuffer], accelerate: str) -> None:
    plain, own = (
        filled(CustomDQN, replay_buffer_class=kind, accelerate=accelerate) for kind in (FrameReplayBuffer, buffer_class)
    )
    for model in (plain, own):
        train(model, 2)
    assert own.replay_buffer.n_calls > 0
    assert not th.equal(plain.q_net.q_net[-1].weight, own.q_net.q_net[-1].weight)


@pytest.mark.parametrize("buffer_class", [Augmenting, Newest])
def test_priorities_do_not_go_with_a_way_of_its_own(buffer_class: type[FrameReplayBuffer]) -> None:
    with pytest.raises(ValueError, match=f"priority_exponent=0.5 does not go with {buffer_class.__name__}"):
        filled(CustomDQN, replay_buffer_class=buffer_class, replay_buffer_kwargs={"priority_exponent": 0.5})


class Darkening(FrameReplayBuffer):
    def read(self, draw: Any, env: Any = None) -> ReplayBufferSamples:
        samples = super().read(draw, env)
        return samples._replace(observations=samples.observations // 2)


def test_what_is_read_can_be_changed_with_priorities() -> None:
    model = filled(
        CustomDQN, replay_buffer_class=Darkening, replay_buffer_kwargs={"priority_exponent": 0.5}, clip_rewards=True
    )
    train(model)
    assert model.replay_buffer.sampler.get_state()
    assert int(model.replay_buffer.read(model.replay_buffer.draw(32)).observations.max()) <= 127


class Adding(BaseCallback):
    """Adds transitions of its own at some steps, as for mirrored games and demonstrations."""

    def __init__(self, add: Callable[[Any, dict[str, Any]], None], every: int) -> None:
        super().__init__()
        self.add, self.every = add, every

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0 and self.model._last_obs is not None:
            self.add(self.model.replay_buffer, self.locals)  # type: ignore[attr-defined]
        return True


def mirrored(buffer: Any, step: dict[str, Any]) -> None:
    last = step["self"]._last_obs
    buffer.add(
        last[..., ::-1], step["new_obs"][..., ::-1], step["buffer_actions"], step["rewards"], step["dones"], step["infos"]
    )


def demonstrations(buffer: Any, step: dict[str, Any]) -> None:
    n = 150  # more than the buffer holds
    observations = np.random.default_rng(step["self"].num_timesteps).integers(0, 256, (n + 1, 1, 4, 36, 36), dtype=np.uint8)
    arrays = np.zeros((n, 1, 1)), np.arange(n)[:, None], np.zeros((n, 1), dtype=bool)
    buffer.extend(observations[:-1], observations[1:], *arrays, [[{}]] * n)


def reset(buffer: Any, step: dict[str, Any]) -> None:
    buffer.reset()


def reset_and_fill(buffer: Any, step: dict[str, Any]) -> None:
    buffer.reset()
    demonstrations(buffer, step)


@pytest.mark.parametrize("kind", ["plain", "frames", "prioritized"])
@pytest.mark.parametrize("change", [mirrored, demonstrations, reset, reset_and_fill])
def test_what_a_callback_adds_is_in_the_next_checkpoint(change: Any, kind: str, tmp_path: Path) -> None:
    kwargs: dict[str, Any] = {} if kind == "plain" else {"replay_buffer_class": "FrameReplayBuffer"}
    if kind == "prioritized":
        kwargs["replay_buffer_kwargs"] = {"priority_exponent": 0.5}
    settings: dict[str, Any] = {"learning_starts": 20, "buffer_size": 100, "batch_size": 8, "seed": 3, **kwargs}
    model = CustomDQN("CnnPolicy", make_env(), **settings)
    model.learn(20)
    logs: list[tuple[Any, MemoryLog]] = []
    for n_steps in (13, 60, 87, 31):
        memory = model.memory()
        if not logs or logs[-1][0] is not memory:  # as the watcher does
            logs.append((memory, MemoryLog(tmp_path, memory.stores())))
        logs[-1][1].write()
        model.learn(n_steps, Adding(change, every=11), reset_num_timesteps=False)
    memory = model.memory()
    log = logs[-1][1] if logs[-1][0] is memory else MemoryLog(tmp_path, memory.stores())
    log.write()

    other = CustomDQN("CnnPolicy", make_env(), **settings)
    again = other.memory()
    again.set_state(copy.deepcopy(memory.get_state()))
    fill(tmp_path, again.stores(), log.needed())
    first, second = model.replay_buffer, other.replay_buffer
    assert first is not None
    assert second is not None
    assert (first.pos, first.full) == (second.pos, second.full)
    for name in ("actions", "rewards", "dones", "timeouts"):
        size = first.size()
        assert np.array_equal(getattr(first, name)[:size], getattr(second, name)[:size]), name
    for one, another in zip(first._get_samples(np.arange(size)), second._get_samples(np.arange(size)), strict=True):
        assert one is None or th.equal(one, another)  # type: ignore[arg-type]
    if kind == "prioritized":
        assert np.array_equal(*(buffer.sampler.tree[np.arange(size)] for buffer in (first, second)))  # type: ignore[attr-defined]


def test_a_buffer_whose_rows_are_counted_is_pickled_as_it_is() -> None:
    model = filled(CustomDQN)
    rows = model.memory().rows
    n_rows = rows.n_rows
    for copied in (pickle.loads(pickle.dumps(model.replay_buffer)), copy.deepcopy(model.replay_buffer)):
        add(copied, random_observations(), random_observations())
        assert copied.pos == model.replay_buffer.pos + 1
        copied.reset()
    assert rows.n_rows == n_rows
    add(model.replay_buffer, random_observations(), random_observations())
    assert rows.n_rows == n_rows + 1


def test_methods_that_a_user_has_set_on_a_buffer_stay() -> None:
    model = filled(CustomDQN)
    calls: list[int] = []
    plain = model.replay_buffer.add

    def counting(*arguments: Any) -> None:
        calls.append(1)
        plain(*arguments)

    model.replay_buffer.add = counting
    rows = model.memory().rows
    n_rows = rows.n_rows
    for _ in range(2):
        add(model.replay_buffer, random_observations(), random_observations())
    assert len(calls) == 2
    assert rows.n_rows == n_rows + 2
    model.replay_buffer.add = counting  # and after it has been counted
    assert model.memory().rows is not rows
    add(model.replay_buffer, random_observations(), random_observations())
    assert len(calls) == 3
    assert model.memory().rows.n_rows == n_rows + 3
