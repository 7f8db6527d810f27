"""Small models of all kinds, and payloads that show whether they were run."""

import base64
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor

from sb3_atari_dqn import CustomDQN, SweepDQN


class Images(gym.Env):
    """Random images, a reward for the first of three actions, eight steps."""

    def __init__(self, size: int = 36) -> None:
        self.observation_space = spaces.Box(0, 255, (2, size, size), np.uint8)
        self.action_space = spaces.Discrete(3)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._observation(), float(action == 0), self._steps == 8, False, {}

    def _observation(self) -> np.ndarray:
        assert self.observation_space.shape is not None
        return self.np_random.integers(0, 256, self.observation_space.shape, dtype=np.uint8)


def custom_dqn(size: int = 36, policy_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> CustomDQN:
    settings: dict[str, Any] = {
        "seed": 1,
        "buffer_size": 100,
        "learning_starts": 8,
        "batch_size": 4,
        "replay_buffer_class": "FrameReplayBuffer",
        "replay_buffer_kwargs": {"n_stack": 2},
    } | kwargs
    return CustomDQN(
        "CnnPolicy", Images(size), policy_kwargs={"features_extractor_class": "NipsCNN"} | (policy_kwargs or {}), **settings
    )


def sweep_dqn(**kwargs: Any) -> SweepDQN:
    settings: dict[str, Any] = {
        "seed": 1,
        "buffer_size": 64,
        "batch_size": 4,
        "replay_fraction": 0.5,
        "policy_kwargs": {"features_extractor_class": "NipsCNN"},
    } | kwargs
    return SweepDQN("CnnPolicy", Monitor(Images()), **settings)


def session_of(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def observations_for(model: BaseAlgorithm, n: int = 16) -> np.ndarray:
    model.observation_space.seed(0)
    return np.stack([model.observation_space.sample() for _ in range(n)])


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._command = f"touch {marker}"

    def __reduce__(self) -> Any:
        return os.system, (self._command,)


def pickled(value: Any, protocol: int | None = None) -> dict[str, str]:
    return {":type:": "anything", ":serialized:": base64.b64encode(pickle.dumps(value, protocol)).decode()}


def with_values(source: Path, target: Path, **values: Any) -> Path:
    """A copy of a zip file with some of its values replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                content = json.dumps(json.loads(content) | values).encode()
            new.writestr(name, content)
    return target


def with_weights(source: Path, target: Path, weights: bytes) -> Path:
    """A copy of a zip file with other weights."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, weights if name == "policy.pth" else old.read(name))
    return target


def torch_file(value: Any) -> bytes:
    """What `torch.save` makes of something that it does not know: a pickle in a zip file."""
    import torch as th

    file = io.BytesIO()
    th.save(value, file)
    return file.getvalue()
