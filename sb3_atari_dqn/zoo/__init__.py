"""RL Zoo: registration, checks, presets, Optuna's search space. The only room that knows rl_zoo3 and optuna."""

from sb3_atari_dqn.zoo.register import register

__all__ = ["register"]
