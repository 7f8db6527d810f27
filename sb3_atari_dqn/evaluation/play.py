"""Whole games with a policy, in environments that step together."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.evaluation.environments import Preprocessing, make_env
from sb3_atari_dqn.evaluation.protocols import Protocol

#: environments that play together, if there are that many games to play. The scores depend on it.
N_ENVS = 8

#: observations of all environments, and which of them begin an episode, bool (n_envs,), to actions (n_envs,)
Policy = Callable[[Any, np.ndarray], np.ndarray]


class Episode(NamedTuple):
    """
    A whole game.

    :param score: sum of its raw rewards
    :param steps: agent steps
    :param frames: emulator frames, no-ops and all; steps of the environment where that is no Atari game
    :param env_seed: of the environment that it was played in
    :param number: how many games that environment had played before
    """

    score: float
    steps: int
    frames: int
    env_seed: int
    number: int


class ModelPolicy:
    """
    A model's actions.

    :param model: of Stable-Baselines3, sb3-contrib or this package
    :param deterministic: see the model's ``predict``
    """

    def __init__(self, model: BaseAlgorithm, deterministic: bool) -> None:
        self._model = model
        self._deterministic = deterministic
        self._state: tuple[np.ndarray, ...] | None = None

    def __call__(self, observations: Any, episode_starts: np.ndarray) -> np.ndarray:
        actions, self._state = self._model.predict(observations, self._state, episode_starts, self._deterministic)
        return actions


class EpsilonGreedyPolicy:
    """
    Now and then a random action, drawn for each environment on its own.

    :param policy: chooses the other actions; None if epsilon is 1
    :param epsilon: probability of a random action
    :param n_actions: how many there are
    :param rng: what chance is drawn from
    """

    def __init__(self, policy: Policy | None, epsilon: float, n_actions: int, rng: np.random.Generator) -> None:
        self._policy = policy
        self._epsilon = epsilon
        self._n_actions = n_actions
        self._rng = rng

    def __call__(self, observations: Any, episode_starts: np.ndarray) -> np.ndarray:
        explore = self._rng.random(len(episode_starts)) < self._epsilon
        actions = self._rng.integers(self._n_actions, size=len(episode_starts))
        return actions if self._policy is None else np.where(explore, actions, self._policy(observations, episode_starts))


def make_policy(model: BaseAlgorithm | None, epsilon: float, n_actions: int, seed: int) -> Policy:
    """
    :param model: what to play with; None for random play
    :param epsilon: probability of a random action
    :param n_actions: how many there are
    :param seed: of epsilon and the random actions
    :return: the model with epsilon: its best actions where it has Q-values, otherwise draws from its own distribution
    """
    rng = np.random.default_rng(seed)
    if model is None:
        return EpsilonGreedyPolicy(None, 1.0, n_actions, rng)
    return EpsilonGreedyPolicy(
        ModelPolicy(model, isinstance(model, OffPolicyAlgorithm | QLearningAlgorithm)), epsilon, n_actions, rng
    )


def play_protocol(
    protocol: Protocol,
    env_id: str,
    model: BaseAlgorithm | None,
    preprocessing: Preprocessing,
    seed: int = 0,
) -> list[Episode]:
    """
    Play as a protocol says. The same seed plays the same games.

    :param protocol: the rules
    :param env_id: the game
    :param model: what to play with; None for random play
    :param preprocessing: what the model was trained to see
    :param seed: of games, epsilon and the model
    :return: the games
    :raises ValueError: if the model is not made for this game's observations or actions
    """
    n_episodes, n_frames = protocol.n_episodes, protocol.n_frames
    n_envs = 1 if n_frames is not None else min(N_ENVS, n_episodes or 1)
    if model is None:
        protocol = protocol._replace(frame_skip=protocol.random_frame_skip)
        full_action_space = protocol.full_action_space
    else:
        full_action_space = model.action_space == spaces.Discrete(18)
    env = make_env(protocol, preprocessing, env_id, n_envs, full_action_space, seed)
    try:
        if model is not None:
            check_fit(model, env, env_id)
        assert isinstance(env.action_space, spaces.Discrete)
        set_random_seed(seed)
        policy = make_policy(model, protocol.epsilon, int(env.action_space.n), seed)
        return play_frames(env, policy, n_frames, seed) if n_frames else play_episodes(env, policy, n_episodes or 1, seed)
    finally:
        env.close()


def check_fit(model: BaseAlgorithm, env: VecEnv, env_id: str) -> None:
    """
    :param model: what is to play
    :param env: environments
    :param env_id: their name
    :raises ValueError: if the model is made for other observations or actions
    """
    for what, of_model, of_env in (
        ("observations", model.observation_space, env.observation_space),
        ("actions", model.action_space, env.action_space),
    ):
        if of_model != of_env:
            raise ValueError(f"the model does not fit {env_id!r}: its {what} are {of_model}, those of the game {of_env}")


def play_episodes(env: VecEnv, policy: Policy, n_episodes: int, seed: int) -> list[Episode]:
    """
    Play a number of games. Each environment plays a share that is fixed beforehand, so that short games, of which there are
    more in the same time, do not count more.

    :param env: environments whose infos have ``episode`` at the end of whole games
    :param policy: what to play with
    :param n_episodes: whole games to play
    :param seed: of the first environment, the next ones have the next numbers
    :return: the games, environment by environment
    """
    shares = np.array([(n_episodes + index) // env.num_envs for index in range(env.num_envs)])
    games: list[list[Episode]] = [[] for _ in shares]
    with tqdm(total=n_episodes, desc="games", unit="game", disable=None) as bar:
        for index, episode in _games(env, policy, seed):
            if len(games[index]) < shares[index]:
                games[index].append(episode)
                bar.update()
            if sum(map(len, games)) == n_episodes:
                break
    return [episode for of_env in games for episode in of_env]


def play_frames(env: VecEnv, policy: Policy, n_frames: int, seed: int) -> list[Episode]:
    """
    Play for a number of emulator frames. The game that is being played when they are over does not count.

    :param env: one environment, see ``play_episodes``
    :param policy: what to play with
    :param n_frames: emulator frames
    :param seed: of the environment
    :return: the games
    """
    assert env.num_envs == 1
    games: list[Episode] = []
    left = n_frames
    with tqdm(total=n_frames, desc="frames", unit="frame", disable=None) as bar:
        for _, episode in _games(env, policy, seed):
            bar.update(min(episode.frames, left))
            left -= episode.frames
            if left < 0:
                break
            games.append(episode)
    return games


def _games(env: VecEnv, policy: Policy, seed: int) -> Iterator[tuple[int, Episode]]:
    """
    Play on and on.

    :param env: see ``play_episodes``, like the others
    :param policy: see there
    :param seed: see there
    :return: iterator of each environment's index and the game that ended in it
    """
    observations = env.reset()
    starts = np.ones(env.num_envs, dtype=bool)
    steps = np.zeros(env.num_envs, dtype=np.int64)
    numbers = np.zeros(env.num_envs, dtype=np.int64)
    while True:
        observations, _, starts, infos = env.step(policy(observations, starts))
        steps += 1
        for index, info in enumerate(infos):
            if "episode" in info:
                score, n_frames = float(info["episode"]["r"]), int(info.get("episode_frame_number", info["episode"]["l"]))
                yield index, Episode(score, int(steps[index]), n_frames, seed + index, int(numbers[index]))
                steps[index] = 0
                numbers[index] += 1
