"""Frames, each stored once: plain or compressed, in main memory.

A store hands out an id for each frame and takes ids back when nobody needs the frame any more. Id 0 is a black frame that
is always there: what stacks hold before an episode's first frame. Memory grows with what is stored, in small blocks.

Compressed, ``FRAMES_PER_CHUNK`` consecutive frames of one environment are packed together. The first is kept whole, each
other one as its XOR with the first, in which little is left but what moves.

For files, what is stored for good has a number: the first is 1, and none is given twice, though ids are. A file that holds
everything with numbers from one to another never changes; see ``read_stored``.
"""

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import cramjam
import numpy as np
import psutil

FRAMES_PER_BLOCK = 1024
FRAMES_PER_CHUNK = 8

#: how much smaller compressed frames are at least, of the games that were measured
_LEAST_COMPRESSION = 15

BLACK = 0


class Frames(ABC):
    """
    A store of frames.

    :param n_pixels: bytes of a frame
    """

    def __init__(self, n_pixels: int) -> None:
        self.n_pixels = n_pixels

    @abstractmethod
    def add(self, frames: np.ndarray, env_indices: list[int]) -> list[int]:
        """
        :param frames: uint8 (n, n_pixels), copied
        :param env_indices: environment that each comes from, counted from 0; frames of one environment come in their order
        :return: their ids
        """

    @abstractmethod
    def free(self, ids: list[int]) -> None:
        """
        :param ids: frames that are not needed any more, other than the black one
        """

    @abstractmethod
    def read(self, ids: np.ndarray) -> Any:
        """
        :param ids: frames, integers (n,), in any order and more than once
        :return: uint8 (n, n_pixels), a copy
        """

    @property
    @abstractmethod
    def n_stored(self) -> int:
        """
        :return: the last number that was given
        """

    @abstractmethod
    def numbers(self) -> np.ndarray:
        """
        :return: numbers of what is needed still, int64, in rising order
        """

    @abstractmethod
    def read_stored(self, first: int, last: int) -> dict[str, np.ndarray]:
        """
        :param first: number of the first that is asked for
        :param last: number of the last one
        :return: those of them that are needed still, as arrays for a file
        """

    @abstractmethod
    def write_stored(self, stored: dict[str, np.ndarray]) -> None:
        """
        :param stored: what ``read_stored`` gave; after ``set_state``, which says what of it is needed
        """

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """
        :return: all the rest: what is where, what is free, and what has no number yet
        """

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what ``get_state`` gave, of a store of the same kind
        """

    @abstractmethod
    def check_complete(self) -> None:
        """
        :raises ValueError: if something that is needed was not written after ``set_state``
        """


class _NumberedIds:
    """Free ids, the lowest first, and a number for each that is taken."""

    def __init__(self) -> None:
        self.numbers = np.zeros(0, dtype=np.int64)  # of each id; 0: free, or the black frame
        self.free_ids: list[int] = []
        self.n_stored = 0

    def grow(self, n_ids: int) -> None:
        """
        :param n_ids: how many more there are
        """
        start = len(self.numbers)
        self.numbers = np.concatenate([self.numbers, np.zeros(n_ids, dtype=np.int64)])
        self.free_ids[:0] = range(start + n_ids - 1, start - 1, -1)  # the lowest is taken first

    def take(self, n_ids: int) -> list[int]:
        """
        :param n_ids: how many, no more than are free
        :return: ids, which have their numbers now
        """
        ids = [self.free_ids.pop() for _ in range(n_ids)]
        self.numbers[ids] = range(self.n_stored + 1, self.n_stored + 1 + n_ids)
        self.n_stored += n_ids
        return ids

    def give_back(self, ids: list[int]) -> None:
        """
        :param ids: ids that are free again
        """
        self.numbers[ids] = 0
        self.free_ids.extend(ids)

    def between(self, first: int, last: int) -> np.ndarray:
        """
        :param first: a number
        :param last: a number
        :return: ids with numbers from ``first`` to ``last``, in their order
        """
        ids = np.flatnonzero((self.numbers >= first) & (self.numbers <= last))
        return ids[np.argsort(self.numbers[ids])]

    def get_state(self) -> dict[str, Any]:
        """
        :return: numbers and free ids
        """
        return {
            "numbers": self.numbers.copy(),
            "free_ids": np.array(self.free_ids, dtype=np.int64),
            "n_stored": self.n_stored,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what ``get_state`` gave
        """
        self.numbers = state["numbers"].copy()
        self.free_ids = state["free_ids"].tolist()
        self.n_stored = state["n_stored"]


