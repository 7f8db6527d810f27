"""``CustomDQN``'s ways to be fast: what they change, and that they change nothing else."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_atari_dqn import AleVecEnv, CustomDQN, FrameReplayBuffer, NatureCNN
from sb3_atari_dqn.learning.accelerate import AcceleratedLearner
from sb3_atari_dqn.learning.learner import Learner, Update
from tests.conftest import MakeAtari
from tests.networks.test_compute_copy import NormalizingCNN
from tests.test_dqn import assert_same, weights_and_optimizer

GAME = "PongNoFrameskip-v4"
SMALL: dict[str, Any] = {
    "buffer_size": 500,
    "learning_starts": 32,
    "batch_size": 8,
    "seed": 1,
    "replay_buffer_class": "FrameReplayBuffer",
}


@pytest.mark.parametrize("compression", ["lz4", None])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_each_frame_once_learns_what_sb3_learns(make_atari: MakeAtari, n_steps: int, compression: str | None) -> None:
    """The keystone with the other replay memory, past the point where it is full."""
    kwargs: dict[str, Any] = {
        "learning_starts": 60,
        "train_freq": 1,
        "target_update_interval": 60,
        "buffer_size": 120,
        "seed": 3,
    }
    ours = CustomDQN(
        "CnnPolicy",
        make_atari(),
        n_steps=n_steps,
        replay_buffer_class=FrameReplayBuffer,
        replay_buffer_kwargs={"compression": compression},
        **kwargs,
    ).learn(200)
    theirs = DQN("CnnPolicy", make_atari(), n_steps=n_steps, **kwargs).learn(200)
    assert ours._n_updates == theirs._n_updates == 140
    assert ours.replay_buffer is not None
    assert ours.replay_buffer.full
    assert_same(theirs, ours)


def test_all_arguments_of_the_buffer_can_be_given(make_atari: MakeAtari) -> None:
    kwargs = {"handle_timeout_termination": False, "compression": None, "n_stack": 2}
    model = CustomDQN("CnnPolicy", make_atari(), **SMALL, replay_buffer_kwargs=kwargs)
    assert {name: getattr(model.replay_buffer, name) for name in kwargs} == kwargs


def test_n_steps_reach_the_buffer_without_a_warning(make_atari: MakeAtari) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = CustomDQN("CnnPolicy", make_atari(), **SMALL, n_steps=3, gamma=0.9)
    assert isinstance(model.replay_buffer, FrameReplayBuffer)
    assert (model.replay_buffer.n_steps, model.replay_buffer.gamma) == (3, 0.9)


@pytest.mark.parametrize(
    ("n_envs", "period", "updates"), [(1, 4, 32), (2, 4, 32), (4, 4, 32), (8, 4, 32), (8, 2, 64), (2, 8, 16)]
)
def test_updates_per_agent_step_do_not_depend_on_the_number_of_environments(n_envs: int, period: int, updates: int) -> None:
    env = AleVecEnv(GAME, n_envs, seed=1)
    model = CustomDQN("CnnPolicy", env, **SMALL, update_period=period, precision="bf16")
    model.learn(32 + 8)
    before = model._n_updates
    model.learn(128, reset_num_timesteps=False)
    assert model._n_updates - before == updates


@pytest.mark.parametrize(
    ("kwargs", "n_envs", "message"),
    [
        ({"update_period": 4, "train_freq": 2}, 1, "train_freq=2 has no effect with update_period=4"),
        ({"update_period": 4, "gradient_steps": 2}, 1, "gradient_steps=2 has no effect with update_period=4"),
        ({"update_period": 0}, 1, "update_period=0 must be a whole number of agent steps, at least 1, or None"),
        ({"update_period": 4}, 6, "update_period=4 agent steps do not go with n_envs=6 environments"),
        ({"precision": "half"}, 1, "precision='half' is not known"),
        ({"accelerate": True}, 1, "accelerate=True is not known"),
        ({"overlap": 1}, 1, "overlap=1 must be True or False"),
        ({"accelerate": "cuda-graph", "device": "cpu"}, 1, 'accelerate="cuda-graph" needs a CUDA device, and this is cpu'),
        (
            {"replay_buffer_class": "FrameBuffer"},
            1,
            "replay_buffer_class='FrameBuffer' is not known; choose one of 'FrameReplay",
        ),
        ({"replay_buffer_class": "FrameReplayBuffer"}, 1, "FrameReplayBuffer needs images"),
        (
            {"replay_buffer_class": "FrameReplayBuffer", "replay_buffer_kwargs": {"compression": "gzip"}},
            1,
            "compression='gzip' is not known",
        ),
    ],
)
def test_refuses(kwargs: dict[str, Any], n_envs: int, message: str) -> None:
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * n_envs)
    with pytest.raises(ValueError, match=message):
        CustomDQN("MlpPolicy", env, **kwargs)


class Recorder(VecEnvWrapper):
    """Notes what happens."""

    def __init__(self, venv: VecEnv, events: list[str]) -> None:
        super().__init__(venv)
        self.events = events

    def reset(self) -> Any:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self.events.append("step")
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        self.events.append("wait")
        return self.venv.step_wait()


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (False, ["step", "wait", "update", "update"] * 3),
        (True, ["step", "wait"] + ["step", "update", "update", "wait"] * 2 + ["update", "update"]),
    ],
)
def test_order_of_events(overlap: bool, expected: list[str]) -> None:
    events: list[str] = []
    env = Recorder(AleVecEnv(GAME, 8, seed=1), events)
    model = CustomDQN("CnnPolicy", env, **SMALL, update_period=4, overlap=overlap, accelerate="fused")
    model.learn(32)
    assert "update" not in events
    events.clear()
    update = model.learner.update

    def recorded(batch: Any) -> Update:
        events.append("update")
        return update(batch)

    model.learner.update = recorded  # type: ignore[method-assign]
    model.learn(24, reset_num_timesteps=False)
    assert events == expected
    assert model._n_updates == 6


@pytest.mark.parametrize(("precision", "accelerate"), [("float32", "none"), ("float32", "fused"), ("bf16", "fused")])
def test_saved_and_loaded_goes_on_with_what_was_learnt(
    precision: str, accelerate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    kwargs: dict[str, Any] = {
        "update_period": 4,
        "precision": precision,
        "accelerate": accelerate,
        "learning_rate": 1e-3,
        "overlap": True,
    }
    model = CustomDQN("CnnPolicy", env, **SMALL, **kwargs).learn(200)
    model.save(tmp_path / "model")
    again = CustomDQN.load(tmp_path / "model", env=env)
    assert type(again.learner) is (Learner if accelerate == "none" else AcceleratedLearner)
    for key, value in weights_and_optimizer(model).items():
        assert th.equal(value, weights_and_optimizer(again)[key]), key
    observations = th.randint(0, 256, (16, 4, 84, 84), dtype=th.uint8, generator=th.Generator().manual_seed(0))
    assert th.equal(again.learner.q_values(observations), model.learner.q_values(observations))
    updates = again._n_updates
    again.learn(100, reset_num_timesteps=False)
    assert again._n_updates > updates
    # and without a GPU, a compiler or bf16, it can always be played
    monkeypatch.setenv("PATH", "")
    only_plays = CustomDQN.load(tmp_path / "model")
    assert type(only_plays.learner) is Learner
    actions, _ = only_plays.predict(observations.numpy(), deterministic=True)
    assert actions.shape == (16,)
    monkeypatch.undo()
    only_plays.set_env(env)
    assert type(only_plays.learner) is type(again.learner)


def test_fast_target_network_is_the_one_that_was_copied() -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    model = CustomDQN(
        "CnnPolicy", env, **SMALL, update_period=4, target_update_interval=100, accelerate="fused", learning_rate=1e-2
    )
    model.learn(180)
    assert isinstance(model.learner, AcceleratedLearner)
    observations = th.randint(0, 256, (16, 4, 84, 84), dtype=th.uint8, generator=th.Generator().manual_seed(0))
    with th.no_grad():
        th.testing.assert_close(
            model.learner._target(observations).q_values, model.q_net_target(observations), rtol=1e-3, atol=1e-4
        )
        assert not th.allclose(model.q_net(observations), model.q_net_target(observations), atol=1e-2)


def test_set_parameters_reach_the_fast_network() -> None:
    env = AleVecEnv(GAME, 1, seed=1)
    model = CustomDQN("CnnPolicy", env, **SMALL, precision="bf16", accelerate="fused")
    other = CustomDQN("CnnPolicy", env, **{**SMALL, "seed": 2}, precision="bf16", accelerate="fused")
    observations = th.randint(0, 256, (8, 4, 84, 84), dtype=th.uint8, generator=th.Generator().manual_seed(0))
    assert isinstance(model.learner, AcceleratedLearner)
    assert not th.equal(model.learner.q_values(observations), other.learner.q_values(observations))
    model.set_parameters(other.get_parameters())
    assert th.equal(model.learner.q_values(observations), other.learner.q_values(observations))


def test_a_fast_model_goes_on_as_a_plain_one(tmp_path: Path) -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    model = CustomDQN("CnnPolicy", env, **SMALL, update_period=4, accelerate="fused").learn(60)
    assert model.policy.optimizer.param_groups[0]["fused"] is True
    model.save(tmp_path / "model")
    plain = CustomDQN.load(tmp_path / "model", env=env, accelerate="none")
    plain.learn(60, reset_num_timesteps=False)
    fresh = CustomDQN("CnnPolicy", env, **SMALL)
    for name in ("fused", "foreach", "capturable"):
        assert plain.policy.optimizer.param_groups[0][name] == fresh.policy.optimizer.param_groups[0][name], name


def test_steps_of_each_environment_replace_the_period_of_a_loaded_model(tmp_path: Path) -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    CustomDQN("CnnPolicy", env, **SMALL, update_period=4).save(tmp_path / "model")
    again = CustomDQN.load(tmp_path / "model", env=env, train_freq=8, gradient_steps=3)
    assert again.update_period is None
    assert again.train_freq.frequency == 8  # type: ignore[union-attr]
    assert again.gradient_steps == 3


def test_a_loaded_memory_folds_steps_as_the_model_has_it(tmp_path: Path) -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    CustomDQN("CnnPolicy", env, **SMALL, n_steps=3).learn(40).save_replay_buffer(tmp_path / "memory")
    other = CustomDQN("CnnPolicy", env, **SMALL, gamma=0.5)
    other.load_replay_buffer(tmp_path / "memory")
    assert isinstance(other.replay_buffer, FrameReplayBuffer)
    assert (other.replay_buffer.n_steps, other.replay_buffer.gamma) == (1, 0.5)


class FrozenCNN(NatureCNN):
    """Its first convolution is not learnt."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cnn[0].requires_grad_(False)


