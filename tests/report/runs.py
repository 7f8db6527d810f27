"""Short runs as RL Zoo's ``train`` leaves them, and their pages."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager

from sb3_atari_dqn.zoo.register import register

register()

#: hyperparameters of a training that takes seconds
SMALL: dict[str, Any] = {
    "buffer_size": 1_000,
    "learning_starts": 100,
    "n_envs": 2,
    "native_envs": False,
    "accelerate": "none",
    "precision": "float32",
    "overlap": False,
    "policy_kwargs": {"features_extractor_class": "NipsCNN"},
}


def train(
    folder: Path, algo: str, env_id: str, n_timesteps: int, hyperparams: dict[str, Any], resumable: bool = False, **kwargs: Any
) -> Path:
    """A run, made by the same class that the command line makes it by; a resumable one notes its arguments, too."""
    args = {"algo": algo, "env": env_id, "seed": 1, "conf_file": None, "n_timesteps": n_timesteps, "env_kwargs": None}
    experiment = ExperimentManager(
        Namespace(**args, hyperparams=hyperparams, gym_packages=[], **(kwargs if resumable else {})),
        algo,
        env_id,
        str(folder),
        n_timesteps=n_timesteps,
        seed=1,
        hyperparams=hyperparams,
        verbose=0,
        **{"eval_freq": -1, "log_interval": 1} | kwargs,
    )
    made = experiment.setup_experiment()
    assert made is not None
    experiment.learn(made[0])
    experiment.save_trained_model(made[0])
    return Path(experiment.save_path)


def train_short(folder: Path) -> Path:
    """Breakout, games cut off after 120 agent steps, with a distribution of returns and evaluations."""
    changes = {
        "env_kwargs": {"max_num_frames_per_episode": 480},
        "loss": None,
        "policy_kwargs": {
            "features_extractor_class": "NipsCNN",
            "distribution": "categorical",
            "distribution_kwargs": {"n_atoms": 11, "v_min": -1, "v_max": 3},
        },
    }
    return train(
        folder,
        "dqn_custom",
        "BreakoutNoFrameskip-v4",
        400,
        SMALL | changes,
        eval_freq=100,
        n_eval_episodes=1,
        eval_env_kwargs=changes["env_kwargs"],
    )
