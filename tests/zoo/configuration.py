"""A configuration as RL Zoo takes it from a Python module."""

from typing import Any

hyperparams: dict[str, dict[str, Any]] = {"CartPole-v1": {"policy": "MlpPolicy", "n_timesteps": 100}}
