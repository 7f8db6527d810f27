"""Environments from checkpoints play on, bit for bit."""

import copy
import pkgutil
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import AtariWrapper, EpisodicLifeEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_atari_dqn import AleVecEnv, MotionTracer, MotionTracerAtariWrapper
from sb3_atari_dqn.checkpoints.environments import get_env_state, prepare, set_env_state
from sb3_atari_dqn.checkpoints.files import decode, encode, pack_arrays, pack_json, unpack_arrays, unpack_json
from sb3_atari_dqn.checkpoints.plain_state import UnknownStateError


def stacked_game() -> VecEnv:
    kwargs = {"clip_reward": False, "action_repeat_probability": 0.25}
    env = make_vec_env("SeaquestNoFrameskip-v4", 2, seed=3, wrapper_class=AtariWrapper, wrapper_kwargs=kwargs)
    return VecTransposeImage(VecFrameStack(env, 4))


def traced_game() -> VecEnv:
    """Sticky and with random frame skip by itself."""
    return make_vec_env("Breakout-v0", 2, seed=3, wrapper_class=lambda env: EpisodicLifeEnv(MotionTracer(env)))


def traced_plain_game() -> VecEnv:
    return make_vec_env("PongNoFrameskip-v4", 2, seed=3, wrapper_class=MotionTracerAtariWrapper)


def normalized_carts() -> VecEnv:
    return VecNormalize(make_vec_env("CartPole-v1", 2, seed=3))


def time_limit() -> VecEnv:
    return make_vec_env("MountainCar-v0", 2, seed=3)


@pytest.mark.parametrize("make", [stacked_game, traced_game, traced_plain_game, normalized_carts, time_limit])
def test_games_go_on(make: Callable[[], VecEnv]) -> None:
    rng = np.random.default_rng(0)

    def play(env: VecEnv, n_steps: int, rng: np.random.Generator) -> list[Any]:
        return [env.step(rng.integers(env.action_space.n, size=2)) for _ in range(n_steps)]  # type: ignore[attr-defined]

    first = make()
    prepare(first)
    first.reset()
    play(first, 170, rng)
    document, arrays = encode(get_env_state(first))
    packed = pack_json(document), pack_arrays(arrays)
    steps = play(first, 130, np.random.default_rng(1))

    second = make()
    second.seed(77)
    second.reset()
    play(second, 9, rng)
    set_env_state(second, decode(unpack_json(packed[0]), unpack_arrays(packed[1])))
    ends = 0
    for expected, found in zip(steps, play(second, 130, np.random.default_rng(1)), strict=True):
        for one, other in zip(expected[:3], found[:3], strict=True):
            assert np.array_equal(one, other)
            assert one.strides == other.strides
        for one, other in zip(expected[3], found[3], strict=True):
            ends += "episode" in one
            for info in (one, other):
                info.get("episode", {}).pop("t", None)
            assert str(one) == str(other)
    assert ends or make in (stacked_game, traced_plain_game)


def wrapped(name: str, env_id: str = "CartPole-v1", **kwargs: Any) -> Callable[[], gym.Env]:
    def make() -> gym.Env:
        wrapper = pkgutil.resolve_name(name)
        return Monitor(wrapper(gym.make(env_id), **kwargs))

    return make


