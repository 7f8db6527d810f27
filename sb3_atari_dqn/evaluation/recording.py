"""One whole game, step by step: what the agent saw, what it did, and what came of it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_atari_dqn.evaluation.play import Policy


class Step(NamedTuple):
    """
    A step of the agent.

    :param number: counted from 0
    :param observation: what it saw, as the environment gives it
    :param picture: the game before the step, uint8 (height, width, 3); None where the environment shows none
    :param action: what it did
    :param reward: what it got for it
    :param score: sum of rewards before the step
    :param lost_life: whether a life was lost in it
    :param ends: whether the game ended in it
    """

    number: int
    observation: np.ndarray
    picture: np.ndarray | None
    action: int
    reward: float
    score: float
    lost_life: bool
    ends: bool


def play_steps(env: VecEnv, policy: Policy, max_steps: int) -> Iterator[Step]:
    """
    Play a whole game. A lost life ends an episode in training, but not the game; that it is over tells ``episode`` in the
    infos, as Monitor gives it, and how many lives are left tells ``lives``, as ALE gives it.

    :param env: one environment, with ``render_mode="rgb_array"`` for pictures
    :param policy: what to play with
    :param max_steps: where to stop a game that does not end
    :return: its steps, one at a time, so that nobody has to hold them all
    """
    assert env.num_envs == 1
    observations = env.reset()
    assert isinstance(observations, np.ndarray)
    starts = np.ones(1, dtype=bool)
    lives: int | None = None
    score, ends = 0.0, False
    for number in range(max_steps):
        observation, picture = observations[0], env.get_images()[0] if env.render_mode == "rgb_array" else None
        actions = policy(observations, starts)
        observations, rewards, starts, infos = env.step(actions)
        assert isinstance(observations, np.ndarray)
        lives_left = infos[0].get("lives")
        lost_life = lives is not None and lives_left is not None and lives_left < lives
        lives, ends = lives_left, "episode" in infos[0]
        reward = float(rewards[0])
        yield Step(number, observation, picture, int(actions[0]), reward, score, lost_life, ends)
        score += reward
        if ends:
            return
