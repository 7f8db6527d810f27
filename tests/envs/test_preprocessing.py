"""The motion tracer within SB3's Atari steps, on real games."""

import gymnasium as gym
import numpy as np
import pytest

from sb3_atari_dqn import MotionTracer, MotionTracerAtariWrapper


def layers(env: gym.Env) -> list[gym.Wrapper]:
    found = []
    while isinstance(env, gym.Wrapper):
        found.append(env)
        env = env.env
    return found


def wrappers(env: gym.Env) -> list[str]:
    names = [type(layer).__name__ for layer in layers(env)]
    return [name for name in names if name not in ("OrderEnforcing", "PassiveEnvChecker")]


def test_order_of_the_steps() -> None:
    breakout = MotionTracerAtariWrapper(gym.make("BreakoutNoFrameskip-v4"), decay=0.5)
    assert wrappers(breakout) == [
        "MotionTracerAtariWrapper",
        "FireResetEnv",
        "EpisodicLifeEnv",
        "MotionTracer",
        "MaxAndSkipEnv",
        "NoopResetEnv",
    ]
    freeway = MotionTracerAtariWrapper(gym.make("FreewayNoFrameskip-v4"), 0, 1, False)
    assert wrappers(freeway) == ["MotionTracerAtariWrapper", "MotionTracer"], "Freeway has no FIRE"


def test_a_lost_life_does_not_clear_the_trace() -> None:
    env = MotionTracerAtariWrapper(gym.make("BreakoutNoFrameskip-v4"))
    env.reset(seed=0)
    env.action_space.seed(0)
    lost_lives = 0
    for _ in range(2000):
        state, _, terminated, _, info = env.step(env.action_space.sample())
        if terminated and info["lives"] > 0:
            lost_lives += 1
            # shake the paddle, so that there is a trace to keep
            before = state[..., 1].astype(int)
            state, _ = env.reset()
            # one no-op, FIRE and one more action pass after a lost life: what shone at 255 has at least 255 * 0.75**3 left
            assert (state[..., 1][before == 255] >= int(255 * 0.75**3)).all()
            if (before == 255).any():
                assert state[..., 1].any()
        elif terminated:
            state, _ = env.reset()
            # no-ops are not traced, FIRE and one action are
            assert (state[..., 1] > 0).mean() < 0.1
    assert lost_lives >= 3


def test_takes_the_maximum_of_two_frames_of_four() -> None:
    def play(env: gym.Env, actions: list[int]) -> np.ndarray:
        env.reset(seed=3)
        for action in actions:
            state, *_ = env.step(action)
        return state

    raw = gym.make("PongNoFrameskip-v4")
    raw.reset(seed=3)
    frames = [raw.step(action)[0] for action in [2] * 4 + [3] * 4]
    merged = np.maximum(frames[-2], frames[-1])
    env = MotionTracerAtariWrapper(gym.make("PongNoFrameskip-v4"), noop_max=0, terminal_on_life_loss=False)
    tracer = next(layer for layer in layers(env) if isinstance(layer, MotionTracer))
    state = play(tracer, [2, 3])
    assert (state[..., 0] == tracer._grey_image(merged).astype(np.uint8)).all()


def test_refuses_an_environment_without_rgb_frames() -> None:
    with pytest.raises(ValueError, match="MotionTracer needs RGB frames"):
        MotionTracerAtariWrapper(gym.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"noop_max": -1}, "noop_max=-1 must be a whole number of emulator frames, at least 0"),
        ({"frame_skip": 0}, "frame_skip=0 must be a whole number of emulator frames, at least 1"),
        ({"decay": 2}, "decay=2 must be"),
    ],
)
def test_refuses_bad_values(kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MotionTracerAtariWrapper(gym.make("PongNoFrameskip-v4"), **kwargs)  # type: ignore[arg-type]
