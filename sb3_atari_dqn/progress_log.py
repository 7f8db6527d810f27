"""``progress.csv``: what Stable-Baselines3's logger prints while a model learns, as a file in the run's folder.

Columns are ``steps``, agent steps of all environments so far, and the logger's names, ``train/loss`` and so on; a name that
comes later gets a column behind the others. SB3's own ``CSVOutputFormat`` empties its file when it is opened, and its file
has no column that all rows fill in; this one goes on.
"""

import csv
import functools
import numbers
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, filter_excluded_keys

from sb3_atari_dqn.atomic_files import whole_lines, written_whole

#: the file's name in the run's folder
FILE = "progress.csv"

#: bytes in which a row has room
_TAIL = 20_000


class ProgressLog(KVWriter):
    """
    An output of the logger that appends to ``progress.csv``. Rows that were written after the checkpoint that training goes on
    from are taken out first, as they will be written again.

    :param folder: where the file is; made if it does not exist
    :param n_steps: agent steps that the model has done; rows behind them go
    :param n_rows: rows that there were at the checkpoint, of which several may be of one step; None if there is none
    :param tell: called with the number of rows whenever it changes
    """

    #: column of a first row: agent steps that the model had done when the run began
    BEGAN_AT = "time/began_at"

    def __init__(
        self, folder: Path, n_steps: int, n_rows: int | None = None, tell: Callable[[int], None] = lambda _: None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        rows = self.read(folder)
        self._columns = list(dict.fromkeys(["steps", *(column for row in rows for column in row)]))
        kept = [row for row in rows[:n_rows] if row["steps"] <= n_steps]
        self._write(kept)
        self._tell = tell
        if n_rows is None and not rows and n_steps > 0:  # the run begins with a model that has learned before
            kept.append({"steps": n_steps, self.BEGAN_AT: float(n_steps)})
            self._columns.append(self.BEGAN_AT)
            self._write(kept)
        self._n_rows = len(kept)
        tell(self._n_rows)

    def _write(self, rows: list[dict[str, float]]) -> None:
        """
        :param rows: all that the file is to hold, a row for each time the logger wrote
        """
        with written_whole(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """
        Append a row; text, figures and the like are left out.

        :param key_values: numbers by name
        :param key_excluded: outputs that do not want them, by name
        :param step: agent steps so far
        """
        shown = filter_excluded_keys(key_values, key_excluded, "csv")
        row: dict[str, Any] = {"steps": step} | {
            name: float(value) for name, value in sorted(shown.items()) if isinstance(value, numbers.Real)
        }
        new_columns = row.keys() - set(self._columns)
        if new_columns:
            self._columns += [name for name in row if name in new_columns]
            self._write(self.read(self.path.parent))
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)
        self._n_rows += 1
        self._tell(self._n_rows)

    def close(self) -> None:
        """Nothing is held open."""

    @staticmethod
    def read(folder: Path) -> list[dict[str, float]]:
        """
        :param folder: of a run
        :return: rows of its file with what is filled in, none if it is not there; a last row that was being written when the
            training was killed is left out
        :raises ValueError: if it is another kind of file
        """
        path = folder / FILE
        if not path.is_file():
            return []
        try:
            rows = csv.DictReader(whole_lines(path))
            return [
                {name: int(value) if name == "steps" else float(value) for name, value in row.items() if value}
                for row in rows
                if row["steps"]
            ]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{str(path)!r} was not written by a training of this package: {error!r}") from error


def last_steps(folder: Path) -> int:
    """
    :param folder: of a run
    :return: agent steps of the last row of its file, 0 if there is none; only the end of the file is read
    """
    try:
        with (folder / FILE).open("rb") as file:
            file.seek(max(file.seek(0, 2) - _TAIL, 0))
            lines = file.read().split(b"\n")[:-1]  # what is behind the last line's end is being written
        return int(lines[-1].partition(b",")[0])
    except (OSError, IndexError, ValueError):  # it is not there, or has no row yet
        return 0


class ProgressLogCallback(BaseCallback):
    """
    Adds a ``ProgressLog`` to the outputs of the logger when training begins, beside those that it has.

    :param folder: of the run
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.n_rows: int | None = None  # checkpoints have it

    def _on_training_start(self) -> None:
        outputs = [output for output in self.logger.output_formats if not isinstance(output, ProgressLog)]
        log = ProgressLog(Path(self.folder), self.model.num_timesteps, self.n_rows, functools.partial(setattr, self, "n_rows"))
        self.logger.output_formats = [*outputs, log]

    def _on_step(self) -> bool:
        return True
