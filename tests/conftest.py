"""What all tests share: real games, and one thread for each process, for several run side by side."""

import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported, and in the processes that tests start

import ale_py
import gymnasium as gym
import pytest
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

gym.register_envs(ale_py)

MakeAtari = Callable[..., VecEnv]


@pytest.fixture
def make_atari() -> MakeAtari:
    """A function that makes a game as the Atari preset does: 84x84, four frames stacked, rewards not clipped."""

    def make(env_id: str = "PongNoFrameskip-v4", n_envs: int = 1, seed: int = 0, **wrapper_kwargs: object) -> VecEnv:
        env = make_vec_env(
            env_id, n_envs, seed=seed, wrapper_class=AtariWrapper, wrapper_kwargs={"clip_reward": False, **wrapper_kwargs}
        )
        return VecFrameStack(env, 4)

    return make