@pytest.mark.parametrize("accelerate", ["none", "fused"])
def test_frozen_layers_stay_as_they_are(accelerate: str) -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    kwargs: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": FrozenCNN}, "update_period": 4}
    model = CustomDQN("CnnPolicy", env, **SMALL, **kwargs, accelerate=accelerate, precision="float32")
    before = [parameter.detach().clone() for parameter in model.q_net.parameters()]
    model.learn(100)
    changed = [not th.equal(*pair) for pair in zip(before, model.q_net.parameters(), strict=True)]
    assert changed == [False, False] + [True] * (len(before) - 2)

    # let go, and others frozen
    for parameter in model.q_net.parameters():
        parameter.requires_grad_(not parameter.requires_grad)
    before = [parameter.detach().clone() for parameter in model.q_net.parameters()]
    model.learn(100)
    changed = [not th.equal(*pair) for pair in zip(before, model.q_net.parameters(), strict=True)]
    assert changed == [True, True] + [False] * (len(before) - 2)


@pytest.mark.parametrize("accelerate", ["none", "fused"])
def test_goes_on_with_parameters_from_a_vector(accelerate: str) -> None:
    """Stable-Baselines3 gives them other memory then."""
    env = AleVecEnv(GAME, 4, seed=1)
    model = CustomDQN("CnnPolicy", env, **SMALL, update_period=4, accelerate=accelerate)
    model.policy.load_from_vector(model.policy.parameters_to_vector() * 0.5)
    model.learn(100)
    observations = model.policy.obs_to_tensor(env.reset())[0]
    with th.no_grad():
        assert th.allclose(model.learner.q_values(observations), model.q_net(observations), atol=1e-5)


