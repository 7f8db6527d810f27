"""What a user replaces on a finished model takes effect, as in Stable-Baselines3; what is changed in place is noticed."""

import copy
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_atari_dqn import CustomDQN, FrameReplayBuffer, NipsCNN, SweepDQN
from sb3_atari_dqn.learning.accelerate import AcceleratedLearner
from sb3_atari_dqn.learning.learner import Learner
from sb3_atari_dqn.networks.extractors import NatureCNN, TutorialCNN
from sb3_atari_dqn.networks.policy import CnnPolicy
from sb3_atari_dqn.networks.q_network import ActionValueNetwork
from tests.test_dqn import CARTPOLE, assert_same

#: SGD's steps are linear in the gradients, so that a fast learner's may be compared with a plain one's
SGD: dict[str, Any] = {"optimizer_class": th.optim.SGD}
FAST: dict[str, Any] = {"precision": "float32", "accelerate": "fused"}


class RandomImages(gym.Env):
    """Images, rewards and ends that do not depend on what is done."""

    observation_space = spaces.Box(0, 255, (4, 36, 36), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._draw(), {}

    def _draw(self) -> np.ndarray:
        return self.np_random.integers(0, 256, (4, 36, 36), dtype=np.uint8)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._draw(), self.np_random.normal(), bool(self.np_random.random() < 0.2), False, {}


def make_env() -> DummyVecEnv:
    return DummyVecEnv([RandomImages])


def filled(algorithm: type[DQN], **kwargs: Any) -> Any:
    """A model with 40 transitions in its replay buffer, which has learnt nothing yet."""
    settings: dict[str, Any] = {"learning_starts": 40, "buffer_size": 100, "seed": 3, "learning_rate": 0.02, **kwargs}
    settings["policy_kwargs"] = {**SGD, **kwargs.get("policy_kwargs", {})}
    model = algorithm("CnnPolicy", make_env(), **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="training ends at step 40, before it learns")
        model.learn(40)
    assert model._n_updates == 0
    return model


def train(model: Any, n_updates: int = 1, seed: int = 0) -> None:
    np.random.seed(seed)  # of what is sampled
    model.train(n_updates, 8)


def assert_close(model: Any, other: Any) -> None:
    """Weights, but for what another order of sums makes of float32."""
    state, other_state = model.policy.state_dict(), other.policy.state_dict()
    for key, value in state.items():
        th.testing.assert_close(other_state[key], value, rtol=1e-3, atol=1e-5)


def replace_optimizer(model: Any) -> None:
    model.policy.optimizer = th.optim.SGD(model.policy.q_net.parameters(), lr=0.02, momentum=0.9)


def replace_max_grad_norm(model: Any) -> None:
    model.max_grad_norm = 0.01


def replace_extractor(model: Any) -> None:
    th.manual_seed(1)
    for network in (model.q_net, model.q_net_target):
        network.features_extractor = NatureCNN(model.observation_space)
        network.features_extractor.load_state_dict(model.q_net.features_extractor.state_dict())
    replace_optimizer(model)


def replace_head(model: Any) -> None:
    th.manual_seed(1)
    for network in (model.q_net, model.q_net_target):
        network.q_net = nn.Sequential(nn.Linear(512, 3))
        network.q_net.load_state_dict(model.q_net.q_net.state_dict())
    replace_optimizer(model)


def replace_target_network(model: Any) -> None:
    th.manual_seed(1)
    model.q_net_target = model.policy.make_q_net()
    model.q_net_target.train(False)
    for parameter in model.q_net_target.parameters():
        parameter.data.mul_(3)


REPLACEMENTS = [replace_optimizer, replace_max_grad_norm, replace_extractor, replace_head, replace_target_network]


@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_a_replaced_part_takes_effect_as_in_sb3(replace: Callable[[Any], None], tmp_path: Path) -> None:
    models = {
        name: filled(DQN if name == "sb3" else CustomDQN, **(FAST if name == "fast" else {}))
        for name in ("sb3", "plain", "fast")
    }
    untouched = filled(CustomDQN)
    assert isinstance(models["fast"].learner, AcceleratedLearner)
    for model in (*models.values(), untouched):
        train(model)
        if model is not untouched:
            replace(model)
        train(model, 3, seed=1)
    models["sb3"].policy.q_net_target = models["sb3"].q_net_target  # the policy's stays as it was in SB3
    assert_same(models["sb3"], models["plain"])
    assert_close(models["sb3"], models["fast"])
    assert not th.allclose(untouched.q_net.q_net[-1].weight, models["plain"].q_net.q_net[-1].weight, atol=1e-6)
    for name in ("plain", "fast"):  # what explores, what predicts and what is saved is one network
        model = models[name]
        observations = th.randint(0, 256, (8, 4, 36, 36), dtype=th.uint8, generator=th.Generator().manual_seed(0))
        with th.no_grad():
            th.testing.assert_close(
                model.learner.q_values(observations), model.policy.q_net(observations), rtol=1e-3, atol=1e-4
            )
        assert model.policy.optimizer is model.learner.optimizer
        if replace in (replace_optimizer, replace_max_grad_norm):
            model.save(tmp_path / name)
            saved: dict[str, Any] = load_from_zip_file(tmp_path / name)[1]
            momentum = saved["policy.optimizer"]["state"]
            assert bool(momentum) == (replace is replace_optimizer)


@pytest.mark.parametrize("accelerate", ["none", "fused"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "mse"),
        ("huber_delta", 0.01),
        ("double_q", True),
        ("munchausen", True),
        ("clip_rewards", True),
        ("gamma", 0.5),
        ("target_update_interval", None),
        ("precision", "bf16"),
    ],
)
@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_a_setting_that_is_replaced_is_that_of_the_constructor(name: str, value: Any, accelerate: str) -> None:
    default, replaced = filled(CustomDQN, accelerate=accelerate), filled(CustomDQN, accelerate=accelerate)
    constructed = filled(CustomDQN, accelerate=accelerate, **{name: value})
    for model in (default, replaced, constructed):
        if model.q_net_target is not model.q_net:  # other best actions
            for parameter in model.q_net_target.parameters():
                parameter.data.neg_()
    assert isinstance(replaced.learner, Learner)
    setattr(replaced, name, value)
    for model in (default, replaced, constructed):
        train(model, 3)
    assert_same(constructed, replaced)
    assert not th.equal(default.q_net.q_net[-1].weight, replaced.q_net.q_net[-1].weight)


