"""Pipelines from ALE's frames to what a network sees, each one list to read aloud.

An example for ``MotionTracerAtariWrapper`` on ``PongNoFrameskip-v4``: after a reset, 1 to 30 emulator frames pass without
an action. Each agent step repeats its action for 4 frames; the brighter of the last two frames, pixel by pixel, is traced
to uint8 (105, 80, 2). A lost life ends the return, but the trace lives on. FIRE is pressed after each reset.
"""

from numbers import Integral
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv, FireResetEnv, MaxAndSkipEnv, NoopResetEnv

from sb3_atari_dqn.envs.motion_tracer import MotionTracer


class MotionTracerAtariWrapper(gym.Wrapper[np.ndarray, Any, np.ndarray, Any]):
    """
    Stable-Baselines3's ``AtariWrapper`` with the motion tracer in place of the 84x84 grey image, and raw rewards.

    For environments without frame skip of their own, ``*NoFrameskip-v4``.

    :param env: one of ALE's environments
    :param noop_max: most emulator frames without an action after a reset; 0 for none
    :param frame_skip: emulator frames for which an action is repeated; the last two are merged. 1 for no repetition.
    :param terminal_on_life_loss: whether a lost life ends the return
    :param height: see ``MotionTracer``, like those that follow
    :param width: see there
    :param decay: see there
    :param threshold: see there
    :raises ValueError: for a value out of its range, or frames that are not RGB
    """

    def __init__(
        self,
        env: gym.Env[np.ndarray, Any],
        noop_max: int = 30,
        frame_skip: int = 4,
        terminal_on_life_loss: bool = True,
        height: int = 105,
        width: int = 80,
        decay: float = 0.75,
        threshold: float = 20,
    ) -> None:
        self.check_values(noop_max, frame_skip, terminal_on_life_loss, height, width, decay, threshold)
        MotionTracer.frame_size(env)
        if noop_max > 0:
            env = NoopResetEnv(env, noop_max)
        if frame_skip > 1:
            env = MaxAndSkipEnv(env, frame_skip)
        env = MotionTracer(env, height, width, decay, threshold)
        if terminal_on_life_loss:
            env = EpisodicLifeEnv(env)
        if "FIRE" in env.unwrapped.get_action_meanings():  # type: ignore[union-attr]  # ALE's environments have it
            env = FireResetEnv(env)
        super().__init__(env)

    @staticmethod
    def check_values(
        noop_max: int = 30,
        frame_skip: int = 4,
        terminal_on_life_loss: bool = True,
        height: int = 105,
        width: int = 80,
        decay: float = 0.75,
        threshold: float = 20,
    ) -> None:
        """
        :param noop_max: see above, like the others
        :param frame_skip: see above
        :param terminal_on_life_loss: see above
        :param height: see above
        :param width: see above
        :param decay: see above
        :param threshold: see above
        :raises ValueError: for a value out of its range
        """
        for name, value, minimum in (("noop_max", noop_max, 0), ("frame_skip", frame_skip, 1)):
            if not isinstance(value, Integral) or value < minimum:
                raise ValueError(f"{name}={value!r} must be a whole number of emulator frames, at least {minimum}")
        MotionTracer.check_values(height, width, decay, threshold)
