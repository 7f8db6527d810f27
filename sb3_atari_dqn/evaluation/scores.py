"""Published scores of 57 Atari games, and human-normalised scores.

The numbers are in ``atari_scores.csv``, beside this file:

- ``random`` and ``human``: ``atari_data.py`` of https://github.com/google-deepmind/dqn_zoo (Apache License 2.0). Means over
  games of at most 108,000 emulator frames that start with 1 to 30 no-ops, without sticky actions.
- ``dqn_nature``: Mnih et al. 2015, Extended Data Table 2 (https://www.nature.com/articles/nature14236), the best agent of a
  run of 200 million frames, protocol ``nature``. 49 games; the others are empty.
"""

import csv
import functools
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple


class ReferenceScores(NamedTuple):
    """
    What is published of a game.

    :param random: mean score of random play
    :param human: mean score of a professional tester
    :param dqn_nature: mean score of DQN in Nature; None for a game that it was not trained on
    """

    random: float
    human: float
    dqn_nature: float | None


@functools.cache
def reference_scores() -> Mapping[str, ReferenceScores]:
    """
    :return: published scores by game, as ALE names its ROMs: ``"space_invaders"``
    """
    table = resources.files("sb3_atari_dqn.evaluation").joinpath("atari_scores.csv")
    with table.open(encoding="utf-8") as lines:
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        return {
            row["game"]: ReferenceScores(
                float(row["random"]), float(row["human"]), float(row["dqn_nature"]) if row["dqn_nature"] else None
            )
            for row in rows
        }


def human_normalized_score(game: str, score: float) -> float:
    """
    Mnih et al. 2015: 0 is random play, 1 a human.

    :param game: as ALE names its ROM, ``"space_invaders"``
    :param score: in that game
    :return: (score - random) / (human - random)
    :raises ValueError: for a game without published scores
    """
    references = reference_scores()
    if game not in references:
        raise ValueError(f"there are no random and human scores of {game!r}, only of {', '.join(sorted(references))}")
    random, human, _ = references[game]
    return (score - random) / (human - random)
