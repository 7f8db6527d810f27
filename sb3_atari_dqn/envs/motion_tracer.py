"""The motion tracer of tutorial 16: one image and the fading trace of what moved in it.

A single image does not tell which way the ball flies. Instead of stacking four, the tracer adds a second channel in
which every pixel that changed lights up and fades. The state is a uint8 array (height, width, 2).

Source: Hvass Pedersen 2017, TensorFlow tutorial 16, as it has been since June 2019: resized with Pillow's bilinear filter on
true grey levels. Before, it had SciPy's bicubic ``imresize``, which stretched the contrast of each frame on its own.
"""

from numbers import Integral, Real
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
BRIGHT = 255.0


def triangle_filter(n_inputs: int, n_outputs: int) -> np.ndarray:
    """
    Bilinear resizing along one axis as a matrix, as Pillow's ``BILINEAR`` does it: each output is the mean of the inputs
    around it, weighted by a triangle as wide as two outputs (two inputs when enlarging) and cut off at the border.

    :param n_inputs: pixels before
    :param n_outputs: pixels after
    :return: weights, float32 (n_outputs, n_inputs), each row summing to one
    """
    scale = n_inputs / n_outputs
    centers = (np.arange(n_outputs)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(n_inputs) + 0.5 - centers) / max(scale, 1.0)
    weights = np.maximum(1.0 - distances, 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def fade(trace: np.ndarray, moved: np.ndarray, decay: float) -> None:
    """
    One step of a trace, in place: all of it fades, and what moved lights up.

    :param trace: brightness from 0 to 255, float32 of any shape
    :param moved: where something moved, bool of the same shape
    :param decay: what is left of the trace, in [0, 1)
    """
    trace *= decay
    trace[moved] += BRIGHT
    np.minimum(trace, BRIGHT, out=trace)


class MotionTracer(gym.Wrapper[np.ndarray, Any, np.ndarray, Any]):
    """
    Replace RGB frames by grey image and motion trace, uint8 (height, width, 2).

    Channel 0 is the luminance 0.299 R + 0.587 G + 0.114 B, resized with a triangle filter. Channel 1 is the trace
    ``clip(255 * [|image - previous image| > threshold] + decay * previous trace, 0, 255)``. Both are kept in floating
    point from step to step and truncated to 8 bits for output only. A reset makes the first image the previous one and
    the trace zero. Wrappers that end an episode within a game (``EpisodicLifeEnv``) or press a button after a reset
    (``FireResetEnv``) belong outside the tracer: a lost life does not clear the trace then.

    :param env: environment with RGB frames, uint8 (height, width, 3)
    :param height: rows of the state
    :param width: columns of the state
    :param decay: what is left of the trace after one step, in [0, 1)
    :param threshold: grey levels by which a pixel must change to count as motion, at least 0
    :raises ValueError: for a value out of its range, or frames that are not RGB
    """

    def __init__(
        self,
        env: gym.Env[np.ndarray, Any],
        height: int = 105,
        width: int = 80,
        decay: float = 0.75,
        threshold: float = 20,
    ) -> None:
        self.check_values(height, width, decay, threshold)
        rows, columns = self.frame_size(env)
        super().__init__(env)
        self.observation_space = spaces.Box(low=0, high=255, shape=(height, width, 2), dtype=np.uint8)
        self.decay = decay
        self.threshold = threshold
        self._rows = triangle_filter(rows, height)
        self._columns = triangle_filter(columns, width).T.copy()
        self._image = np.zeros((height, width), dtype=np.float32)
        self._trace = np.zeros_like(self._image)

    @staticmethod
    def frame_size(env: gym.Env[np.ndarray, Any]) -> tuple[int, int]:
        """
        :param env: environment with RGB frames
        :return: rows and columns of a frame
        :raises ValueError: if its observations are something else
        """
        space = env.observation_space
        if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3 or space.shape[2] != 3:
            raise ValueError(f"MotionTracer needs RGB frames, uint8 (height, width, 3), not observations in {space}")
        return space.shape[0], space.shape[1]

    @staticmethod
    def check_values(height: int = 105, width: int = 80, decay: float = 0.75, threshold: float = 20) -> None:
        """
        :param height: see above, like the others
        :param width: see above
        :param decay: see above
        :param threshold: see above
        :raises ValueError: for a value out of its range
        """
        for name, size in (("height", height), ("width", width)):
            if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
                raise ValueError(f"{name}={size!r} must be a whole number of pixels, at least 1")
        if not isinstance(decay, Real) or not 0 <= decay < 1:
            raise ValueError(f"decay={decay!r} must be a number in [0, 1)")
        if not isinstance(threshold, Real) or not threshold >= 0:
            raise ValueError(f"threshold={threshold!r} must be a number of grey levels, at least 0")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        :param seed: see ``gymnasium.Env.reset``
        :param options: see ``gymnasium.Env.reset``
        :return: first state, uint8 (height, width, 2), and infos
        """
        frame, info = self.env.reset(seed=seed, options=options)
        self._image = self._grey_image(frame)
        self._trace = np.zeros_like(self._image)
        return self._state(), info

    def step(self, action: Any) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        :param action: see ``gymnasium.Env.step``
        :return: state, uint8 (height, width, 2), and what else ``gymnasium.Env.step`` returns
        """
        frame, reward, terminated, truncated, info = self.env.step(action)
        image = self._grey_image(frame)
        fade(self._trace, np.abs(image - self._image) > self.threshold, self.decay)
        self._image = image
        return self._state(), reward, terminated, truncated, info

    def _grey_image(self, frame: np.ndarray) -> np.ndarray:
        """
        :param frame: uint8 (rows, columns, 3)
        :return: luminance in grey levels, float32 (height, width)
        """
        return self._rows @ (frame @ LUMINANCE) @ self._columns

    def _state(self) -> np.ndarray:
        """
        :return: image and trace, uint8 (height, width, 2)
        """
        state = np.empty((*self._image.shape, 2), dtype=np.uint8)
        state[..., 0] = self._image
        state[..., 1] = self._trace
        return state
