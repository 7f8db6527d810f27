"""The motion tracer over the grey frames of vectorised environments, all of them at once."""

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn, VecEnvWrapper

from sb3_atari_dqn.envs.motion_tracer import MotionTracer, fade


class VecMotionTracer(VecEnvWrapper):
    """
    Replace grey frames by frame and motion trace, uint8 (n_envs, 2, height, width).

    The formula is that of ``MotionTracer``. Only a new game clears a trace; a lost life does not. Made for ``AleVecEnv``
    with ``n_stack=1``; other environments must say at which ``dones`` a game ended, as Monitor does.

    :param venv: environments with one grey frame, uint8 (1, height, width)
    :param decay: what is left of the trace after one step, in [0, 1)
    :param threshold: grey levels by which a pixel must change to count as motion, at least 0
    :raises ValueError: for a value out of its range, or observations that are something else
    """

    def __init__(self, venv: VecEnv, decay: float = 0.75, threshold: float = 20) -> None:
        MotionTracer.check_values(decay=decay, threshold=threshold)
        space = venv.observation_space
        if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3 or space.shape[0] != 1:
            raise ValueError(f"VecMotionTracer needs one grey frame, uint8 (1, height, width), not observations in {space}")
        super().__init__(venv, spaces.Box(0, 255, (2, *space.shape[1:]), np.uint8))
        self.decay = decay
        self.threshold = threshold
        self._images = np.zeros((venv.num_envs, *space.shape[1:]), dtype=np.float32)
        self._traces = np.zeros_like(self._images)

    def reset(self) -> np.ndarray:
        """
        :return: first states, uint8 (n_envs, 2, height, width)
        """
        self._images[:] = _frames(self.venv.reset())
        self._traces[:] = 0
        return self._states()

    def step_wait(self) -> VecEnvStepReturn:
        """
        :return: states, uint8 (n_envs, 2, height, width), and what else ``VecEnv.step_wait`` returns
        """
        observations, rewards, dones, infos = self.venv.step_wait()
        frames = _frames(observations)
        images = frames.astype(np.float32)
        for index in np.flatnonzero(dones):  # the last frame of an episode is traced, not the first one of the next
            images[index] = infos[index]["terminal_observation"][0]
        fade(self._traces, np.abs(images - self._images) > self.threshold, self.decay)
        self._images = images
        states = self._states()
        for index in np.flatnonzero(dones):
            infos[index]["terminal_observation"] = states[index].copy()
            self._images[index] = frames[index]
            if "episode" in infos[index]:
                self._traces[index] = 0
            states[index] = self._images[index], self._traces[index]
        return states, rewards, dones, infos

    def _states(self) -> np.ndarray:
        """
        :return: images and traces, uint8 (n_envs, 2, height, width), a copy
        """
        return np.stack((self._images, self._traces), axis=1).astype(np.uint8)


def _frames(observations: object) -> np.ndarray:
    """The frames (n_envs, height, width) of observations (n_envs, 1, height, width)."""
    assert isinstance(observations, np.ndarray)
    return observations[:, 0]
