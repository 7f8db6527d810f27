"""The motion tracer beside a plain one made of Pillow and loops over time, on full games."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecTransposeImage

from sb3_atari_dqn import MotionTracer
from sb3_atari_dqn.envs.motion_tracer import triangle_filter
from tests.envs.games import GAMES


def grey_image(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    red, green, blue = (frame[:, :, channel].astype(np.float64) for channel in range(3))
    luminance = (0.299 * red + 0.587 * green + 0.114 * blue).astype(np.float32)
    return np.asarray(Image.fromarray(luminance).resize((width, height), Image.Resampling.BILINEAR)).astype(np.float64)


class KeepFrame(gym.Wrapper):
    """Remembers the last frame for the reference."""

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.frame, info = self.env.reset(**kwargs)
        return self.frame, info

    def step(self, action: Any) -> Any:
        self.frame, *rest = self.env.step(action)
        return self.frame, *rest


@pytest.mark.parametrize(("height", "width"), [(105, 80), (84, 84)])
@pytest.mark.parametrize("game", GAMES)
def test_agrees_with_a_plain_implementation_over_a_full_game(game: str, height: int, width: int) -> None:
    decay, threshold = 0.75, 20.0
    keeper = KeepFrame(gym.make(f"ALE/{game}-v5"))
    env = MotionTracer(keeper, height, width)
    env.action_space.seed(1)
    state, _ = env.reset(seed=1)
    previous = grey_image(keeper.frame, height, width)
    trace = np.zeros((height, width))
    uncertain = np.zeros((height, width), dtype=bool)
    steps, over, largest_trace = 0, False, 0
    assert not state[..., 1].any()
    while not over:
        state, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over = terminated or truncated
        image = grey_image(keeper.frame, height, width)
        difference = np.abs(image - previous)
        trace = np.clip(255 * (difference > threshold) + decay * trace, 0, 255)
        uncertain |= np.abs(difference - threshold) < 1e-3
        previous, steps, largest_trace = image, steps + 1, max(largest_trace, state[..., 1].max())

        assert np.abs(state[..., 0].astype(float) - image).max() <= 1
        # truncated to 8 bits; a trace may be a whole number that float arithmetic just misses
        assert np.abs(state[..., 1] - np.floor(trace + 1e-3))[~uncertain].max() <= 0
    assert steps > 100
    assert largest_trace == 255, "nothing moved: the game was not played"
    assert uncertain.mean() < 0.01


SIZES = [(210, 105), (160, 80), (210, 84), (250, 105), (160, 161), (5, 20), (7, 1)]


@pytest.mark.parametrize(("n_inputs", "n_outputs"), SIZES)
def test_filter_is_pillows(n_inputs: int, n_outputs: int) -> None:
    row = np.random.default_rng(0).uniform(0, 255, (1, n_inputs)).astype(np.float32)
    expected = np.asarray(Image.fromarray(row).resize((n_outputs, 1), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(triangle_filter(n_inputs, n_outputs) @ row[0], expected[0], atol=1e-2)


class Flash(gym.Env):
    """Grey frames of the levels that it is given."""

    observation_space = spaces.Box(0, 255, (4, 4, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, *levels: int) -> None:
        self.levels = levels

    def frame(self) -> np.ndarray:
        return np.full((4, 4, 3), self.levels[self.time], dtype=np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.time = 0
        return self.frame(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self.frame(), 0.0, False, False, {}


def test_trace_by_hand() -> None:
    env = MotionTracer(Flash(0, 0, 20, 41, 41, 41, 0), height=2, width=2)
    assert env.reset()[0][0, 0].tolist() == [0, 0]
    # 20 is not more than the threshold; 21 is. 255 * 0.75 = 191.25, * 0.75 = 143.4375 (kept, not rounded); clipped at 255
    expected = [(0, 0), (20, 0), (41, 255), (41, 191), (41, 143), (0, 255)]
    for image, trace in expected:
        state = env.step(0)[0]
        assert np.abs(state[..., 0].astype(int) - image).max() <= 1
        assert (state[..., 1] == trace).all()


def test_only_a_new_game_clears_the_trace() -> None:
    env = MotionTracer(Flash(0, 255, 255), height=2, width=2)
    env.reset()
    assert (env.step(0)[0][..., 1] == 255).all()
    assert not env.reset()[0][..., 1].any()
    # nothing moved since the reset's own image
    assert (env.step(0)[0][..., 1] == 255).all()


def test_decay_and_threshold_are_used() -> None:
    env = MotionTracer(Flash(0, 50, 50, 90), height=2, width=2, decay=0.5, threshold=45)
    env.reset()
    assert [int(env.step(0)[0][0, 0, 1]) for _ in range(3)] == [255, 127, 63]


def test_is_a_citizen_of_gymnasium_and_sb3() -> None:
    env = MotionTracer(gym.make("Breakout-v0"))
    check_env(env, warn=False)
    assert env.observation_space == spaces.Box(0, 255, (105, 80, 2), np.uint8)
    vec_env = VecTransposeImage(make_vec_env("Breakout-v0", 2, wrapper_class=MotionTracer))
    assert vec_env.observation_space.shape == (2, 105, 80)
    observations = vec_env.reset()
    assert isinstance(observations, np.ndarray)
    assert observations.shape == (2, 2, 105, 80)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"decay": 1.0}, r"decay=1.0 must be a number in \[0, 1\)"),
        ({"decay": -0.1}, "decay=-0.1 must be"),
        ({"decay": float("nan")}, "decay=nan must be"),
        ({"threshold": -1}, "threshold=-1 must be a number of grey levels, at least 0"),
        ({"threshold": "20"}, "threshold='20' must be"),
        ({"height": 0}, "height=0 must be a whole number of pixels, at least 1"),
        ({"width": 1.5}, "width=1.5 must be"),
    ],
)
def test_refuses_bad_values(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MotionTracer(Flash(0), **kwargs)


@pytest.mark.parametrize(("env_id", "kwargs"), [("CartPole-v1", {}), ("ALE/Pong-v5", {"obs_type": "grayscale"})])
def test_refuses_an_environment_without_rgb_frames(env_id: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="MotionTracer needs RGB frames"):
        MotionTracer(gym.make(env_id, **kwargs))