def test_a_target_network_can_be_wanted_afterwards() -> None:
    model = filled(CustomDQN, target_update_interval=None)
    assert model.q_net_target is model.q_net
    model.target_update_interval = 50
    model.train(1, 8)
    assert model.q_net_target is not model.q_net
    assert not th.equal(model.q_net_target.q_net[-1].weight, model.q_net.q_net[-1].weight)
    model.learning_starts = 1000
    with pytest.warns(UserWarning, match="before it learns"):
        model.learn(12, reset_num_timesteps=False)
    assert th.equal(model.q_net_target.q_net[-1].weight, model.q_net.q_net[-1].weight)


def test_the_update_period_can_be_replaced() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, "train_freq": 4}).learn(100)
    model.update_period = 2
    model.learn(40, reset_num_timesteps=False)
    assert model._n_updates == 20


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss", "hubber", "loss='hubber' is not known"),
        ("huber_delta", -1, "huber_delta=-1 must be"),
        ("precision", "half", "precision='half' is not known"),
        ("update_period", 0, "update_period=0 must be"),
        ("n_steps", 3, "n_steps=3 needs an NStepReplayBuffer"),
        ("clip_rewards", "no", "clip_rewards='no' must be True or False"),
    ],
)
def test_a_replacement_that_is_not_allowed_is_refused(name: str, value: Any, message: str) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE).learn(110)
    setattr(model, name, value)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            model.train(1, 8)
    assert model._n_updates == 10