class UnpackedFrames(Frames):
    """
    Frames that lie as they are, wherever that is. Files of them are packed.

    :param n_pixels: bytes of a frame
    """

    def __init__(self, n_pixels: int) -> None:
        super().__init__(n_pixels)
        self._ids = _NumberedIds()
        self._missing: set[int] = set()  # numbers that were not written yet, after set_state

    @abstractmethod
    def _make_room(self, n_ids: int) -> None:
        """
        :param n_ids: how many ids there are to be, free or not
        """

    @abstractmethod
    def _write(self, ids: np.ndarray, frames: np.ndarray) -> None:
        """
        :param ids: where, integers (n,)
        :param frames: uint8 (n, n_pixels)
        """

    def _read_to_main_memory(self, ids: np.ndarray) -> np.ndarray:
        """
        :param ids: frames, integers (n,)
        :return: uint8 (n, n_pixels)
        """
        frames: np.ndarray = self.read(ids)
        return frames

    def free(self, ids: list[int]) -> None:
        self._ids.give_back(ids)

    @property
    def n_stored(self) -> int:
        return self._ids.n_stored

    def numbers(self) -> np.ndarray:
        numbers = self._ids.numbers
        return np.sort(numbers[numbers > 1])  # the black frame, which is always there, is the first

    def read_stored(self, first: int, last: int) -> dict[str, np.ndarray]:
        ids = self._ids.between(max(first, 2), last)
        frames = self._read_to_main_memory(ids)
        packed = CODECS["zstd"].compress(frames.reshape(-1)) if len(ids) else b""
        return {"numbers": self._ids.numbers[ids], "frames": np.frombuffer(packed, dtype=np.uint8)}

    def write_stored(self, stored: dict[str, np.ndarray]) -> None:
        numbers = stored["numbers"]
        if not len(numbers):
            return
        frames = np.empty((len(numbers), self.n_pixels), dtype=np.uint8)
        CODECS["zstd"].decompress_into(stored["frames"].tobytes(), frames.reshape(-1))
        id_of = {int(self._ids.numbers[frame_id]): int(frame_id) for frame_id in self._ids.between(numbers[0], numbers[-1])}
        needed = [index for index, number in enumerate(numbers.tolist()) if number in id_of]
        if needed:
            self._write(np.array([id_of[int(numbers[index])] for index in needed]), frames[needed])
            self._missing.difference_update(numbers[needed].tolist())

    def get_state(self) -> dict[str, Any]:
        return self._ids.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._make_room(len(state["numbers"]))
        self._ids.set_state(state)
        self._missing = set(self.numbers().tolist())

    def check_complete(self) -> None:
        if self._missing:
            raise ValueError(f"{len(self._missing)} frames of the replay memory are missing")


