"""Models that are pickled, copied and sent to other processes learn on as the original does."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

from sb3_atari_dqn import AleVecEnv, CustomDQN, SweepDQN
from tests.test_dqn import CARTPOLE, assert_same, weights_and_optimizer
from tests.test_replaced_parts import FAST, make_env

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "cloudpickle": lambda model: pickle.loads(cloudpickle.dumps(model)),
    "deepcopy": copy.deepcopy,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"policy_kwargs": {"optimizer_class": "Adam", "optimizer_kwargs": {"eps": 1.0}}, **FAST},
    "mse": {"loss": "mse"},
    "huber": {"huber_delta": 0.5, "replay_buffer_class": None},
    "one network": {"target_update_interval": None},
    "fast": {**FAST, "overlap": True},
    "rainbow": {
        **FAST,
        "double_q": True,
        "n_steps": 3,
        "clip_rewards": True,
        "policy_kwargs": {"dueling": True, "noisy_sigma": 0.5, "distribution": "categorical"},
        "replay_buffer_kwargs": {"priority_exponent": 0.5},
    },
    "quantiles": {"policy_kwargs": {"distribution": "quantile", "distribution_kwargs": {"n_quantiles": 8}}},
    "beyond": {
        **FAST,
        "munchausen": True,
        "policy_kwargs": {
            "distribution": "implicit-quantile",
            "features_extractor_class": "ImpalaCNN",
            "features_extractor_kwargs": {"spectral_norm": True},
        },
    },
    "bf16": {"precision": "bf16", "accelerate": "fused"},
}


def updated(model: Any, n_updates: int = 2) -> Any:
    np.random.seed(5)
    th.manual_seed(5)
    model.train(n_updates, 8)
    return model


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_a_copy_learns_on_as_the_original_does(setting: str) -> None:
    kwargs: dict[str, Any] = {"replay_buffer_class": "FrameReplayBuffer", "learning_rate": 0.01, **SETTINGS[setting]}
    # whose steps are linear in gradients: sums may be rounded in another way where tensors lie elsewhere in memory
    sgd = {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}}
    kwargs["policy_kwargs"] = sgd | kwargs.get("policy_kwargs", {})
    model = CustomDQN("CnnPolicy", make_env(), learning_starts=30, buffer_size=100, batch_size=8, seed=3, **kwargs).learn(50)
    assert model._n_updates > 0
    copies = {name: make_copy(model) for name, make_copy in COPIES.items()}
    before = {key: value.clone() for key, value in weights_and_optimizer(model).items()}
    expected = updated(model)
    for name, copied in copies.items():
        assert copied.get_env() is not None, name
        assert copied.num_timesteps == model.num_timesteps
        assert type(copied.learner) is type(model.learner)
        assert all(own is not other for own, other in zip(copied.policy.parameters(), model.policy.parameters(), strict=True))
        state, other_state = weights_and_optimizer(expected), weights_and_optimizer(updated(copied))
        assert state.keys() == other_state.keys()
        for key, value in state.items():
            assert (other_state[key] - value).norm() <= 0.01 * (value - before.get(key, 0)).norm(), f"{name}: {key}"
        copied.learn(20, reset_num_timesteps=False)
        assert copied._n_updates > expected._n_updates


def test_what_cannot_be_pickled_is_left_out() -> None:
    env = AleVecEnv("PongNoFrameskip-v4", 2, seed=0)
    model = CustomDQN("CnnPolicy", env, learning_starts=8, buffer_size=64, replay_buffer_class="FrameReplayBuffer", verbose=1)
    model.learn(16)
    observations = env.reset()
    for name, make_copy in COPIES.items():
        copied = make_copy(model)
        assert copied.get_env() is None, name
        assert (
            copied.predict(observations, deterministic=True)[0] == model.predict(observations, deterministic=True)[0]
        ).all()
        copied.set_env(env)
        assert copied.learn(8, reset_num_timesteps=False).num_timesteps == 24
    assert model.get_env() is not None


def test_wrapped_environments_are_copied_with_what_they_wrap() -> None:
    env = VecNormalize(VecFrameStack(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2), 2))
    model = CustomDQN("MlpPolicy", env, **CARTPOLE).learn(110)
    for name, make_copy in COPIES.items():
        copied = make_copy(model)
        copied_env = copied.get_env()
        assert isinstance(copied_env, VecNormalize), name
        assert isinstance(copied_env.venv, VecFrameStack)
        assert copied_env.unwrapped is not env.unwrapped
        assert copied.get_vec_normalize_env() is copied_env
        assert np.array_equal(copied_env.returns, env.returns)
        copied.learn(100, reset_num_timesteps=False)
        assert copied._n_updates > model._n_updates
    copied = copy.deepcopy(model)
    for each in (model, copied):  # the running episodes are continued
        np.random.seed(5)
        each.learn(20, reset_num_timesteps=False)
    assert isinstance(model._last_obs, np.ndarray)
    assert isinstance(copied._last_obs, np.ndarray)
    assert np.array_equal(model._last_obs, copied._last_obs)
    assert_same(model, copied)


def test_samples_are_normalized_without_the_environments_too() -> None:
    env = VecNormalize(SubprocVecEnv([lambda: gym.make("CartPole-v1")], start_method="fork"))
    try:
        model = CustomDQN("MlpPolicy", env, **CARTPOLE).learn(110)
        copied = copy.deepcopy(model)
        assert copied.get_env() is None
        assert_same(updated(model), updated(copied))
        assert model.learn(10, reset_num_timesteps=False).num_timesteps == 120  # its processes are still there
    finally:
        env.close()


def test_episodes_that_gymnasium_does_not_pickle_begin_anew() -> None:
    model = CustomDQN("MlpPolicy", gym.make("ALE/Pong-v5", obs_type="ram"), **{**CARTPOLE, "learning_starts": 10}).learn(20)
    assert model._last_obs is not None
    for make_copy in COPIES.values():
        copied = make_copy(model)
        assert copied.get_env() is not None
        copied.learn(1, reset_num_timesteps=False)
        assert copied.replay_buffer is not None
        assert copied.replay_buffer.timeouts[19, 0] == 1


def test_copies_of_hindsight_know_their_environments() -> None:
    env = BitFlippingEnv(n_bits=4, max_steps=4)
    model = CustomDQN(
        "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=20, buffer_size=100, seed=3
    ).learn(40)
    for make_copy in COPIES.values():
        copied = updated(make_copy(model))
        assert copied.replay_buffer.env is copied.get_env()
        copied.learn(8, reset_num_timesteps=False)


@pytest.mark.parametrize("kind", ["stdout", "csv", "json", "tensorboard"])
def test_a_copy_does_not_write_to_the_logs_of_the_original(kind: str, tmp_path: Path) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE)
    model.set_logger(configure(str(tmp_path), [kind]))
    model.learn(110)
    for make_copy in COPIES.values():
        copied = updated(make_copy(model))
        assert copied.logger.output_formats == []
        assert not copied._custom_logger


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU")
def test_frames_on_a_gpu_are_copied_to_it() -> None:
    kwargs: dict[str, Any] = {"replay_buffer_class": "FrameReplayBuffer", "replay_buffer_kwargs": {"compression": None}}
    model = CustomDQN("CnnPolicy", make_env(), learning_starts=30, buffer_size=100, device="cuda", **kwargs).learn(50)
    for make_copy in COPIES.values():
        updated(make_copy(model))


def test_a_logger_that_can_be_pickled_stays() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE)
    model.set_logger(configure(None, []))
    for make_copy in COPIES.values():
        copied = make_copy(model)
        assert isinstance(copied.logger, Logger)
        assert copied._custom_logger


def test_a_copy_that_a_callback_takes_is_at_rest() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE, overlap=True)
    copies: list[CustomDQN] = []

    def take(local: dict[str, Any], _: dict[str, Any]) -> bool:
        if model.num_timesteps == 150:
            copies.append(copy.deepcopy(model))
        return True

    model.learn(160, take)
    n_before = copies[0]._n_updates
    copies[0].train(5, 8)
    assert copies[0]._n_updates >= n_before + 5


@pytest.mark.parametrize("accelerate", ["none", "fused"])
def test_sweep_dqn_is_copied(accelerate: str) -> None:
    model = SweepDQN("CnnPolicy", make_env(), buffer_size=400, batch_size=8, max_epochs=1.0, accelerate=accelerate).learn(50)
    assert model.n_fits > 0
    observations = th.randint(0, 256, (8, 4, 36, 36), dtype=th.uint8, generator=th.Generator().manual_seed(0))
    expected = model.learner.q_values(observations)
    copies = [make_copy(model) for make_copy in COPIES.values()]
    for copied in copies:
        assert th.equal(copied.learner.q_values(observations), expected)
        n_fits = copied.n_fits
        assert copied.learn(50, reset_num_timesteps=False).n_fits > n_fits
    assert th.equal(model.learner.q_values(observations), expected)


class Watching(gym.Wrapper):
    """An environment that is handed a model."""

    def best_action(self, model: CustomDQN) -> int:
        return int(model.predict(np.zeros(4, dtype=np.float32), deterministic=True)[0])


def test_a_model_is_sent_to_the_processes_of_environments() -> None:
    model = CustomDQN("MlpPolicy", DummyVecEnv([lambda: gym.make("CartPole-v1")]), **CARTPOLE).learn(110)
    workers = SubprocVecEnv([lambda: Watching(gym.make("CartPole-v1"))] * 2, start_method="spawn")
    try:
        expected = int(model.predict(np.zeros(4, dtype=np.float32), deterministic=True)[0])
        assert workers.env_method("best_action", model) == [expected, expected]
    finally:
        workers.close()
