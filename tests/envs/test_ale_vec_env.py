"""Native environments beside the emulator stepped by hand, and as a ``VecEnv`` that SB3 can use."""

import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecTransposeImage

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv
from tests.envs.emulator import Emulator
from tests.waiting import wait_for

BREAKOUT = "BreakoutNoFrameskip-v4"
GAMES = {
    "PongNoFrameskip-v4": "pong",
    "BreakoutNoFrameskip-v4": "breakout",
    "SpaceInvadersNoFrameskip-v4": "space_invaders",
    "SeaquestNoFrameskip-v4": "seaquest",
    "QbertNoFrameskip-v4": "qbert",
    "MsPacmanNoFrameskip-v4": "ms_pacman",
    "ZaxxonNoFrameskip-v4": "zaxxon",
    "FreewayNoFrameskip-v4": "freeway",
}
PLAIN: dict[str, Any] = {"noop_max": 0, "fire_reset": False, "n_threads": 1}


def play_beside(env_id: str, n_envs: int, n_games: int, max_steps: int, **kwargs: Any) -> tuple[int, list[dict[str, Any]]]:
    """Compare everything at each step until each environment has ended ``n_games``, and 20 steps more."""
    env = AleVecEnv(env_id, n_envs, **{**PLAIN, **kwargs})
    emulators = [Emulator(GAMES[env_id], seed=3 + index, **kwargs) for index in range(n_envs)]
    env.seed(3)
    np.testing.assert_array_equal(env.reset(), [emulator.reset() for emulator in emulators])
    rng = np.random.default_rng(0)
    n_actions = len(emulators[0].actions)
    games: list[dict[str, Any]] = []
    ended, left = np.zeros(n_envs, dtype=int), 20
    for _ in range(max_steps):
        actions = rng.integers(n_actions, size=n_envs)
        observations, rewards, dones, infos = env.step(actions)
        assert isinstance(observations, np.ndarray)
        for index, emulator in enumerate(emulators):
            observation, reward, done, info = emulator.step(actions[index])
            np.testing.assert_array_equal(observations[index], observation)
            assert rewards[index] == reward
            assert dones[index] == done
            assert infos[index].keys() == info.keys()
            if done:
                np.testing.assert_array_equal(infos[index]["terminal_observation"], info["terminal_observation"])
                assert infos[index]["TimeLimit.truncated"] is info["TimeLimit.truncated"]
            if "episode" in info:
                assert info["episode"].items() <= infos[index]["episode"].items()
                games.append(info["episode"])
                ended[index] += 1
        left -= bool(ended.min() >= n_games)
        if left == 0:
            break
    env.close()
    assert ended.min() >= n_games, "no game ended"
    return sum(emulator.lost_lives for emulator in emulators), games


@pytest.mark.parametrize("env_id", GAMES)
def test_equals_the_emulator_over_full_games(env_id: str) -> None:
    lost_lives, games = play_beside(env_id, 2, 1, 5000)
    assert (lost_lives > 0) == (env_id not in ("PongNoFrameskip-v4", "FreewayNoFrameskip-v4")), "these two have no lives"
    assert any(game["r"] != 0 for game in games) != (env_id in ("FreewayNoFrameskip-v4", "ZaxxonNoFrameskip-v4")), "too hard"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"action_repeat_probability": 0.25},
        {"fire_reset": True},
        {"terminal_on_life_loss": False},
        {"n_stack": 1, "screen_size": (105, 80)},
        {"n_stack": 2, "screen_size": (50, 160)},
        {"frame_skip": 1},
        {"frame_skip": 3, "max_episode_frames": 100},
        {"frame_skip": 2, "max_episode_frames": 101},
        {"frame_skip": 20, "n_stack": 8},  # lives shorter than the stack
    ],
    ids=str,
)
def test_equals_the_emulator_with_each_option(kwargs: dict[str, Any]) -> None:
    lost_lives, games = play_beside(BREAKOUT, 3, 2, 3000, **kwargs)
    assert (lost_lives > 0) == kwargs.get("terminal_on_life_loss", True)
    if "max_episode_frames" in kwargs:
        assert {game["l"] for game in games} == {kwargs["max_episode_frames"]}


def test_a_lost_life_and_the_end_of_time_at_once() -> None:
    emulator = Emulator("breakout", frame_skip=1)
    emulator.reset()
    n_frames = 1
    while not emulator.step(1)[2]:
        n_frames += 1
    env = AleVecEnv(BREAKOUT, frame_skip=1, max_episode_frames=n_frames, **PLAIN)
    env.reset()
    for _ in range(n_frames - 1):
        assert not env.step(np.array([1]))[2].any()
    _, _, dones, infos = env.step(np.array([1]))
    assert dones.all()
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["episode"]["l"] == n_frames
    assert env.reset_infos[0]["lives"] == 5, "a new game"