#: wrappers of RL Zoo, sb3-contrib and Gymnasium, all but those that only pass on
WRAPPERS: list[tuple[str, str, dict[str, Any]]] = [
    ("sb3_contrib.common.wrappers:TimeFeatureWrapper", "CartPole-v1", {}),
    ("rl_zoo3.wrappers:ActionNoiseWrapper", "Pendulum-v1", {}),
    ("rl_zoo3.wrappers:ActionSmoothingWrapper", "Pendulum-v1", {}),
    ("rl_zoo3.wrappers:DelayedRewardWrapper", "CartPole-v1", {}),
    ("rl_zoo3.wrappers:HistoryWrapper", "Pendulum-v1", {}),
    ("rl_zoo3.wrappers:MaskVelocityWrapper", "CartPole-v1", {}),
    ("rl_zoo3.wrappers:TruncatedOnSuccessWrapper", "CartPole-v1", {}),
    ("gymnasium.wrappers:TimeAwareObservation", "CartPole-v1", {}),
    ("gymnasium.wrappers:RecordEpisodeStatistics", "CartPole-v1", {}),
    ("gymnasium.wrappers:NormalizeObservation", "CartPole-v1", {}),
    ("gymnasium.wrappers:NormalizeReward", "CartPole-v1", {}),
    ("gymnasium.wrappers:FrameStackObservation", "CartPole-v1", {"stack_size": 3}),
    ("gymnasium.wrappers:DelayObservation", "CartPole-v1", {"delay": 2}),
    ("gymnasium.wrappers:StickyAction", "CartPole-v1", {"repeat_action_probability": 0.5}),
    ("gymnasium.wrappers:MaxAndSkipObservation", "CartPole-v1", {"skip": 2}),
    ("gymnasium.wrappers:TransformReward", "CartPole-v1", {"func": abs}),
    ("gymnasium.wrappers:DtypeObservation", "CartPole-v1", {"dtype": np.float64}),
]


@pytest.mark.parametrize(("name", "env_id", "kwargs"), WRAPPERS, ids=lambda value: value if isinstance(value, str) else "")
def test_wrappers_go_on(name: str, env_id: str, kwargs: dict[str, Any]) -> None:
    first, second = (DummyVecEnv([wrapped(name, env_id, **kwargs)]) for _ in range(2))
    for env, seed, n_steps in ((first, 3, 57), (second, 4, 31)):
        prepare(env)
        env.seed(seed)
        env.action_space.seed(seed)
        env.reset()
        for _ in range(n_steps):
            env.step(np.array([env.action_space.sample()]))
    document, arrays = encode(get_env_state(first))
    state = decode(unpack_json(pack_json(document)), unpack_arrays(pack_arrays(arrays)))
    np.random.seed(0)  # RL Zoo's noise
    actions = [np.array([first.action_space.sample()]) for _ in range(80)]
    expected: list[list[Any]] = [[copy.copy(part) for part in first.step(action)[:3]] for action in actions]
    set_env_state(second, state)
    np.random.seed(0)
    for action, steps in zip(actions, expected, strict=True):
        found: list[Any] = list(second.step(action)[:3])
        for one, other in zip(steps, found, strict=True):
            assert np.array_equal(one, other)


def test_the_action_that_a_sticky_emulator_repeats_is_found_wherever_it_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    first, second = (make_vec_env("Breakout-v0", 1, seed=seed) for seed in (3, 4))
    for env in (first, second):
        prepare(env)
        env.reset()
    for _ in range(150):
        for _ in range(rng.integers(1, 9)):
            first.step(rng.integers(4, size=1))
        second.step(rng.integers(4, size=1))
        set_env_state(second, get_env_state(first))
        state = first.get_attr("unwrapped")[0].clone_state(include_rng=True)
        for action in rng.integers(4, size=3):
            frames: list[Any] = [env.step(np.array([action]))[0] for env in (first, second)]
            assert np.array_equal(*frames)
        assert state.serialize() != first.get_attr("unwrapped")[0].clone_state(include_rng=True).serialize()


def test_native_games_do_not_give_their_state() -> None:
    with pytest.raises(UnknownStateError, match="AleVecEnv does not give the state of its games"):
        get_env_state(AleVecEnv("PongNoFrameskip-v4", 1))


def test_an_environment_with_state_of_an_unknown_kind_is_not_half_written() -> None:
    env = make_vec_env("CartPole-v1", 1)
    env.get_attr("unwrapped")[0].world = object()
    with pytest.raises(UnknownStateError, match="CartPoleEnv has an attribute 'world' of <class 'object'>"):
        get_env_state(env)
