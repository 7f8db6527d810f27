"""Whole games with real models and at random."""

from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from sb3_contrib import QRDQN
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_atari_dqn import CustomDQN, SweepDQN
from sb3_atari_dqn.evaluation.environments import UNSEEN, Preprocessing, make_env
from sb3_atari_dqn.evaluation.play import (
    EpsilonGreedyPolicy,
    make_policy,
    play_episodes,
    play_frames,
    play_protocol,
)
from sb3_atari_dqn.evaluation.protocols import PROTOCOLS
from tests.conftest import MakeAtari

BREAKOUT = "BreakoutNoFrameskip-v4"
BRIEF = PROTOCOLS["nature"]._replace(max_frames=200)


def by_the_picture(observations: np.ndarray, _: np.ndarray) -> np.ndarray:
    """A policy that depends on what is seen and on nothing else."""
    return observations.reshape(len(observations), -1).sum(axis=1, dtype=np.int64) % 4


def test_games_played_together_are_those_played_alone() -> None:
    protocol = PROTOCOLS["nature"]._replace(max_frames=1_000)
    together = play_episodes(make_env(protocol, Preprocessing(), BREAKOUT, 3, False, 5), by_the_picture, 5, seed=5)
    assert [(episode.env_seed, episode.number) for episode in together] == [(5, 0), (6, 0), (6, 1), (7, 0), (7, 1)]
    for index, share in enumerate((1, 2, 2)):
        alone = play_episodes(
            make_env(protocol, Preprocessing(), BREAKOUT, 1, False, 5 + index), by_the_picture, share, 5 + index
        )
        assert alone == [episode for episode in together if episode.env_seed == 5 + index]


def test_same_seed_same_games() -> None:
    games = [play_protocol(PROTOCOLS["nature"].with_episodes(3), BREAKOUT, None, UNSEEN, seed) for seed in (1, 1, 2)]
    assert games[0] == games[1]
    assert games[0] != games[2]
    assert len(games[0]) == len({(game.env_seed, game.number) for game in games[0]}) == 3
    assert all(game.frames >= 6 * (game.steps - 1) for game in games[0]), "random play acts every sixth frame"


def test_frames_that_do_not_suffice_for_a_game() -> None:
    def play(n_frames: int) -> Any:
        return play_frames(
            make_env(PROTOCOLS["dqn-zoo"], UNSEEN, BREAKOUT, 1, False, 0), make_policy(None, 1, 4, 0), n_frames, seed=0
        )

    games = play(5_000)
    ends = list(accumulate(game.frames for game in games))
    assert len(games) >= 3
    assert ends[-1] <= 5_000
    assert play(ends[1]) == games[:2]
    assert play(ends[1] - 1) == games[:1]
    protocol = PROTOCOLS["dqn-zoo"]._replace(n_frames=5_000)
    assert {game.env_seed for game in play_protocol(protocol, BREAKOUT, None, UNSEEN, seed=3)} == {3}
    assert len(play_protocol(protocol.with_episodes(2), BREAKOUT, None, UNSEEN, seed=3)) == 2


def test_random_play_has_the_published_score() -> None:
    """Within four standard errors of the mean of 16 games; the table has -20.7."""
    scores = np.array(
        [game.score for game in play_protocol(PROTOCOLS["nature"].with_episodes(16), "PongNoFrameskip-v4", None, UNSEEN)]
    )
    assert abs(scores.mean() - -20.7) < 4 * scores.std() / len(scores) ** 0.5
    assert scores.std() > 0.3