def test_without_a_target_network_another_one_is_refused() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, "target_update_interval": None}).learn(110)
    model.q_net_target = model.policy.make_q_net()
    with pytest.raises(ValueError, match="target_update_interval=None means that there is one network"):
        model.train(1, 8)


def test_a_replaced_network_plays_and_learns() -> None:
    model = filled(CustomDQN, target_update_interval=None, **FAST)
    other = model.policy.make_q_net()
    model.q_net = other
    assert model.policy.q_net is model.q_net is model.q_net_target is other
    model.policy.optimizer = th.optim.SGD(other.parameters(), lr=0.02)
    before = copy.deepcopy(other.state_dict())
    model.train(1, 8)
    assert all(not th.equal(value, before[key]) for key, value in other.state_dict().items())


def test_a_replaced_buffer_is_learnt_from_as_asked() -> None:
    """Priorities and clipping follow the buffer that is there, not the one that the constructor was asked for."""
    model = filled(CustomDQN, clip_rewards=True, loss=None, policy_kwargs={"distribution": "quantile"})
    arguments = 100, model.observation_space, model.action_space
    model.replay_buffer = FrameReplayBuffer(*arguments, priority_exponent=0.6)
    observations = np.random.randint(0, 256, (31, 1, 4, 36, 36), dtype=np.uint8)
    for obs, next_obs in itertools.pairwise(observations):
        model.replay_buffer.add(obs, next_obs, np.zeros((1, 1)), np.full(1, 7.0), np.zeros(1, dtype=bool), [{}])
    model.train(1, 8)
    assert model.replay_buffer._get_samples(np.array([0])).rewards.item() == 1
    assert model.learner.loss.objective.has_priorities


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("loaded", [False, True])
def test_offline_training_makes_its_updates_at_once(overlap: bool, loaded: bool, tmp_path: Path) -> None:
    DQN("MlpPolicy", "CartPole-v1", **CARTPOLE).learn(100).save_replay_buffer(tmp_path / "buffer")
    trained = []
    for algorithm in (DQN, CustomDQN):
        kwargs: dict[str, Any] = {"overlap": overlap} if algorithm is CustomDQN else {}
        model = algorithm("MlpPolicy", "CartPole-v1", **CARTPOLE, **kwargs)
        if loaded:
            model.save(tmp_path / "model")
            model = algorithm.load(tmp_path / "model", env=model.get_env())
        model.load_replay_buffer(tmp_path / "buffer")
        model.set_logger(configure(None, []))
        np.random.seed(1)
        model.train(20, 8)
        assert model._n_updates == 20
        assert model.logger.name_to_value["train/loss"] > 0
        trained.append(model)
    assert_same(*trained)


class OtherWeights(BaseCallback):
    """At one step, gives the network other weights, and notes what it plays with then."""

    def __init__(self, change: Callable[[Any], None], at_step: int) -> None:
        super().__init__()
        self.change, self.at_step = change, at_step
        self.played: list[np.ndarray] = []
        self.best: list[np.ndarray] = []

    def _on_step(self) -> bool:
        if self.num_timesteps == self.at_step:
            self.change(self.model)
        if self.num_timesteps >= self.at_step:
            self.best.append(self.model.predict(self.locals["new_obs"], deterministic=True)[0])
            if self.num_timesteps > self.at_step:
                self.played.append(self.locals["actions"])
        return True


def load_other_weights(model: Any) -> None:
    th.manual_seed(7)
    other = model.policy.make_q_net()
    for parameter in other.parameters():
        parameter.data.mul_(2)
    model.q_net.load_state_dict(other.state_dict())


def change_in_place(model: Any) -> None:
    with th.no_grad():
        model.q_net.features_extractor.linear[0].weight.neg_()


