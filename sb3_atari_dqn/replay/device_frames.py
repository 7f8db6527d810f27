"""Frames, each stored once, on the device that learns."""

from typing import Any

import numpy as np
import torch as th

from sb3_atari_dqn.replay.frames import BLACK, Frames


class DeviceFrames(Frames):
    """
    Frames as they are, in the memory of a GPU. All of it is taken at once; should many short episodes need more, it grows
    by a sixteenth, for which it needs both, old and new, for a moment.

    :param n_pixels: bytes of a frame
    :param n_frames: how many are expected
    :param device: where they live
    """

    def __init__(self, n_pixels: int, n_frames: int, device: th.device) -> None:
        super().__init__(n_pixels)
        self._frames = th.empty((0, n_pixels), dtype=th.uint8, device=device)
        self._free_ids: list[int] = []
        self._grow(n_frames + 1)
        black = self.add(np.zeros((1, n_pixels), dtype=np.uint8), [0])
        assert black == [BLACK]

    def _grow(self, n_frames: int) -> None:
        start = len(self._frames)
        self._frames = th.cat([self._frames, self._frames.new_empty((n_frames, self.n_pixels))])
        self._free_ids[:0] = range(start + n_frames - 1, start - 1, -1)  # the lowest is taken first

    def to(self, device: th.device) -> None:
        """
        :param device: where frames live from now on
        """
        self._frames = self._frames.to(device)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_frames": self._frames.cpu()}  # a file for machines without a GPU too

    def add(self, frames: np.ndarray, env_indices: list[int]) -> list[int]:
        if len(self._free_ids) < len(frames):
            self._grow(max(len(self._frames) // 16, len(frames)))
        ids = [self._free_ids.pop() for _ in env_indices]
        device = self._frames.device
        self._frames.index_copy_(0, th.tensor(ids, device=device), th.from_numpy(np.ascontiguousarray(frames)).to(device))
        return ids

    def free(self, ids: list[int]) -> None:
        self._free_ids.extend(ids)

    def read(self, ids: np.ndarray) -> th.Tensor:
        """
        :param ids: frames, integers (n,), in any order and more than once
        :return: uint8 (n, n_pixels), a copy on the device
        """
        return self._frames[th.from_numpy(ids).to(self._frames.device, non_blocking=True)]
