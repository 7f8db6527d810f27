"""What all tests share: real games."""

import os
from collections.abc import Callable

import ale_py
import gymnasium as gym
import pytest
import torch as th
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

gym.register_envs(ale_py)
if "OMP_NUM_THREADS" not in os.environ:
    th.set_num_threads(2)  # small networks gain nothing from more

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