def change_through_data(model: Any) -> None:
    model.q_net.features_extractor.linear[0].weight.data[:64].mul_(50)


def freeze(model: Any) -> None:
    model.q_net.features_extractor.requires_grad_(False)


CHANGES = [load_other_weights, change_in_place, change_through_data]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_changed_weights_are_noticed_before_the_next_action_and_update(change: Callable[[Any], None], precision: str) -> None:
    model = filled(CustomDQN, precision=precision, accelerate="fused")
    observations = th.randint(0, 256, (8, 4, 36, 36), dtype=th.uint8, generator=th.Generator().manual_seed(0))
    before = model.learner.q_values(observations)
    change(model)
    with th.no_grad():
        expected = model.policy.q_net(observations)
    moved = (before - expected).norm()
    assert (model.learner.q_values(observations) - expected).norm() < 0.1 * moved
    change(model)  # and again, without an action in between
    plain = filled(CustomDQN)
    plain.policy.load_state_dict(model.policy.state_dict())
    before_update = copy.deepcopy(model.policy.state_dict())
    for each in (plain, model):
        train(each)
    steps = [
        th.cat([(each.policy.state_dict()[key] - value).flatten() for key, value in before_update.items()])
        for each in (plain, model)
    ]
    assert th.cosine_similarity(steps[0], steps[1], dim=0) > 0.9


def test_a_changed_target_network_is_noticed_before_the_next_update() -> None:
    models = [filled(CustomDQN), filled(CustomDQN, **FAST)]
    untouched = filled(CustomDQN)
    for model in (*models, untouched):
        train(model)
        if model is not untouched:
            with th.no_grad():
                model.q_net_target.features_extractor.linear[0].weight.mul_(-5)
        train(model, 2)
    assert_close(*models)
    assert not th.allclose(untouched.q_net.q_net[-1].weight, models[0].q_net.q_net[-1].weight, atol=1e-5)


def test_weights_that_a_callback_changes_are_played_with_at_once() -> None:
    model = CustomDQN(
        "CnnPolicy", make_env(), learning_starts=0, train_freq=40, buffer_size=100, seed=3, exploration_initial_eps=0.0,
        exploration_final_eps=0.0, **FAST,
    )  # fmt: skip
    callback = OtherWeights(load_other_weights, at_step=10)
    model.learn(40, callback)
    assert len(callback.played) == 30
    assert callback.played == callback.best[:-1]


def test_frozen_layers_stay_as_they_are() -> None:
    model = filled(CustomDQN, **FAST)
    model.train(1, 8)
    freeze(model)
    before = copy.deepcopy(model.q_net.state_dict())
    model.train(2, 8)
    for key, value in model.q_net.state_dict().items():
        assert th.equal(value, before[key]) == key.startswith("features_extractor"), key


def test_sweep_dqn_follows_too() -> None:
    model = SweepDQN("CnnPolicy", make_env(), buffer_size=100, batch_size=8, **FAST)
    observations = th.randint(0, 256, (8, 4, 36, 36), dtype=th.uint8)
    model.policy.q_net.features_extractor = NipsCNN(model.observation_space, features_dim=model.policy.q_net.features_dim)
    with th.no_grad():
        expected = model.policy.q_net(observations)
    th.testing.assert_close(model.learner.q_values(observations), expected, rtol=1e-3, atol=1e-4)
    model.policy.optimizer = th.optim.SGD(model.policy.q_net.parameters(), lr=0.1)
    assert model.learner.optimizer is model.policy.optimizer


class ClippingAdam(th.optim.Adam):
    """An Adam whose step is its own: it does not know that the fused learner divides the gradient by ``grad_scale``."""

    @th.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad)


