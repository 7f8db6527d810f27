"""Games, step by step."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_atari_dqn.evaluation.recording import Step, play_steps


class Countdown(gym.Env):
    """Three lives of two steps each; a lost life ends an episode, as Atari's wrappers have it, the last one the game."""

    observation_space = spaces.Box(0, 255, (1,), np.uint8)
    action_space = spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # Gymnasium's own form
    render_mode = "rgb_array"
    clock = 0

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.clock = 0
        return self._look(), {}

    def _look(self) -> np.ndarray:
        return np.array([self.clock], dtype=np.uint8)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        return self._look(), float(action), self.clock == 6, False, {"lives": 3 - self.clock // 2}

    def render(self) -> np.ndarray:
        return np.full((2, 2, 3), self.clock, dtype=np.uint8)


def play(max_steps: int = 100) -> list[Step]:
    env = DummyVecEnv([lambda: Monitor(Countdown())])
    return list(play_steps(env, lambda observations, starts: observations[:, 0] % 3, max_steps))


def test_each_step_shows_what_was_seen_before_it() -> None:
    steps = play()
    assert [step.number for step in steps] == list(range(6))
    for step in steps:
        assert step.picture is not None
        assert (step.picture == step.observation[0]).all()
        assert step.action == step.reward == step.observation[0] % 3
    assert [step.score for step in steps] == [0, 0, 1, 3, 3, 4]
    assert [step.lost_life for step in steps] == [False, True, False, True, False, True]
    assert [step.ends for step in steps] == [False] * 5 + [True]


@pytest.mark.parametrize("max_steps", [1, 3])
def test_a_game_that_does_not_end_is_stopped(max_steps: int) -> None:
    steps = play(max_steps)
    assert len(steps) == max_steps
    assert not steps[-1].ends
