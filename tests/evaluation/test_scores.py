"""Published scores, and human-normalised ones worked out by hand."""

import gymnasium as gym
import pytest

from sb3_atari_dqn.evaluation.scores import human_normalized_score, reference_scores


def test_57_games_that_ale_has() -> None:
    roms = {spec.kwargs["game"] for spec in gym.registry.values() if str(spec.entry_point).endswith(":AtariEnv")}
    assert len(reference_scores()) == 57
    assert reference_scores().keys() <= roms


def test_columns_are_not_mixed_up() -> None:
    assert reference_scores()["breakout"] == (1.7, 30.5, 401.2)
    assert reference_scores()["pong"] == (-20.7, 14.6, 18.9)
    assert reference_scores()["space_invaders"] == (148.0, 1668.7, 1976)
    assert reference_scores()["solaris"] == (1236.3, 12326.7, None)
    assert sum(scores.dqn_nature is not None for scores in reference_scores().values()) == 49
    assert all(scores.random < scores.human for scores in reference_scores().values())


def test_normalised_by_hand() -> None:
    assert human_normalized_score("breakout", 401.2) == pytest.approx(13.871528)  # 399.5 / 28.8
    assert human_normalized_score("pong", 0) == pytest.approx(0.586402)  # 20.7 / 35.3
    for game, scores in reference_scores().items():
        assert human_normalized_score(game, scores.random) == 0
        assert human_normalized_score(game, scores.human) == 1


def test_a_game_without_scores() -> None:
    with pytest.raises(ValueError, match=r"no random and human scores of 'tetris', only of alien, .* zaxxon"):
        human_normalized_score("tetris", 1)
