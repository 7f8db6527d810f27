"""Environments: wrappers over ALE's games, which Gymnasium knows once this is imported."""

import ale_py
import gymnasium as gym

gym.register_envs(ale_py)
