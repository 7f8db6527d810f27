"""The two logs of tutorial 16 as CSV files: each game's score, and the Q-values at each sweep."""

import csv
from pathlib import Path
from typing import Any

from sb3_atari_dqn.atomic_files import whole_lines, written_whole

#: name of each log and its columns; the first two count games and states since the model was new
LOGS = {
    "rewards": ("episodes", "states", "reward", "mean_30"),
    "q_values": ("episodes", "states", "min", "mean", "max", "std"),
}


class SweepLogs:
    """
    Appends to the logs in a folder. Rows behind ``n_states`` are taken out first: they were written after the checkpoint
    that training goes on from, and will be written again.

    :param folder: where ``rewards.csv`` and ``q_values.csv`` are; made if it does not exist
    :param n_states: states that the model has seen
    """

    def __init__(self, folder: Path, n_states: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, columns in LOGS.items():
            kept = [row for row in self.read(folder, name) if row["states"] <= n_states]
            with written_whole(folder / f"{name}.csv") as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(kept)

    @staticmethod
    def exist(folder: Path) -> bool:
        """
        :param folder: where they would be
        :return: whether one of the logs is there
        """
        return any((folder / f"{name}.csv").exists() for name in LOGS)

    @classmethod
    def sweeps_behind(cls, folder: Path, n_states: int) -> int:
        """
        :param folder: where the logs are
        :param n_states: states that a model has seen
        :return: sweeps that were logged after these
        """
        return sum(row["states"] > n_states for row in cls.read(folder, "q_values"))

    @staticmethod
    def read(folder: Path, name: str) -> list[dict[str, float]]:
        """
        :param folder: where the logs are
        :param name: a key of ``LOGS``
        :return: its rows, none if it is not there; counters are whole numbers
        :raises ValueError: if it is another kind of file
        """
        path = folder / f"{name}.csv"
        if not path.is_file():
            return []
        try:
            return [
                {column: int(row[column]) if column in ("episodes", "states") else float(row[column]) for column in LOGS[name]}
                for row in csv.DictReader(whole_lines(path))
            ]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{str(path)!r} was not written by a training of dqn_sweep: {error!r}") from error

    def append(self, name: str, *values: Any) -> None:
        """
        :param name: a key of ``LOGS``
        :param values: of its columns
        """
        with (self.folder / f"{name}.csv").open("a", newline="") as file:
            csv.writer(file).writerow(values)