def test_plays_as_stable_baselines3_does() -> None:
    """Where nothing is left to chance: no no-ops, and a game without FIRE. Pixels differ where sprites flicker."""
    env_id = "MsPacmanNoFrameskip-v4"
    kwargs: dict[str, Any] = {"noop_max": 0, "terminal_on_life_loss": False}
    native = AleVecEnv(env_id, 2, **kwargs)
    wrapped = make_vec_env(env_id, 2, wrapper_class=AtariWrapper, wrapper_kwargs={**kwargs, "clip_reward": False})
    gymnasium = VecTransposeImage(VecFrameStack(wrapped, 4))
    assert native.observation_space == gymnasium.observation_space
    assert native.action_space == gymnasium.action_space
    np.testing.assert_allclose(np.array(native.reset()), np.array(gymnasium.reset()), atol=2)
    rng = np.random.default_rng(1)
    n_games, n_close = 0, 0
    for _ in range(1000):
        actions = rng.integers(9, size=2)
        observations, *results, infos = native.step(actions)
        expected_observations, *expected, expected_infos = gymnasium.step(actions)
        np.testing.assert_equal(results, expected)
        assert [array.dtype for array in results] == [array.dtype for array in expected]
        n_close += int((np.abs(observations.astype(int) - expected_observations) <= 2).mean() > 0.99)  # type: ignore[union-attr]
        for info, expected_info in zip(infos, expected_infos, strict=True):
            assert ("episode" in info) == ("episode" in expected_info)
            if "episode" in info:
                n_games += 1
                assert {**info["episode"], "t": 0} == {**expected_info["episode"], "t": 0}
    assert n_games >= 2
    assert n_close == 1000


def test_a_game_starts_with_no_ops() -> None:
    env = AleVecEnv("MsPacmanNoFrameskip-v4", 24, noop_max=4, max_episode_frames=8, seed=0)
    env.reset()
    no_ops = [info["episode_frame_number"] for info in env.reset_infos]
    assert set(no_ops) == set(range(4))
    env.step(np.zeros(24))
    infos = env.step(np.zeros(24))[3]
    assert [info["episode"]["l"] for info in infos] == [n + 8 for n in no_ops], "they count for the length, not for the limit"


def test_fire_starts_every_life() -> None:
    def lives_lost(fire_reset: bool) -> int:
        env = AleVecEnv(BREAKOUT, fire_reset=fire_reset)
        env.reset()
        return sum(int(env.step(np.array([0]))[2][0]) for _ in range(300))

    assert lives_lost(True) >= 5, "the ball was launched after each lost life"
    assert lives_lost(False) == 0, "somebody launched the ball"


def trace(env: AleVecEnv, n_steps: int = 60) -> np.ndarray:
    env.action_space.seed(0)
    return np.array([env.reset(), *(env.step(np.full(env.num_envs, env.action_space.sample()))[0] for _ in range(n_steps))])


def test_the_same_seed_plays_the_same_games_and_another_does_not() -> None:
    kwargs: dict[str, Any] = {"n_envs": 2, "action_repeat_probability": 0.25}
    games = trace(AleVecEnv(BREAKOUT, seed=7, **kwargs))
    again = AleVecEnv(BREAKOUT, seed=1, **kwargs)
    assert not (trace(again) == games).all()
    assert again.seed(7) == [7, 8]
    np.testing.assert_array_equal(trace(again), games)
    assert not (trace(again) == games).all(), "a reset without a seed goes on"
    assert not (games[:, 0] == games[:, 1]).all(), "each environment has its own seed"
    np.testing.assert_array_equal(
        trace(AleVecEnv(BREAKOUT, seed=8, n_envs=1, action_repeat_probability=0.25))[:, 0], games[:, 1]
    )


def test_takes_seeds_of_32_bits_and_none() -> None:
    np.random.seed(0)
    first = trace(AleVecEnv(BREAKOUT, 2, action_repeat_probability=0.25))
    np.random.seed(0)
    np.testing.assert_array_equal(trace(AleVecEnv(BREAKOUT, 2, action_repeat_probability=0.25)), first)
    AleVecEnv(BREAKOUT, 2, seed=2**32 - 1).reset()


def test_the_specification_of_the_game_is_heeded_and_left_alone() -> None:
    env = AleVecEnv("BreakoutNoFrameskip-v0", full_action_space=True, max_episode_frames=50)
    assert env.spec.kwargs["repeat_action_probability"] == 0.25
    assert env.action_space == spaces.Discrete(18)
    assert gym.spec("BreakoutNoFrameskip-v0").kwargs["full_action_space"] is False
    sticky, plain = (trace(AleVecEnv(f"BreakoutNoFrameskip-{version}", seed=0)) for version in ("v0", "v4"))
    assert not (sticky == plain).all()


