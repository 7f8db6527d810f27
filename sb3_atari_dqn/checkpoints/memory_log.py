"""A replay memory in files that never change: each holds what was stored between two checkpoints, or a part of it.

A *segment* is a safetensors file with everything of certain numbers, see ``replay.record.Store``. It is written once, and goes
when nothing in it is needed by any checkpoint. So a checkpoint of a large memory costs no more than what is new in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_atari_dqn.checkpoints.files import pack_arrays, read_file, unpack_arrays, write_file
from sb3_atari_dqn.replay.record import Store

#: things of one kind in a segment: what is read, packed and written at a time
SEGMENT_LENGTH = 8_192


class Segment(NamedTuple):
    """
    A file, and what is in it.

    :param name: of the file
    :param size: bytes
    :param sha256: checksum
    :param after: for each store, the last number that is not in it yet
    :param up_to: for each store, the last number in it
    """

    name: str
    size: int
    sha256: str
    after: dict[str, int]
    up_to: dict[str, int]


class MemoryLog:
    """
    Writes a memory's stores to segments.

    :param folder: where they are
    :param stores: of the memory, by name
    :param segments: those that hold what the stores hold already, oldest first
    """

    def __init__(self, folder: Path, stores: Mapping[str, Store], segments: Sequence[Segment] = ()) -> None:
        self.folder = folder
        self._stores = stores
        self._segments = list(segments)

    @property
    def _written(self) -> dict[str, int]:
        return self._segments[-1].up_to if self._segments else dict.fromkeys(self._stores, 0)

    def n_new(self) -> int:
        """
        :return: things that are not in a file yet, of the store that has most of them
        """
        written = self._written
        return max(store.n_stored - written[name] for name, store in self._stores.items())

    def write(self, most: int | None = None) -> None:
        """
        Write what is not in a file yet.

        :param most: files to write at most
        :raises OSError: if that is not possible; what was written stays
        """
        start, n_new = self._written, self.n_new()
        n_parts = -(-n_new // SEGMENT_LENGTH)
        ends = {name: store.n_stored for name, store in self._stores.items()}
        for part in range(1, n_parts + 1)[:most]:
            up_to = {name: start[name] + (ends[name] - start[name]) * part // n_parts for name in self._stores}
            self._write_segment(up_to)

    def _write_segment(self, up_to: dict[str, int]) -> None:
        after = self._written
        arrays = {
            f"{store_name}/{name}": array
            for store_name, store in self._stores.items()
            for name, array in store.read_stored(after[store_name] + 1, up_to[store_name]).items()
        }
        name = f"memory-{self._next_index():06}.safetensors"
        written = write_file(self.folder / name, pack_arrays(arrays))
        self._segments.append(Segment(name, written["size"], written["sha256"], after, up_to))

    def _next_index(self) -> int:
        """
        :return: number for the name of a file that is not there
        """
        names = (path.name.split("-")[1].split(".")[0] for path in self.folder.glob("memory-*.safetensors"))
        return max(map(int, names), default=0) + 1

    def needed(self) -> list[Segment]:
        """
        Forget segments in which nothing is needed any more.

        :return: the others, oldest first
        """
        numbers = {name: store.numbers() for name, store in self._stores.items()}
        self._segments = [
            segment
            for segment in self._segments[:-1]
            if any(_count(numbers[name], segment.after[name], segment.up_to[name]) for name in self._stores)
        ] + self._segments[-1:]  # the last one says how far they go
        return list(self._segments)


def _count(numbers: np.ndarray, after: int, up_to: int) -> int:
    """
    :param numbers: in rising order
    :param after: a number
    :param up_to: a number
    :return: how many are above the first and not above the second
    """
    below, until = np.searchsorted(numbers, [after, up_to], side="right")
    return int(until - below)


def fill(folder: Path, stores: Mapping[str, Store], segments: Sequence[Segment]) -> None:
    """
    Fill a memory, whose own state has been set, from segments.

    :param folder: where they are
    :param stores: of the memory, by name
    :param segments: all that are needed
    :raises BrokenFileError: if a file is not what was written, naming it
    :raises ValueError: if something is missing
    """
    for segment in segments:
        content = read_file(folder / segment.name, {"size": segment.size, "sha256": segment.sha256})
        arrays = unpack_arrays(content)
        for store_name, store in stores.items():
            prefix = f"{store_name}/"
            store.write_stored({name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)})
    for store in stores.values():
        store.check_complete()


def segments_to_json(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """
    :param segments: any
    :return: what JSON can say
    """
    return [segment._asdict() for segment in segments]


def segments_from_json(documents: Sequence[Mapping[str, Any]]) -> list[Segment]:
    """
    :param documents: what ``segments_to_json`` gave
    :return: the segments
    """
    return [Segment(**document) for document in documents]
