"""RL Zoo's experiments, made in this process."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager

from sb3_atari_dqn import CustomDQN, SweepDQN


def make_experiment(folder: Path, env_id: str, algo: str = "dqn_custom", **kwargs: Any) -> ExperimentManager:
    kwargs = {"eval_freq": -1, "seed": 0, "verbose": 0} | kwargs
    return ExperimentManager(Namespace(), algo, env_id, str(folder), **kwargs)


def make_sweep_model(folder: Path, env_id: str, **kwargs: Any) -> SweepDQN:
    experiment = make_experiment(folder, env_id, "dqn_sweep", **kwargs).setup_experiment()
    assert experiment is not None
    model = experiment[0]
    assert isinstance(model, SweepDQN)
    return model


def make_model(folder: Path, env_id: str, **kwargs: Any) -> CustomDQN:
    experiment = make_experiment(folder, env_id, **kwargs).setup_experiment()
    assert experiment is not None
    model = experiment[0]
    assert isinstance(model, CustomDQN)
    return model
