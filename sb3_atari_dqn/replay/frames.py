"""Frames, each stored once: plain or compressed, in main memory.

A store hands out an id for each frame and takes ids back when nobody needs the frame any more. Id 0 is a black frame that
is always there: what stacks hold before an episode's first frame. Memory grows with what is stored, in small blocks.

Compressed, ``FRAMES_PER_CHUNK`` consecutive frames of one environment are packed together. The first is kept whole, each
other one as its XOR with the first, in which little is left but what moves.
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


class PlainFrames(Frames):
    """
    Frames as they are, in blocks that are allocated one by one.

    :param n_pixels: bytes of a frame
    """

    def __init__(self, n_pixels: int) -> None:
        super().__init__(n_pixels)
        self._blocks: list[np.ndarray] = []
        self._free_ids: list[int] = []
        black = self.add(np.zeros((1, n_pixels), dtype=np.uint8), [0])
        assert black == [BLACK]

    def _grow(self, n_frames: int) -> None:
        while len(self._free_ids) < n_frames:
            start = len(self._blocks) * FRAMES_PER_BLOCK
            self._blocks.append(np.empty((FRAMES_PER_BLOCK, self.n_pixels), dtype=np.uint8))
            self._free_ids[:0] = range(start + FRAMES_PER_BLOCK - 1, start - 1, -1)  # the lowest is taken first

    def add(self, frames: np.ndarray, env_indices: list[int]) -> list[int]:
        if len(self._free_ids) < len(frames):
            self._grow(len(frames))
        ids = [self._free_ids.pop() for _ in env_indices]
        for frame_id, frame in zip(ids, frames, strict=True):
            self._blocks[frame_id // FRAMES_PER_BLOCK][frame_id % FRAMES_PER_BLOCK] = frame
        return ids

    def free(self, ids: list[int]) -> None:
        self._free_ids.extend(ids)

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
        self._n_needed = [1]  # frames of each chunk that are needed, with those still to come
        self._free_chunks: list[int] = []
        self._open = np.zeros((n_envs, FRAMES_PER_CHUNK, n_pixels), dtype=np.uint8)
        self._open_chunk = [self._new_chunk() for _ in range(n_envs)]
        self._open_length = [0] * n_envs
        self._unpacked = np.empty(
            (0, FRAMES_PER_CHUNK, n_pixels), dtype=np.uint8
        )  # kept: new memory costs more than unpacking

    def _new_chunk(self) -> int:
        if not self._free_chunks:
            self._free_chunks.append(len(self._packed))
            self._packed.append(None)
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
        self._packed[self._open_chunk[env_index]] = CODECS[self._compression].compress(frames.reshape(-1))
        self._open_chunk[env_index] = self._new_chunk()
        self._open_length[env_index] = 0

    def free(self, ids: list[int]) -> None:
        for frame_id in ids:
            chunk = frame_id // FRAMES_PER_CHUNK
            self._n_needed[chunk] -= 1
            if self._n_needed[chunk] == 0:
                self._packed[chunk] = None
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


def bytes_of_frame(n_pixels: int, compression: str | None) -> int:
    """
    :param n_pixels: bytes of a frame
    :param compression: one of ``COMPRESSIONS``
    :return: bytes that a store takes for one frame of play, about
    """
    return n_pixels if compression is None else n_pixels // _LEAST_COMPRESSION


def available_memory() -> int:
    """
    :return: bytes of main memory that are free, within the limit of a container if there is one
    """
    available = psutil.virtual_memory().available
    limit, used = (pathlib.Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    try:
        return min(available, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # none, or "max"
        return available