class PlainFrames(UnpackedFrames):
    """
    Frames as they are, in blocks that are allocated one by one.

    :param n_pixels: bytes of a frame
    """

    def __init__(self, n_pixels: int) -> None:
        super().__init__(n_pixels)
        self._blocks: list[np.ndarray] = []
        black = self.add(np.zeros((1, n_pixels), dtype=np.uint8), [0])
        assert black == [BLACK]

    def _grow(self) -> None:
        self._blocks.append(np.empty((FRAMES_PER_BLOCK, self.n_pixels), dtype=np.uint8))
        self._ids.grow(FRAMES_PER_BLOCK)

    def _make_room(self, n_ids: int) -> None:
        while len(self._ids.numbers) < n_ids:
            self._grow()

    def add(self, frames: np.ndarray, env_indices: list[int]) -> list[int]:
        while len(self._ids.free_ids) < len(frames):
            self._grow()
        ids = self._ids.take(len(env_indices))
        for frame_id, frame in zip(ids, frames, strict=True):
            self._blocks[frame_id // FRAMES_PER_BLOCK][frame_id % FRAMES_PER_BLOCK] = frame
        return ids

    def _write(self, ids: np.ndarray, frames: np.ndarray) -> None:
        for frame_id, frame in zip(ids.tolist(), frames, strict=True):
            self._blocks[frame_id // FRAMES_PER_BLOCK][frame_id % FRAMES_PER_BLOCK] = frame

    def read(self, ids: np.ndarray) -> np.ndarray:
        frames = np.empty((len(ids), self.n_pixels), dtype=np.uint8)
        blocks = self._blocks
        for index, frame_id in enumerate(ids.tolist()):
            frames[index] = blocks[frame_id // FRAMES_PER_BLOCK][frame_id % FRAMES_PER_BLOCK]
        return frames


class Codec(NamedTuple):
    """
    How a chunk of frames is packed.

    :param compress: bytes of a chunk to fewer bytes
    :param decompress_into: those, and an array of the chunk's size to fill
    """

    compress: Callable[[Any], bytes]
    decompress_into: Callable[[bytes, Any], object]


CODECS = {
    "lz4": Codec(
        lambda chunk: bytes(cramjam.lz4.compress_block(chunk, store_size=False)),
        lambda packed, chunk: cramjam.lz4.decompress_block_into(packed, chunk, output_len=chunk.nbytes),
    ),
    "zstd": Codec(lambda chunk: bytes(cramjam.zstd.compress(chunk, 1)), cramjam.zstd.decompress_into),
}


class CompressedFrames(Frames):
    """
    Frames packed in chunks of consecutive ones. The newest of each environment, not a chunk yet, are kept as they are.

    A frame's id is its chunk times ``FRAMES_PER_CHUNK`` plus its place there. A chunk goes when none of its frames is
    needed.

    :param n_pixels: bytes of a frame
    :param n_envs: number of environments
    :param compression: a key of ``CODECS``
    """

    def __init__(self, n_pixels: int, n_envs: int, compression: str) -> None:
        super().__init__(n_pixels)
        self._compression = compression
        black = np.zeros((FRAMES_PER_CHUNK, n_pixels), dtype=np.uint8)
        self._packed: list[bytes | None] = [CODECS[compression].compress(black)]  # of each chunk; None: still open
        self._numbers = [0]  # of each chunk; 0: the black one, still open, or free
        self._n_closed = 0
        self._n_needed = [1]  # frames of each chunk that are needed, with those still to come
        self._free_chunks: list[int] = []
        self._open = np.zeros((n_envs, FRAMES_PER_CHUNK, n_pixels), dtype=np.uint8)
        self._open_chunk = [self._new_chunk() for _ in range(n_envs)]
        self._open_length = [0] * n_envs
        self._unpacked = np.empty(
            (0, FRAMES_PER_CHUNK, n_pixels), dtype=np.uint8
        )  # kept: new memory costs more than unpacking

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_unpacked": self._unpacked[:0].copy()}

    def _new_chunk(self) -> int:
        if not self._free_chunks:
            self._free_chunks.append(len(self._packed))
            self._packed.append(None)
            self._numbers.append(0)
            self._n_needed.append(0)
        chunk = self._free_chunks.pop()
        self._packed[chunk] = None
        self._n_needed[chunk] = FRAMES_PER_CHUNK
        return chunk

    def add(self, frames: np.ndarray, env_indices: list[int]) -> list[int]:
        ids = []
        for frame, env_index in zip(frames, env_indices, strict=True):
            place = self._open_length[env_index]
            ids.append(self._open_chunk[env_index] * FRAMES_PER_CHUNK + place)
            self._open[env_index, place] = frame
            self._open_length[env_index] = place + 1
            if place + 1 == FRAMES_PER_CHUNK:
                self._close(env_index)
        return ids

    def _close(self, env_index: int) -> None:
        frames = self._open[env_index]
        frames[1:] ^= frames[0]
        chunk = self._open_chunk[env_index]
        self._packed[chunk] = CODECS[self._compression].compress(frames.reshape(-1))
        self._n_closed += 1
        self._numbers[chunk] = self._n_closed
        self._open_chunk[env_index] = self._new_chunk()
        self._open_length[env_index] = 0

    def free(self, ids: list[int]) -> None:
        for frame_id in ids:
            chunk = frame_id // FRAMES_PER_CHUNK
            self._n_needed[chunk] -= 1
            if self._n_needed[chunk] == 0:
                self._packed[chunk] = None
                self._numbers[chunk] = 0
                self._free_chunks.append(chunk)

    def read(self, ids: np.ndarray) -> np.ndarray:
        decompress_into = CODECS[self._compression].decompress_into
        chunks, which = np.unique(ids // FRAMES_PER_CHUNK, return_inverse=True)
        if len(self._unpacked) < len(chunks):
            self._unpacked = np.empty((len(chunks), FRAMES_PER_CHUNK, self.n_pixels), dtype=np.uint8)
        unpacked = self._unpacked
        for index, chunk in enumerate(chunks.tolist()):
            packed = self._packed[chunk]
            if packed is None:
                unpacked[index] = self._open[self._open_chunk.index(chunk)]
                unpacked[index, 1:] ^= unpacked[index, 0]
            else:
                decompress_into(packed, unpacked[index].reshape(-1))
        places = ids % FRAMES_PER_CHUNK
        rows = unpacked.reshape(-1, self.n_pixels)
        frames = rows.take(which * FRAMES_PER_CHUNK + places, axis=0)
        firsts = rows.take(which * FRAMES_PER_CHUNK, axis=0)
        firsts[places == 0] = 0
        frames ^= firsts
        return frames

    @property
    def n_stored(self) -> int:
        return self._n_closed

    def numbers(self) -> np.ndarray:
        numbers = np.array(self._numbers)
        return np.sort(numbers[numbers > 0])

    def read_stored(self, first: int, last: int) -> dict[str, np.ndarray]:
        numbers = np.array(self._numbers)
        chunks = np.flatnonzero((numbers >= max(first, 1)) & (numbers <= last))
        packed = [self._packed[chunk] or b"" for chunk in chunks.tolist()]
        return {
            "numbers": numbers[chunks],
            "chunks": chunks,
            "sizes": np.array([len(chunk) for chunk in packed], dtype=np.int64),
            "frames": np.frombuffer(b"".join(packed), dtype=np.uint8),
        }

    def write_stored(self, stored: dict[str, np.ndarray]) -> None:
        frames, start = stored["frames"], 0
        for number, chunk, size in zip(*(stored[name].tolist() for name in ("numbers", "chunks", "sizes")), strict=True):
            if chunk < len(self._numbers) and self._numbers[chunk] == number:
                self._packed[chunk] = frames[start : start + size].tobytes()
            start += size

    def get_state(self) -> dict[str, Any]:
        return {
            "numbers": np.array(self._numbers),
            "n_closed": self._n_closed,
            "n_needed": np.array(self._n_needed, dtype=np.uint8),
            "free_chunks": np.array(self._free_chunks, dtype=np.int64),
            "open": self._open.copy(),
            "open_chunk": list(self._open_chunk),
            "open_length": list(self._open_length),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        black = self._packed[0]
        self._numbers = state["numbers"].tolist()
        self._n_closed = state["n_closed"]
        self._n_needed = state["n_needed"].tolist()
        self._free_chunks = state["free_chunks"].tolist()
        self._open[:] = state["open"]
        self._open_chunk = list(state["open_chunk"])
        self._open_length = list(state["open_length"])
        self._packed = [black] + [None] * (len(self._numbers) - 1)

    def check_complete(self) -> None:
        n_missing = sum(number > 0 and packed is None for number, packed in zip(self._numbers, self._packed, strict=True))
        if n_missing:
            raise ValueError(f"{n_missing} chunks of frames of the replay memory are missing")


COMPRESSIONS = (*CODECS, None)


def make_frames(n_pixels: int, n_envs: int, compression: str | None) -> Frames:
    """
    :param n_pixels: bytes of a frame
    :param n_envs: number of environments
    :param compression: one of ``COMPRESSIONS``
    :return: an empty store
    """
    if compression is None:
        return PlainFrames(n_pixels)
    return CompressedFrames(n_pixels, n_envs, compression)


def as_pixels(observations: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """
    :param observations: of all environments
    :param shape: that they must have
    :param name: of the argument
    :return: the same values, uint8, contiguous
    :raises ValueError: for another shape, or values that uint8 does not have
    """
    observations = np.asarray(observations)
    if shape[0] == 1 and observations.shape == shape[1:]:  # as SB3's ``extend`` gives those of one environment
        observations = observations[None]
    if observations.shape != shape:
        raise ValueError(f"{name} has shape {observations.shape}, and this replay buffer stores {shape}")
    if observations.dtype != np.uint8:
        with np.errstate(invalid="ignore"):  # of numbers that are none
            pixels = observations.astype(np.uint8)
        if not np.array_equal(pixels, observations):
            raise ValueError(
                f"{name} has dtype {observations.dtype} and values that the observation space's dtype uint8 does not have"
            )
        observations = pixels
    return np.ascontiguousarray(observations)


def bytes_of_frame(n_pixels: int, compression: str | None) -> int:
    """
    :param n_pixels: bytes of a frame
    :param compression: one of ``COMPRESSIONS``
    :return: bytes that a store takes for one frame of play, about
    """
    return n_pixels if compression is None else n_pixels // _LEAST_COMPRESSION


def available_memory(limits: pathlib.Path = pathlib.Path("/sys/fs/cgroup")) -> int:
    """
    :param limits: where the system says how much a container can have
    :return: bytes of main memory that are free, within the limit of a container if there is one; the cache of files is free
    """
    available = psutil.virtual_memory().available
    try:
        limit, used = (int((limits / name).read_text()) for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (limits / "memory.stat").read_text().splitlines())
        return min(available, limit - used + int(statistics["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no limit, or "max"
        return available