def test_observations_stay_what_they_were() -> None:
    env = AleVecEnv(BREAKOUT, 2, seed=0)
    kept = [env.reset()]
    for step in range(100):
        observations, _, _, infos = env.step(np.array([step % 4, 0]))
        assert isinstance(observations, np.ndarray)
        kept += [observations, *(info["terminal_observation"] for info in infos if info)]
        if step == 50:
            copies = [array.copy() for array in kept]
    assert len(copies) > 53, "no life was lost"
    for array, copy in zip(kept, copies, strict=False):
        np.testing.assert_array_equal(array, copy)
    assert len({id(info) for info in infos}) == 2, "infos are each environment's own"


def test_games_are_played_between_step_async_and_step_wait() -> None:
    env = AleVecEnv(BREAKOUT, 4, seed=0, frame_skip=400)
    env.reset()

    def spent_by_other_threads() -> float:
        return time.process_time() - time.thread_time()  # seconds of the processor

    env.step_async(np.zeros(4, dtype=int))
    before = spent_by_other_threads()
    wait_for(lambda: spent_by_other_threads() > before + 0.02)
    env.step_wait()


def test_reset_in_the_middle_of_a_step_begins_new_games() -> None:
    env = AleVecEnv(BREAKOUT, 2, seed=0)
    first = env.reset()
    env.step_async(np.zeros(2, dtype=int))
    env.seed(0)
    np.testing.assert_array_equal(env.reset(), first)
    assert env.step(np.zeros(2))[0].shape == (2, 4, 84, 84)  # type: ignore[union-attr]


def test_writes_monitors_files(tmp_path: Path) -> None:
    env = AleVecEnv(BREAKOUT, 2, monitor_dir=str(tmp_path / "new"), seed=0)
    env.reset()
    episodes: list[dict[str, Any]] = []
    while len(episodes) < 4:
        episodes += [info["episode"] for info in env.step(np.array([0, 3]))[3] if "episode" in info]
    env.close()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["0.monitor.csv", "1.monitor.csv"]
    assert f'"env_id": "{BREAKOUT}"' in (tmp_path / "new/0.monitor.csv").read_text()
    table = load_results(str(tmp_path / "new"))
    assert sorted(table["r"]) == sorted(episode["r"] for episode in episodes)
    assert sorted(table["l"]) == sorted(episode["l"] for episode in episodes)
    assert sorted(table["t"]) == pytest.approx(sorted(episode["t"] for episode in episodes), abs=1e-3)


class Still:
    """An agent that does nothing."""

    def predict(self, observation: np.ndarray, **_: Any) -> tuple[np.ndarray, None]:
        return np.zeros(len(observation), dtype=np.int64), None


