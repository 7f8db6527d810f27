"""The vectorised motion tracer beside a plain loop, on full games."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv
from sb3_atari_dqn.envs.motion_tracer import MotionTracer
from sb3_atari_dqn.envs.vec_motion_tracer import VecMotionTracer
from tests.envs.emulator import Emulator


class Tracer:
    """The formula, pixel array by pixel array, around a hand-stepped game."""

    def __init__(self, emulator: Emulator, decay: float, threshold: float) -> None:
        self.emulator, self.decay, self.threshold = emulator, np.float32(decay), threshold

    def reset(self, observation: np.ndarray) -> np.ndarray:
        self.previous, self.trace = observation[0].astype(np.float32), np.zeros(observation.shape[1:], dtype=np.float32)
        return self.state()

    def see(self, observation: np.ndarray) -> np.ndarray:
        image = observation[0].astype(np.float32)
        motion = np.float32(255) * (np.abs(image - self.previous) > self.threshold)
        self.trace = np.clip(motion + self.decay * self.trace, 0, 255)
        self.previous = image
        return self.state()

    def state(self) -> np.ndarray:
        return np.stack([self.previous.astype(np.uint8), self.trace.astype(np.uint8)])

    def step(self, action: int) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        observation, reward, done, info = self.emulator.step(action)
        if "episode" in info:
            info["terminal_observation"] = self.see(info["terminal_observation"])
            return self.reset(observation), reward, done, info
        state = self.see(observation)
        if done:
            info["terminal_observation"] = state
        return state, reward, done, info


@pytest.mark.parametrize(("decay", "threshold"), [(0.75, 20), (0.5, 3.5)])
@pytest.mark.parametrize(("env_id", "game"), [("BreakoutNoFrameskip-v4", "breakout"), ("QbertNoFrameskip-v4", "qbert")])
def test_equals_a_plain_loop_over_full_games(env_id: str, game: str, decay: float, threshold: float) -> None:
    kwargs: dict[str, Any] = {"n_stack": 1, "screen_size": (105, 80), "fire_reset": True}
    env = VecMotionTracer(AleVecEnv(env_id, 2, noop_max=0, **kwargs), decay, threshold)
    tracers = [Tracer(Emulator(game, **kwargs), decay, threshold) for _ in range(2)]
    np.testing.assert_array_equal(env.reset(), [tracer.reset(tracer.emulator.reset()) for tracer in tracers])
    rng = np.random.default_rng(0)
    n_games, traced_on = 0, 0
    while n_games < 3:
        actions = rng.integers(4, size=2)
        states, rewards, dones, infos = env.step(actions)
        assert isinstance(states, np.ndarray)
        for index, tracer in enumerate(tracers):
            state, reward, done, info = tracer.step(actions[index])
            np.testing.assert_array_equal(states[index], state)
            assert (rewards[index], dones[index]) == (reward, done)
            if done:
                np.testing.assert_array_equal(infos[index]["terminal_observation"], info["terminal_observation"])
                assert states[index, 1].any() == ("episode" not in info), "only a new game clears the trace"
                n_games += "episode" in info
                traced_on += "episode" not in info
    assert traced_on > 0, "no life was lost"


class Flash(gym.Env):
    """Grey frames of the levels 0, 0, 20, 41, 41, 0."""

    observation_space = spaces.Box(0, 255, (1, 2, 2), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.levels = [0, 20, 41, 41, 0]
        return np.zeros((1, 2, 2), dtype=np.uint8), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.full((1, 2, 2), self.levels.pop(0), dtype=np.uint8), 0.0, False, False, {}


def test_trace_by_hand() -> None:
    env = VecMotionTracer(DummyVecEnv([Flash]))
    env.reset()
    kept = np.array([env.step(np.array([0]))[0] for _ in range(5)])
    # as in the test of MotionTracer: 20 is not more than the threshold, 21 is; 255 * 0.75 = 191.25
    assert kept[:, 0, :, 0, 0].tolist() == [[0, 0], [20, 0], [41, 255], [41, 191], [0, 255]]
    assert not np.any(env.reset()), "a reset clears the trace"


def test_is_what_the_network_of_the_preset_takes() -> None:
    env = VecMotionTracer(AleVecEnv("BreakoutNoFrameskip-v4", 2, n_stack=1, screen_size=(105, 80)))
    assert env.observation_space == spaces.Box(0, 255, (2, 105, 80), np.uint8)
    assert CustomDQN("CnnPolicy", env, buffer_size=10).get_env() is env


def test_refuses_bad_values() -> None:
    flash = DummyVecEnv([Flash])
    with pytest.raises(ValueError, match=r"decay=1 must be a number in \[0, 1\)"):
        VecMotionTracer(flash, decay=1)
    with pytest.raises(ValueError, match="threshold=-1 must be"):
        VecMotionTracer(flash, threshold=-1)
    with pytest.raises(
        ValueError, match=r"one grey frame, uint8 \(1, height, width\), not observations in Box\(0, 255, \(4, 84"
    ):
        VecMotionTracer(AleVecEnv("PongNoFrameskip-v4"))
    with pytest.raises(ValueError, match="one grey frame"):
        VecMotionTracer(DummyVecEnv([lambda: MotionTracer(gym.make("Breakout-v0"))]))