def test_gradients_are_clipped_for_an_adam_with_a_step_of_its_own() -> None:
    kwargs = {"policy_kwargs": {"optimizer_class": ClippingAdam}, "max_grad_norm": 0.001}
    models = [filled(CustomDQN, **kwargs, **speed) for speed in ({}, FAST)]
    start = copy.deepcopy(models[0].policy.state_dict())
    for model in models:
        train(model)
        squares = [(value - start[key]).square().sum() for key, value in model.policy.state_dict().items()]
        assert th.stack(squares).sum().sqrt().item() == pytest.approx(0.02 * 0.001, rel=0.01)


class TiedNetwork(ActionValueNetwork):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.features_extractor.linear[0].bias = self.features_extractor.cnn[4].bias = nn.Parameter(th.zeros(64))  # type: ignore[union-attr,index]


class HalvingNetwork(ActionValueNetwork):
    def extract_features(self, obs: Any, features_extractor: Any) -> th.Tensor:
        return super().extract_features(obs // 2, features_extractor)


@pytest.mark.parametrize("network", [TiedNetwork, HalvingNetwork])
def test_networks_that_a_copy_would_compute_otherwise_are_refused(network: type[ActionValueNetwork]) -> None:
    class Policy(CnnPolicy):
        def make_q_net(self) -> ActionValueNetwork:
            net_args = self._update_features_extractor(self.net_args, features_extractor=None)
            return network(**net_args)

    kwargs: dict[str, Any] = {"buffer_size": 100, "policy_kwargs": {"features_extractor_kwargs": {"features_dim": 64}}}
    with pytest.raises(ValueError, match=f"{network.__name__} cannot be accelerated"):
        CustomDQN(Policy, make_env(), accelerate="fused", **kwargs)
    assert type(CustomDQN(Policy, make_env(), accelerate="auto", **kwargs).learner) is Learner


@pytest.mark.parametrize("speed", [{}, FAST], ids=["plain", "fast"])
@pytest.mark.parametrize("setting", [{"target_update_interval": None}, {"double_q": True}], ids=["one network", "double_q"])
def test_dropout_is_for_what_is_differentiated_only(setting: dict[str, Any], speed: dict[str, Any]) -> None:
    """Targets without a target network, double Q-learning's next actions, and exploration are computed without dropout."""
    kwargs = {"features_extractor_class": TutorialCNN, "features_extractor_kwargs": {"dropout": 0.9, "features_dim": 16}}
    model = filled(CustomDQN, policy_kwargs=kwargs, **setting, **speed)
    modes: list[tuple[bool, bool]] = []
    network = model.q_net if not speed else model.learner._online
    dropout = next(module for module in network.modules() if isinstance(module, nn.Dropout))
    dropout.register_forward_hook(lambda module, *_: modes.append((th.is_grad_enabled(), module.training)))
    train(model)
    model.learner.q_values(th.zeros((1, 4, 36, 36), dtype=th.uint8))
    assert modes == [(False, False), (True, True), (False, False)]


class PreTraining(BaseCallback):
    def _on_training_start(self) -> None:
        self.model.train(20, 8)  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        return True


def test_a_callback_may_train_before_the_first_step(tmp_path: Path) -> None:
    DQN("MlpPolicy", "CartPole-v1", **CARTPOLE).learn(100).save_replay_buffer(tmp_path / "buffer")
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE)
    model.load_replay_buffer(tmp_path / "buffer")
    with pytest.warns(UserWarning, match="before it learns"):
        model.learn(1, PreTraining())
    assert model._n_updates == 20


class Remembering(NatureCNN):
    """It has a buffer that only one of the networks has filled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("last", None)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.last = observations.detach()
        return super().forward(observations)


def test_buffers_that_only_one_network_has_are_left() -> None:
    kwargs = {"features_extractor_class": Remembering}
    model = CustomDQN(
        "CnnPolicy", make_env(), learning_starts=8, target_update_interval=10, buffer_size=50, policy_kwargs=kwargs
    )
    assert model.learn(40)._n_updates > 0