class AuxiliaryCNN(NatureCNN):
    """It has a layer that is not used."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auxiliary = th.nn.Linear(3, 3)


@pytest.mark.parametrize("accelerate", ["none", "fused", "compile"])
def test_parameters_that_are_not_used_stay_as_they_are(accelerate: str) -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    kwargs: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": AuxiliaryCNN}, "update_period": 4}
    model = CustomDQN("CnnPolicy", env, **SMALL, **kwargs, accelerate=accelerate)
    before = {name: parameter.detach().clone() for name, parameter in model.q_net.named_parameters()}
    model.learn(60)
    for name, parameter in model.q_net.named_parameters():
        assert th.equal(parameter, before[name]) == ("auxiliary" in name), name


def test_auto_computes_plainly_what_cannot_be_accelerated() -> None:
    env = AleVecEnv(GAME, 4, seed=1)
    kwargs: dict[str, Any] = {"policy_kwargs": {"features_extractor_class": NormalizingCNN}}
    model = CustomDQN("CnnPolicy", env, **SMALL, **kwargs, precision="auto", accelerate="auto")
    assert type(model.learner) is Learner
    with pytest.raises(ValueError, match="cannot be accelerated: it keeps running statistics"):
        CustomDQN("CnnPolicy", env, **SMALL, **kwargs, precision="bf16", accelerate="auto")