def test_evaluation_counts_whole_games() -> None:
    env = AleVecEnv(BREAKOUT, 2, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, lengths = evaluate_policy(Still(), env, 4, return_episode_rewards=True)  # type: ignore[arg-type]
    assert isinstance(scores, list)
    assert len(scores) == 4
    assert np.min(lengths) > 400, "five lives, in emulator frames"


def test_is_what_stable_baselines3_asks_for() -> None:
    env = AleVecEnv(BREAKOUT, 3)
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(AtariWrapper, [0, 2]) == [False] * 2
    assert env.get_attr("render_mode") == [None] * 3
    assert env.get_attr("action_space", 1) == [spaces.Discrete(4)]
    assert env.get_attr("spec")[0].id == BREAKOUT
    assert env.has_attr("spec")
    assert not env.has_attr("ale")
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        VecMonitor(env)
    model = CustomDQN("CnnPolicy", env, buffer_size=10)
    assert model.get_env() is env, "no image is transposed"


def test_is_learnt_from() -> None:
    env = AleVecEnv(BREAKOUT, 4, seed=0)
    model = CustomDQN("CnnPolicy", env, buffer_size=500, learning_starts=1100, batch_size=4, train_freq=4)
    model.learn(1200)
    assert model._n_updates > 0
    assert len(model.ep_info_buffer or []) > 0, "scores of whole games reach the logger"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"env_id": "BreakutNoFrameskip-v4"}, "'BreakutNoFrameskip-v4' is not known.*did you mean 'BreakoutNoFrameskip-v4'"),
        ({"env_id": "CartPole-v1"}, "'CartPole-v1' is not one of ALE's games"),
        ({"env_id": "ALE/Breakout-v5"}, r"skips frames by itself \(frameskip=4\).*give 'BreakoutNoFrameskip-v4'"),
        ({"env_id": "Breakout-v4"}, r"frameskip=\(2, 5\)"),
        ({"env_id": "ALE/Pacman-v5"}, "no '\\*NoFrameskip-v4' of this game"),
        ({"env_id": "Hard-v0"}, "'Hard-v0' sets difficulty=3"),
        ({"env_id": "Short-v0"}, "'Short-v0' is registered with wrappers or a limit of steps"),
        ({"n_envs": 0}, "n_envs=0 must be a whole number of environments, at least 1"),
        ({"n_envs": 2.0}, "n_envs=2.0 must be"),
        ({"n_stack": 0}, "n_stack=0 must be a whole number of frames, at least 1"),
        ({"noop_max": -1}, "noop_max=-1 must be a whole number of emulator frames, at least 0"),
        ({"frame_skip": 0}, "frame_skip=0 must be a whole number of emulator frames, at least 1"),
        ({"frame_skip": True}, "frame_skip=True must be"),
        ({"screen_size": 0}, "screen_size=0 must be a whole number of pixels or two"),
        ({"screen_size": (84, 0)}, r"screen_size=\(84, 0\) must be"),
        ({"screen_size": (84, 84, 3)}, r"screen_size=\(84, 84, 3\) must be"),
        ({"screen_size": "84"}, "screen_size='84' must be"),
        ({"action_repeat_probability": 1.5}, r"action_repeat_probability=1.5 must be a number in \[0, 1\]"),
        ({"action_repeat_probability": "0.25"}, "action_repeat_probability='0.25' must be"),
        ({"max_episode_frames": 0}, "max_episode_frames=0 must be a whole number of emulator frames, at least 1"),
        ({"n_threads": -1}, "n_threads=-1 must be a whole number of threads, at least 0"),
        ({"terminal_on_life_loss": 1}, "terminal_on_life_loss=1 must be True or False"),
        ({"full_action_space": "no"}, "full_action_space='no' must be True or False or None"),
    ],
)
def test_refuses_bad_values(kwargs: dict[str, Any], message: str, tmp_path: Path) -> None:
    atari: dict[str, Any] = {"entry_point": "ale_py.env:AtariEnv"}
    gym.register("Hard-v0", kwargs={"game": "breakout", "frameskip": 1, "difficulty": 3}, **atari)
    gym.register("Short-v0", kwargs={"game": "breakout", "frameskip": 1}, max_episode_steps=9, **atari)
    try:
        with pytest.raises(ValueError, match=message):
            AleVecEnv(**{"env_id": BREAKOUT, "monitor_dir": str(tmp_path / "new"), **kwargs})
    finally:
        del gym.registry["Hard-v0"], gym.registry["Short-v0"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("actions", [[0, 4], [-1, 0], [0], [0, 0, 0]])
def test_refuses_actions_that_the_game_does_not_have(actions: list[int]) -> None:
    env = AleVecEnv(BREAKOUT, 2)
    env.reset()
    with pytest.raises(ValueError, match=r"0 to 3|shape"):
        env.step(np.array(actions))
    assert env.step(np.array([0, 3]))[1].shape == (2,), "and goes on"


def test_says_what_native_environments_lack() -> None:
    env = AleVecEnv(BREAKOUT)
    with pytest.raises(AttributeError, match=r"no 'ale'.*native_envs: false"):
        env.get_attr("ale")
    with pytest.raises(AttributeError, match=r"'difficulty' cannot be set.*native_envs: false"):
        env.set_attr("difficulty", 1)
    with pytest.raises(AttributeError, match=r"no method 'clone_state'.*native_envs: false"):
        env.env_method("clone_state")
    for show in (env.get_images, env.render, lambda: env.render("human")):
        with pytest.raises(NotImplementedError, match=r"cannot be shown or recorded.*native_envs: false"):
            show()


def test_steps_come_in_order() -> None:
    env = AleVecEnv(BREAKOUT)
    with pytest.raises(RuntimeError, match="call reset before step"):
        env.step(np.array([0]))
    env.reset()
    with pytest.raises(RuntimeError, match="call step_async before step_wait"):
        env.step_wait()
    env.step_async(np.array([0]))
    with pytest.raises(RuntimeError, match="call step_wait before the next step_async"):
        env.step_async(np.array([0]))
    assert env.step_wait()[1].shape == (1,)


def test_closing_twice_and_in_the_middle_of_a_step() -> None:
    env = AleVecEnv(BREAKOUT, 2)
    env.reset()
    env.step_async(np.zeros(2, dtype=int))
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="have been closed"):
        env.reset()
