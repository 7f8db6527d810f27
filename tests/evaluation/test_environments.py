"""A protocol's rules in real games, and a model's picture of them."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecTransposeImage

from sb3_atari_dqn import AleVecEnv, MotionTracerAtariWrapper, VecMotionTracer
from sb3_atari_dqn.evaluation.environments import UNSEEN, Preprocessing, find_rom, guess_preprocessing, make_env
from sb3_atari_dqn.evaluation.protocols import PROTOCOLS, Protocol, find_protocol

BREAKOUT = "BreakoutNoFrameskip-v4"
NATURE = PROTOCOLS["nature"]


def make(protocol: Protocol = NATURE, preprocessing: Preprocessing = Preprocessing(), **kwargs: Any) -> VecEnv:  # noqa: B008
    defaults: dict[str, Any] = {"env_id": BREAKOUT, "n_envs": 1, "full_action_space": False, "seed": 0}
    return make_env(protocol, preprocessing, **defaults | kwargs)


def test_unknown_protocol() -> None:
    with pytest.raises(ValueError, match="'natur' is not known; choose one of nature, dqn-zoo, machado, tutorial"):
        find_protocol("natur")


def test_the_numbers_of_the_sources() -> None:
    rules = {
        name: (p.epsilon, p.n_episodes, p.n_frames, p.max_frames, p.noop_max, p.frame_skip, p.action_repeat_probability)
        for name, p in PROTOCOLS.items()
    }
    assert rules == {
        "nature": (0.05, 30, None, 18_000, 30, 4, 0),
        "dqn-zoo": (0.05, None, 500_000, 108_000, 30, 4, 0),
        "machado": (0.01, 100, None, 18_000, 0, 4, 0.25),
        "tutorial": (0.01, 30, None, 108_000, 0, (2, 5), 0.25),
    }


@pytest.mark.parametrize("env_id", [BREAKOUT, "Breakout-v0", "ALE/Breakout-v5"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_rules_reach_the_emulator_whatever_the_environment_is_by_itself(name: str, env_id: str) -> None:
    protocol = PROTOCOLS[name]
    env = make(protocol, Preprocessing(episodic_life=False), env_id=env_id)  # where it is true, a reset is not one
    (ale,), (game,) = env.get_attr("ale"), env.get_attr("unwrapped")
    assert ale.getFloat("repeat_action_probability") == protocol.action_repeat_probability
    assert ale.getInt("max_num_frames_per_episode") == protocol.max_frames
    frames = []
    for _ in range(30):
        env.reset()
        start = ale.getEpisodeFrameNumber()
        frames.append(start)
        env.step(np.array([0]))
        steps = ale.getEpisodeFrameNumber() - start
        assert steps in ((4,) if protocol.frame_skip == 4 else (2, 3, 4))
    # FIRE and action 2, which SB3's wrapper presses, take up to four frames each
    assert max(frames) - min(frames) > (20 if protocol.noop_max else -1)
    assert max(frames) <= 8 + protocol.noop_max
    assert game.spec.id == env_id
    env.close()


def test_native_environments_get_the_same_rules() -> None:
    env = make(PROTOCOLS["machado"], Preprocessing(native=True), full_action_space=True)
    assert isinstance(env, AleVecEnv)
    assert env.spec.kwargs == {
        "game": "breakout",
        "frameskip": 1,
        "repeat_action_probability": 0.25,
        "full_action_space": True,
        "max_num_frames_per_episode": 18_000,
    }
    assert env.action_space == spaces.Discrete(18)
    tracer = make(NATURE, Preprocessing((105, 80), 1, {"decay": 0.5}, native=True), env_id="Breakout-v0")
    assert isinstance(tracer, VecMotionTracer)
    assert tracer.decay == 0.5
    assert not isinstance(make(PROTOCOLS["tutorial"], Preprocessing(native=True)).unwrapped, AleVecEnv), "it skips at random"


@pytest.mark.parametrize("wrapper", [AtariWrapper, MotionTracerAtariWrapper])
def test_the_picture_is_that_of_the_training(wrapper: type[gym.Wrapper]) -> None:
    expected = make_vec_env(
        BREAKOUT, 1, seed=3, wrapper_class=wrapper, wrapper_kwargs={"clip_reward": False} if wrapper is AtariWrapper else {}
    )
    preprocessing = Preprocessing((105, 80), 1, {})
    if wrapper is AtariWrapper:
        expected, preprocessing = VecFrameStack(expected, 4), Preprocessing()
    expected = VecTransposeImage(expected)
    env = make(preprocessing=preprocessing, seed=3)
    assert env.observation_space == expected.observation_space
    np.testing.assert_array_equal(env.reset(), expected.reset())
    rng, n_lives, n_games = np.random.default_rng(0), 0, 0
    for _ in range(500):
        action = rng.integers(4, size=1)
        one, other = env.step(action), expected.step(action)
        for mine, theirs in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        n_lives += int(one[2][0])
        assert ("episode" in one[3][0]) == ("episode" in other[3][0])
        if "episode" in one[3][0]:
            n_games += 1
            assert one[3][0]["episode"]["r"] == other[3][0]["episode"]["r"]
            assert one[3][0]["episode"]["l"] == other[3][0]["episode"]["l"]
    assert n_games >= 1
    assert n_lives > 2 * n_games


def test_lost_lives_can_be_hidden() -> None:
    env = make(PROTOCOLS["machado"])
    env.reset()
    rng, lives = np.random.default_rng(0), set()
    while True:
        _, _, dones, infos = env.step(rng.integers(4, size=1))
        lives.add(infos[0]["lives"])
        if dones[0]:
            break
    assert lives == {0, 1, 2, 3, 4, 5}, "one episode through all lives"
    assert infos[0]["episode"]["l"] == infos[0]["episode_frame_number"]


def test_nothing_is_pressed_where_nothing_was_trained() -> None:
    env = make(NATURE._replace(noop_max=0), UNSEEN._replace(native=False))
    env.reset()
    (ale,) = env.get_attr("ale")
    assert ale.getEpisodeFrameNumber() == 0


def test_the_limit_of_time_cuts_a_game_short() -> None:
    for native in (False, True):
        env = make(NATURE._replace(max_frames=200, noop_max=0), Preprocessing(native=native))
        env.reset()
        infos: list[dict[str, Any]] = [{}]
        n_steps = 0
        while "episode" not in infos[0]:
            infos = env.step(np.array([0]))[3]
            n_steps += 1
        assert 200 <= infos[0]["episode"]["l"] <= 203
        assert n_steps <= 50


def test_a_game_that_ends_between_two_lives_counts() -> None:
    def until_a_life_is_lost(max_frames: int) -> tuple[float, dict[str, Any], int]:
        env = make(NATURE._replace(max_frames=max_frames), seed=1)
        env.reset()
        rng, score = np.random.default_rng(0), 0.0
        while True:
            _, rewards, dones, infos = env.step(rng.integers(4, size=1))
            score += float(rewards[0])
            if dones[0]:
                return score, infos[0], infos[0]["episode_frame_number"]

    score, info, frame = until_a_life_is_lost(18_000)
    assert "episode" not in info
    assert until_a_life_is_lost(frame + 2)[1]["episode"] == {"r": score, "l": frame + 2}


def test_what_a_model_of_unknown_training_sees() -> None:
    def guess(env_id: str, shape: tuple[int, ...]) -> Preprocessing:
        return guess_preprocessing(env_id, spaces.Box(0, 255, shape, np.uint8))

    assert guess(BREAKOUT, (4, 84, 84)) == Preprocessing()
    assert guess(BREAKOUT, (2, 84, 84)) == Preprocessing(n_stack=2)
    assert guess(BREAKOUT, (2, 105, 80)) == Preprocessing((105, 80), 1, {})
    assert guess("Breakout-v0", (2, 105, 80)) == Preprocessing((105, 80), 1, {}, fire_reset=False)
    with pytest.raises(ValueError, match="not images of bytes"):
        guess_preprocessing(BREAKOUT, spaces.Box(0, 1, (4,)))


def test_protocols_are_for_atari() -> None:
    assert find_rom("ALE/SpaceInvaders-v5") == "space_invaders"
    for env_id in ("CartPole-v1", "BreakoutNoFrameskip-v5"):
        with pytest.raises(ValueError, match=f"'{env_id}' is not one of ALE's games"):
            make(env_id=env_id)
