"""Running averages of normalised environments, read without unpickling."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_atari_dqn.saving.normalization import load_normalization
from sb3_atari_dqn.saving.trust import UntrustedFileError
from tests.saving.models import Touch


class Numbers(gym.Env):
    """
    Random numbers, as one array or by name.

    :param observation_space: of them
    """

    def __init__(self, observation_space: spaces.Space) -> None:
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(2)
        observation_space.seed(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 3.0, False, False, {}


PLAIN = spaces.Box(-5, 9, (3,), np.float32)
BY_NAME = spaces.Dict({"speed": PLAIN, "place": spaces.Box(0, 1, (2, 2), np.float32), "image": spaces.MultiBinary(4)})


def make_env(space: spaces.Space = PLAIN, n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: Numbers(space)] * n_envs)


def played(env: DummyVecEnv, **kwargs: Any) -> VecNormalize:
    normalized = VecNormalize(env, **kwargs)
    normalized.reset()
    for _ in range(5):
        normalized.step(np.zeros(env.num_envs, dtype=int))
    return normalized


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))  # pickle.dump's default, then and now
@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        (PLAIN, {}),
        (PLAIN, {"norm_obs": False, "gamma": 0.5, "clip_reward": 1.0}),
        (PLAIN, {"norm_reward": False, "clip_obs": 2.0, "training": False}),
        (BY_NAME, {"norm_obs_keys": ["speed", "place"], "epsilon": 1e-3}),
    ],
)
def test_normalises_as_the_saved_one(space: spaces.Space, kwargs: dict[str, Any], protocol: int, tmp_path: Path) -> None:
    saved = played(make_env(space, 2), **kwargs)
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(pickle.dumps(saved, protocol))
    loaded = load_normalization(path, make_env(space))
    trusted = load_normalization(path, make_env(space), trust=True)
    sample = space.sample()
    observation = {key: value[None] for key, value in sample.items()} if isinstance(sample, dict) else sample[None]
    for other in (saved, trusted):
        np.testing.assert_equal(loaded.normalize_obs(observation), other.normalize_obs(observation))
        np.testing.assert_equal(loaded.normalize_reward(np.array([2.0])), other.normalize_reward(np.array([2.0])))
        for name in ("training", "norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys"):
            assert getattr(loaded, name) == getattr(other, name), name
        assert loaded.ret_rms.count == other.ret_rms.count


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    path, marker = tmp_path / "vecnormalize.pkl", tmp_path / "marker"

    def inside(name: str) -> bytes:
        saved = played(make_env())
        setattr(saved, name, Touch(marker))
        return pickle.dumps(saved)

    for content in (pickle.dumps(Touch(marker)), pickle.dumps([1]), inside("obs_rms"), inside("gamma"), inside("ret_rms")):
        path.write_bytes(content)
        with pytest.raises(UntrustedFileError, match=r"vecnormalize.pkl' is refused: .* --trust"):
            load_normalization(path, make_env())
    path.write_bytes(inside("old_obs"))  # which is not read
    load_normalization(path, make_env())
    assert not marker.exists()


def _change(saved: VecNormalize, **changes: Any) -> None:
    vars(saved).update(changes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda saved: _change(saved, gamma="0.9"), "gamma='0.9' must be a number"),
        (lambda saved: _change(saved, norm_obs_keys=3), "norm_obs_keys=3 must be names of observations"),
        (lambda saved: _change(saved, ret_rms=1), "it holds no averages of returns of shape ()"),
        (lambda saved: _change(saved.obs_rms, mean=np.zeros(2), var=np.zeros(2)), "no averages of observations of shape (3,)"),
        (lambda saved: _change(saved.obs_rms, mean=np.zeros(2)), "means of shape (2,) and variances of shape (3,)"),
        (lambda saved: saved.__dict__.pop("obs_rms"), "cannot be read: 'obs_rms'"),
        (lambda saved: saved.__dict__.pop("clip_obs"), "cannot be read: 'clip_obs'"),
    ],
)
def test_what_is_no_normalisation(spoil: Callable[[VecNormalize], Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "vecnormalize.pkl"
    saved = played(make_env())
    spoil(saved)
    path.write_bytes(pickle.dumps(saved))
    with pytest.raises(ValueError, match=re.escape(message)):
        load_normalization(path, make_env())


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "vecnormalize.pkl"
    with pytest.raises(ValueError, match="does not exist"):
        load_normalization(path, make_env())
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"vecnormalize\.pkl' cannot be read: it holds a pickle that cannot be read"):
        load_normalization(path, make_env())