def test_epsilon_is_drawn_for_each_environment() -> None:
    policy = EpsilonGreedyPolicy(lambda _, starts: np.zeros(len(starts), int), 0.3, 4, np.random.default_rng(0))
    actions = np.stack([policy(None, np.zeros(2, dtype=bool)) for _ in range(50_000)])
    other = actions != 0
    expected = 0.3 * 3 / 4
    assert abs(other.mean() - expected) < 4 * (expected * (1 - expected) / other.size) ** 0.5
    assert abs(other.all(axis=1).mean() - expected**2) < 4 * (expected**2 / len(other)) ** 0.5
    assert np.bincount(actions[other])[1:].min() > 0.9 * other.sum() / 3
    never = EpsilonGreedyPolicy(lambda _, starts: np.ones(len(starts), int), 0.0, 4, np.random.default_rng(0))
    assert all(never(None, np.zeros(8, dtype=bool)).all() for _ in range(1_000))


@pytest.fixture(scope="module")
def observations() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 4, 84, 84), dtype=np.uint8)


def model_of(algorithm: type[BaseAlgorithm], make_atari: MakeAtari, **kwargs: Any) -> BaseAlgorithm:
    memory: dict[str, Any] = {"n_steps": 8} if algorithm is PPO else {"buffer_size": 8}
    if algorithm is SweepDQN:
        memory = {"buffer_size": 300, "batch_size": 8, "policy_kwargs": {"features_extractor_class": "NipsCNN"}}
    return algorithm("CnnPolicy", make_atari(BREAKOUT), seed=0, **memory, **kwargs)


@pytest.mark.parametrize("algorithm", [CustomDQN, SweepDQN, QRDQN])
def test_models_with_q_values_play_their_best_actions(
    algorithm: type[BaseAlgorithm], make_atari: MakeAtari, observations: np.ndarray
) -> None:
    own_epsilon = {} if algorithm is QRDQN else {"eval_epsilon": 1.0}  # which a protocol replaces
    model = model_of(algorithm, make_atari, **own_epsilon)
    starts = np.zeros(16, dtype=bool)
    greedy, _ = model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(make_policy(model, 0.0, 4, 0)(observations, starts), greedy)
    games = play_protocol(BRIEF.with_episodes(2), BREAKOUT, model, Preprocessing())
    assert games == play_protocol(BRIEF.with_episodes(2), BREAKOUT, model, Preprocessing())
    assert all(0 < game.steps <= 50 < game.frames <= 203 for game in games)


def test_models_with_a_distribution_draw_from_it(make_atari: MakeAtari, observations: np.ndarray) -> None:
    model = model_of(PPO, make_atari)
    policy, starts = make_policy(model, 0.0, 4, 0), np.zeros(16, dtype=bool)
    assert any((policy(observations, starts) != policy(observations, starts)).any() for _ in range(5))
    games = [play_protocol(BRIEF.with_episodes(2), BREAKOUT, model, Preprocessing()) for _ in range(2)]
    assert games[0] == games[1]


def test_a_model_that_does_not_fit(make_atari: MakeAtari) -> None:
    model = model_of(CustomDQN, make_atari)
    with pytest.raises(
        ValueError, match=r"does not fit 'PongNoFrameskip-v4': its actions are Discrete\(4\), .* Discrete\(6\)"
    ):
        play_protocol(BRIEF, "PongNoFrameskip-v4", model, Preprocessing())
    with pytest.raises(ValueError, match=r"its observations are Box\(0, 255, \(4, 84, 84\).*\(2, 105, 80\)"):
        play_protocol(BRIEF, BREAKOUT, model, Preprocessing((105, 80), 1, {}))


def test_a_model_has_the_actions_that_it_was_trained_with(make_atari: MakeAtari) -> None:
    machado = PROTOCOLS["machado"]._replace(max_frames=100)
    few = model_of(CustomDQN, make_atari)
    assert play_protocol(machado.with_episodes(1), BREAKOUT, few, Preprocessing())[0].frames == 100
    env = make_env(machado, Preprocessing(), BREAKOUT, 1, True, 0)
    all_actions = CustomDQN("CnnPolicy", env, buffer_size=8)
    assert play_protocol(machado.with_episodes(1), BREAKOUT, all_actions, Preprocessing())[0].frames == 100
