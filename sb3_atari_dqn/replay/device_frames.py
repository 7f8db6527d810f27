"""Frames, each stored once, on the device that learns."""

from typing import Any

import numpy as np
import torch as th

from sb3_atari_dqn.replay.frames import BLACK, UnpackedFrames


class DeviceFrames(UnpackedFrames):
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
        self._grow(n_frames + 1)
        black = self.add(np.zeros((1, n_pixels), dtype=np.uint8), [0])
        assert black == [BLACK]

    def _grow(self, n_frames: int) -> None:
        block = self._frames.new_empty((n_frames, self.n_pixels))
        self._frames = th.cat([self._frames, block]) if len(self._frames) else block
        self._ids.grow(n_frames)

    def _make_room(self, n_ids: int) -> None:
        if n_ids > len(self._frames):
            self._grow(n_ids - len(self._frames))

    def to(self, device: th.device) -> None:
        """
        :param device: where frames live from now on
        """
        self._frames = self._frames.to(device)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_frames": self._frames.cpu()}  # a file for machines without a GPU too

    def add(self, frames: np.ndarray, env_indices: list[int]) -> list[int]:
        if len(self._ids.free_ids) < len(frames):
            self._grow(max(len(self._frames) // 16, len(frames)))
        ids = self._ids.take(len(env_indices))
        self._write(np.array(ids), frames)
        return ids

    def _write(self, ids: np.ndarray, frames: np.ndarray) -> None:
        device = self._frames.device
        frames = np.ascontiguousarray(frames)
        self._frames.index_copy_(0, th.from_numpy(ids).to(device), th.from_numpy(frames).to(device))

    def _read_to_main_memory(self, ids: np.ndarray) -> np.ndarray:
        return self.read(ids).cpu().numpy()

    def read(self, ids: np.ndarray) -> th.Tensor:
        """
        :param ids: frames, integers (n,), in any order and more than once
        :return: uint8 (n, n_pixels), a copy on the device
        """
        return self._frames[th.from_numpy(ids).to(self._frames.device, non_blocking=True)]
