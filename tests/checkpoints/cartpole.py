"""A run of CartPole in this process, as ``python -m sb3_atari_dqn train`` makes it."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml
from rl_zoo3.exp_manager import ExperimentManager

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.zoo.register import register

register()

ENV = "CartPole-v1"
HYPERPARAMS = {
    "policy": "MlpPolicy",
    "n_timesteps": 300,
    "policy_kwargs": {"net_arch": [8]},
    "buffer_size": 200,
    "learning_starts": 20,
    "checkpoint_freq": 120,
}


def make(folder: Path, tensorboard: str = "", **changes: Any) -> tuple[ExperimentManager, CustomDQN]:
    """
    :param folder: where logs go
    :param tensorboard: where it writes for TensorBoard
    :param changes: hyperparameters to change
    :return: an experiment and its model
    """
    config = folder / "config.yml"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump({ENV: HYPERPARAMS | changes}))
    args = {"algo": "dqn_custom", "env": ENV, "seed": 1, "conf_file": str(config), "n_timesteps": -1, "env_kwargs": None}
    args |= {"tensorboard_log": tensorboard, "eval_freq": -1, "verbose": 0, "log_interval": 1, "device": "cpu"}
    manager = ExperimentManager(
        Namespace(**args, hyperparams=None, gym_packages=[]),
        "dqn_custom",
        ENV,
        str(folder / "logs"),
        tensorboard,
        eval_freq=-1,
        seed=1,
        verbose=0,
        log_interval=1,
        device="cpu",
        config=str(config),
    )
    experiment = manager.setup_experiment()
    assert experiment is not None
    assert isinstance(experiment[0], CustomDQN)
    return manager, experiment[0]


def train(folder: Path, tensorboard: str = "") -> Path:
    """
    :param folder: where logs go
    :param tensorboard: where it writes for TensorBoard
    :return: folder of a run that is complete
    """
    manager, model = make(folder, tensorboard)
    manager.learn(model)
    manager.save_trained_model(model)
    return Path(manager.save_path)
