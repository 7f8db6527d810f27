"""An evaluation as a file: who played, by which rules, and every game."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sb3_atari_dqn.atomic_files import written_whole
from sb3_atari_dqn.evaluation.play import Episode
from sb3_atari_dqn.evaluation.protocols import Protocol
from sb3_atari_dqn.evaluation.scores import human_normalized_score, reference_scores
from sb3_atari_dqn.evaluation.statistics import Summary, summarize
from sb3_atari_dqn.versions import versions

#: protocol of an evaluation without one: the rules of the model's own training
AS_TRAINED = "as trained"

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """
    :param protocol: name of the protocol
    :param rules: its numbers, with as many games as were asked for; empty if there was none
    :param env_id: the game
    :param label: what runs have in common that differ in game and seed alone
    :param model: the file, or "random"
    :param algo: the algorithm, as RL Zoo names it, or "random"
    :param training_seed: of the training; None if that is not known
    :param training_steps: agent steps of the training; None for random play
    :param seed: of the evaluation
    :param episodes: the games
    """

    protocol: str
    rules: dict[str, Any]
    env_id: str
    label: str
    model: str
    algo: str
    training_seed: int | None
    training_steps: int | None
    seed: int
    episodes: tuple[Episode, ...]

    @property
    def scores(self) -> np.ndarray:
        """Scores of the games, float (n_games,)."""
        return np.array([episode.score for episode in self.episodes])

    def summary(self) -> Summary:
        """
        :return: statistics of the scores
        """
        return summarize(self.scores)

    def save(self, path: Path, game: str | None) -> None:
        """
        :param path: JSON file to write
        :param game: as ALE names its ROM; None if it is no Atari game
        """
        summary = self.summary()
        figures: dict[str, Any] = {**summary._asdict(), "mean": float(summary.mean.value)}
        figures["mean_95_percent"] = None if np.isnan(summary.mean.low) else [float(end) for end in summary.mean[1:]]
        if game in reference_scores():
            assert game is not None
            figures["human_normalized"] = human_normalized_score(game, figures["mean"])
        data = {
            "format": FORMAT,
            **asdict(self),
            "game": game,
            "summary": figures,
            "episodes": [episode._asdict() for episode in self.episodes],
            "versions": versions(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """
        :param path: JSON file that ``save`` wrote
        :return: the evaluation
        :raises ValueError: if it is not such a file
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"{str(path)!r} has format {data['format']!r}, and this version reads format {FORMAT}")
            episodes = tuple(Episode(**episode) for episode in data["episodes"])
            names = cls.__dataclass_fields__.keys() - {"episodes"}
            return cls(**{name: data[name] for name in names}, episodes=episodes)
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{str(path)!r} was not written by `evaluate --json`: {error!r}") from error


def rules_of(protocol: Protocol) -> dict[str, Any]:
    """
    :param protocol: a protocol
    :return: its numbers, as they come back from a file
    """
    return json.loads(json.dumps(protocol._asdict()))


def check_same_protocol(evaluations: Sequence[Evaluation]) -> None:
    """
    :param evaluations: what somebody wants to compare
    :raises ValueError: if they were not all played by the same rules
    """
    first = evaluations[0]
    for other in evaluations:
        if other.protocol == AS_TRAINED:
            raise ValueError(
                f"{other.model!r} was played as it was trained, by no protocol that others share: evaluate it with --protocol"
            )
        if (other.protocol, other.rules) != (first.protocol, first.rules):
            raise ValueError(
                f"protocols are never mixed: {first.model!r} was played by {first.protocol!r} {first.rules}, "
                f"{other.model!r} by {other.protocol!r} {other.rules}"
            )
