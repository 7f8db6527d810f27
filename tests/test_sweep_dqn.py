"""``SweepDQN``: what it learns, steers, writes, and refuses."""

import csv
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import AtariWrapper, NoopResetEnv
from stable_baselines3.common.callbacks import BaseCallback, LogEveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_atari_dqn import SweepDQN
from sb3_atari_dqn.learning.learner import Update
from sb3_atari_dqn.replay import sweep_memory
from sb3_atari_dqn.replay.sweep_memory import Sweep


class Corridor(gym.Env[np.ndarray, Any]):
    """
    Doors in a row. Each image shows one, and one of three actions opens it; behind the last one is the reward. After 20 steps
    it ends without.
    """

    keys = (0, 1, 2, 1)

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (1, 20, 20), np.uint8)
        self.action_space = spaces.Discrete(3)
        self.door = self.n_steps = 0

    def _image(self) -> np.ndarray:
        image = np.zeros((1, 20, 20), np.uint8)
        image[0, 5 * self.door : 5 * self.door + 5] = 255
        return image

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.door = self.n_steps = 0
        return self._image(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        self.door += int(action) == self.keys[self.door]
        is_through = self.door == len(self.keys)
        self.door %= len(self.keys)
        return self._image(), float(is_through), is_through or self.n_steps == 20, False, {}


SMALL: dict[str, Any] = {
    "policy_kwargs": {"features_extractor_class": "NipsCNN", "features_extractor_kwargs": {"features_dim": 32}},
    "buffer_size": 800,
    "replay_fraction": 0.5,
    "final_replay_fraction": 0.5,
    "signal_steps": 10_000,
    "exploration_steps": 3_000,
    "batch_size": 32,
    "loss_limit": 0.005,
    "final_loss_limit": 0.001,
    "final_learning_rate": 1e-4,
    "seed": 1,
}


def make_corridor(n_envs: int = 4) -> DummyVecEnv:
    env = make_vec_env(Corridor, n_envs)
    assert isinstance(env, DummyVecEnv)
    return env


def mean_score(model: SweepDQN) -> float:
    mean, _ = evaluate_policy(model, make_corridor(), 8, deterministic=True)
    return float(mean)  # type: ignore[arg-type]  # a number without return_episode_rewards


def test_learns_to_open_four_doors() -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL)
    model.learn(8000)
    assert model.n_fits >= 5
    assert mean_score(model) == 1.0


def test_does_not_learn_without_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sweep(q_values: np.ndarray, actions: np.ndarray, *_: Any) -> Sweep:
        return Sweep(q_values.copy(), np.zeros(actions.shape, np.float32))

    monkeypatch.setattr(sweep_memory, "sweep_backwards", no_sweep)
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL)
    model.learn(8000)
    assert model.n_fits >= 5
    assert mean_score(model) == 0.0


def test_learns_with_a_kept_memory_and_estimates_all_its_q_values_anew() -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL, keep_memory=True, exploration_final_eps=0.0)
    model.learn(400)  # exactly up to a fit
    memory = model.replay_memory
    assert memory is not None
    assert (model.n_fits, memory.n_used) == (1, 400)
    states, q_values = memory.read(memory.indices())
    with th.no_grad():
        expected = model.policy.q_net(th.as_tensor(states))
    np.testing.assert_allclose(q_values, expected, rtol=0, atol=1e-5)
    model.learn(8000, reset_num_timesteps=False)
    assert memory.n_used == 800, "full"
    assert mean_score(model) == 1.0


@pytest.mark.parametrize(
    ("n_states", "expected"),
    [
        # learning rate, loss limit, epochs, replay fraction, epsilon
        (0, (1e-3, 0.1, 5.0, 0.1, 1.0)),
        (500_000, (9.01e-4, 0.0915, 5.5, 0.19, 0.55)),
        (1_000_000, (8.02e-4, 0.083, 6.0, 0.28, 0.1)),
        (2_500_000, (5.05e-4, 0.0575, 7.5, 0.55, 0.1)),
        (5_000_000, (1e-5, 0.015, 10.0, 1.0, 0.1)),
        (9_000_000, (1e-5, 0.015, 10.0, 1.0, 0.1)),
    ],
)
def test_signals_of_the_tutorial(n_states: int, expected: tuple[float, ...]) -> None:
    model = SweepDQN("CnnPolicy", make_corridor(1), policy_kwargs=SMALL["policy_kwargs"])
    model.n_states = n_states
    assert (*model.signals, model.exploration_rate) == pytest.approx(expected)
    assert (model.gamma, model.batch_size, model.buffer_size, model.eval_epsilon) == (0.97, 128, 200_000, 0.01)


def test_optimizer_is_tensorflows_rmsprop() -> None:
    model = SweepDQN("CnnPolicy", make_corridor(1), **{**SMALL, "policy_kwargs": {"features_extractor_class": "NipsCNN"}})
    optimizer = model.policy.optimizer
    assert isinstance(optimizer, RMSpropTFLike)
    settings = {key: optimizer.defaults[key] for key in ("alpha", "eps", "momentum", "centered", "weight_decay")}
    assert settings == {"alpha": 0.9, "eps": 1e-10, "momentum": 0, "centered": False, "weight_decay": 0}


def test_fits_until_the_loss_is_low_enough_and_not_longer_than_allowed() -> None:
    def n_updates(**kwargs: Any) -> int:
        model = SweepDQN("CnnPolicy", make_corridor(), **{**SMALL, **kwargs})
        model.learn(400)
        assert model.n_fits == 1
        return model._n_updates

    per_epoch = 400 / 32
    assert n_updates(loss_limit=1e9) == math.ceil(per_epoch), "at least one epoch"
    assert n_updates(loss_limit=0.0, final_loss_limit=0.0, max_epochs=1, final_max_epochs=1) == math.ceil(per_epoch)
    assert n_updates(loss_limit=0.0, final_loss_limit=0.0, max_epochs=3, final_max_epochs=3) == int(3 * per_epoch)
    assert math.ceil(per_epoch) < n_updates(loss_limit=0.4, max_epochs=10) < int(10 * per_epoch), "until it is low enough"


def test_a_fit_ends_when_the_mean_loss_of_the_last_hundred_batches_is_low() -> None:
    """Losses of 1 and then of 0: with L of the last hundred at 1 their mean is L / 100, below 0.305 first for L = 30."""
    model = SweepDQN(
        "CnnPolicy",
        make_corridor(),
        **{**SMALL, "loss_limit": 0.305, "final_loss_limit": 0.305, "max_epochs": 50, "final_max_epochs": 50},
    )
    losses = iter([1.0] * 200 + [0.0] * 1000)
    model.learner.update = lambda batch: Update(th.tensor([next(losses)]), th.zeros(1))  # type: ignore[method-assign]
    model.learn(400)
    assert model._n_updates == 200 + 70


class Truncated(gym.Wrapper[np.ndarray, Any, np.ndarray, Any]):
    """Cuts each episode off after three steps."""

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        image, reward, terminated, _, info = self.env.step(action)
        corridor = self.env.unwrapped
        assert isinstance(corridor, Corridor)
        return image, reward, terminated, corridor.n_steps == 3, info


def test_a_time_limit_cuts_and_does_not_end() -> None:
    model = SweepDQN("CnnPolicy", make_vec_env(lambda: Truncated(Corridor()), 2), **SMALL)
    model.learn(20)
    memory = model.replay_memory
    assert memory is not None
    assert memory.cuts[0, :10].tolist() == [False, False, True] * 3 + [False]
    assert not memory.end_lives.any()
    assert model.n_episodes == 6


def assert_equal(expected: Any, found: Any) -> None:
    """Of dictionaries and lists with tensors in them."""
    if isinstance(expected, th.Tensor):
        assert th.equal(expected, found)
    elif isinstance(expected, dict):
        assert expected.keys() == found.keys()
        for key in expected:
            assert_equal(expected[key], found[key])
    elif isinstance(expected, list):
        for one, other in zip(expected, found, strict=True):
            assert_equal(one, other)
    else:
        assert expected == found


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def test_stopped_and_resumed_between_two_fits(tmp_path: Path) -> None:
    def make(folder: str) -> SweepDQN:
        return SweepDQN("CnnPolicy", make_corridor(), **SMALL, run_folder=str(tmp_path / folder))

    whole = make("whole").learn(3000)
    stopped = make("stopped")
    stopped.learn(1500)
    checkpoint = tmp_path / "stopped/checkpoint.zip"
    resumed = SweepDQN.load(checkpoint, env=make_corridor())
    assert resumed.num_timesteps == resumed.n_states < 1500, "written at the last fit"
    assert (resumed.n_fits, resumed._n_updates) == (stopped.n_fits, stopped._n_updates)
    n_states, n_episodes = resumed.n_states, resumed.n_episodes
    learnt, loaded = stopped.get_parameters(), resumed.get_parameters()
    assert_equal(learnt, loaded)
    assert loaded["policy.optimizer"]["state"][0]["step"] == resumed._n_updates
    kept = [row for row in rows(tmp_path / "stopped/rewards.csv")[1:] if int(row[1]) <= n_states]
    signals = resumed.signals
    assert signals.learning_rate == pytest.approx(1e-3 + (1e-4 - 1e-3) * n_states / 10_000)

    resumed.learn(3000 - n_states, reset_num_timesteps=False)
    assert resumed.n_states == whole.n_states == resumed.num_timesteps
    assert resumed.n_fits == whole.n_fits
    assert resumed.n_episodes > n_episodes
    log = pd.read_csv(tmp_path / "stopped/rewards.csv")
    assert log.columns.tolist() == ["episodes", "states", "reward", "mean_30"]
    assert rows(tmp_path / "stopped/rewards.csv")[1 : len(kept) + 1] == kept, "nothing is lost"
    assert log["episodes"].tolist() == list(range(1, resumed.n_episodes + 1)), "neither gap nor repetition"
    assert log["states"].is_monotonic_increasing
    assert log["mean_30"].to_numpy() == pytest.approx(log["reward"].rolling(30, min_periods=1).mean().to_numpy())
    sweeps = pd.read_csv(tmp_path / "stopped/q_values.csv")
    assert sweeps.columns.tolist() == ["episodes", "states", "min", "mean", "max", "std"]
    assert sweeps["states"].tolist() == pd.read_csv(tmp_path / "whole/q_values.csv")["states"].tolist()
    assert (sweeps["min"] <= sweeps["mean"]).all()
    assert (sweeps["mean"] <= sweeps["max"]).all()


def test_an_earlier_model_does_not_cut_a_runs_logs(tmp_path: Path) -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL, run_folder=str(tmp_path / "run"))
    model.learn(100)
    model.save(tmp_path / "early.zip")
    model.learn(1500, reset_num_timesteps=False)
    before = (tmp_path / "run/rewards.csv").read_text()
    early = SweepDQN.load(tmp_path / "early.zip", env=make_corridor())
    with pytest.raises(ValueError, match=r"holds the logs of a run that went on for more than one fit after this model"):
        early.learn(4)
    other = SweepDQN.load(tmp_path / "early.zip", env=make_corridor(), run_folder=str(tmp_path / "other"))
    other.learn(4)
    another = SweepDQN("CnnPolicy", make_corridor(), **SMALL).learn(4)
    another.run_folder = str(tmp_path / "run")
    with pytest.raises(ValueError, match="holds the logs of another run"):
        another.learn(4)
    assert (tmp_path / "run/rewards.csv").read_text() == before


def test_a_kept_memory_can_be_saved(tmp_path: Path) -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL, keep_memory=True).learn(500)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "replay_buffer.pkl")
    again = SweepDQN.load(tmp_path / "model.zip", env=make_corridor())
    again.load_replay_buffer(tmp_path / "replay_buffer.pkl")
    assert model.replay_memory is not None
    assert again.replay_memory is not None
    for expected, found in zip(*(m.read(m.indices()) for m in (model.replay_memory, again.replay_memory)), strict=True):
        assert np.array_equal(expected, found)
    assert again.replay_memory.cuts[:, 124].all()
    again.learn(300, reset_num_timesteps=False)
    assert (again.n_fits, again.replay_memory.n_used) == (2, 800)
    with pytest.raises(ValueError, match=r"holds a memory with n_envs=4, and this model needs 2"):
        SweepDQN.load(tmp_path / "model.zip", env=make_corridor(2)).load_replay_buffer(tmp_path / "replay_buffer.pkl")


def test_an_interrupted_fit_is_made_again_without_a_second_sweep(tmp_path: Path) -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL, run_folder=str(tmp_path))
    update = model.learner.update

    def interrupt(batch: Any) -> Update:
        raise KeyboardInterrupt

    model.learner.update = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        model.learn(800)
    assert model.replay_memory is not None
    errors = model.replay_memory.errors.copy()
    assert errors.any()
    model.learner.update = update  # type: ignore[method-assign]
    model.learn(4, reset_num_timesteps=False)
    assert model.n_fits == 1
    assert np.array_equal(model.replay_memory.errors[:, 1:], errors[:, 1:]), "but for the step that was played since"
    assert len(rows(tmp_path / "q_values.csv")) == 2, "its heading and one sweep"


class StopAt(BaseCallback):
    """Stops at a number of steps."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.n_steps


def test_a_step_at_which_a_callback_stops_is_kept() -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL).learn(400, callback=StopAt(20))
    memory = model.replay_memory
    assert memory is not None
    assert model.num_timesteps == model.n_states == memory.n_used == 20
    model.learn(20, reset_num_timesteps=False)
    assert memory.n_used == 40
    assert not memory.cuts.any()
    model.learn(80, callback=LogEveryNTimesteps(40), log_interval=None)


def test_optimizer_settings_are_those_of_the_model_that_learns(tmp_path: Path) -> None:
    adam = {**SMALL, "policy_kwargs": {**SMALL["policy_kwargs"], "optimizer_class": "Adam"}}
    SweepDQN("CnnPolicy", make_corridor(), **adam).learn(420).save(tmp_path / "adam.zip")
    fused = SweepDQN.load(tmp_path / "adam.zip", env=make_corridor(), accelerate="fused")
    assert fused.learn(800).n_fits == 3
    assert fused.policy.optimizer.param_groups[0]["fused"] is True


def test_counters_go_on_where_steps_are_counted_anew(tmp_path: Path) -> None:
    """As RL Zoo's -i does it."""
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL, run_folder=str(tmp_path)).learn(1000)
    model.save(tmp_path / "model.zip")
    again = SweepDQN.load(tmp_path / "model.zip", env=make_corridor(), run_folder=str(tmp_path / "second"))
    again.learn(400)
    assert again.num_timesteps == 400
    assert again.n_fits == model.n_fits + 1, "what was played since the last fit was not saved, and does not count"
    assert again.n_states == 1400
    assert again.exploration_rate == pytest.approx(1 - 0.9 * 1400 / 3000)
    assert int(rows(tmp_path / "second/rewards.csv")[1][0]) == model.n_episodes + 1


def test_the_memory_survives_between_two_calls_and_its_games_are_not_joined() -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL).learn(100)
    model.learn(100)
    memory = model.replay_memory
    assert memory is not None
    assert memory.n_used == 200
    assert memory.cuts[:, 24].all()
    model.learn(100, reset_num_timesteps=False)
    assert not memory.cuts[:, 49].any(), "the same games go on"


def test_same_seed_same_weights() -> None:
    def train(seed: int) -> th.Tensor:
        model = SweepDQN("CnnPolicy", make_corridor(), **{**SMALL, "seed": seed}).learn(800)
        return th.cat([parameter.detach().ravel() for parameter in model.policy.parameters()])

    assert th.equal(train(1), train(1))
    assert not th.equal(train(1), train(2))


def test_learns_from_the_log_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL, verbose=1, tensorboard_log=str(tmp_path))
    model.learn(500)
    output = capsys.readouterr()
    assert "episode 1, states " in output.out
    assert "epsilon 0.9" in output.out
    assert "mean of 2" in output.out
    for key in (
        "q_values_before_mean",
        "q_values_after_max",
        "q_values_change_min",
        "large_errors_share",
        "end_life_share",
        "end_episode_share",
        "reward_share",
        "epochs",
        "learning_rate",
        "exploration_rate",
    ):
        assert key in output.out
    assert "fit 1" in output.err, "its bar"
    assert list(tmp_path.rglob("events*"))
    SweepDQN("CnnPolicy", make_corridor(), **SMALL).learn(500)
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""


@pytest.mark.parametrize(("precision", "accelerate"), [("float32", "fused"), ("bf16", "fused")])
@pytest.mark.filterwarnings("ignore:precision=:UserWarning")
def test_learns_on_the_fast_learner(precision: str, accelerate: str) -> None:
    model = SweepDQN("CnnPolicy", make_corridor(), **SMALL, precision=precision, accelerate=accelerate).learn(8000)
    assert mean_score(model) == 1.0


EXERCISES: dict[str, dict[str, Any]] = {
    "keep the memory": {"keep_memory": True},
    "L2": {"policy_kwargs": {"features_extractor_class": "NipsCNN", "optimizer_kwargs": {"weight_decay": 1e-3}}},
    "another optimizer": {"policy_kwargs": {"features_extractor_class": "NipsCNN", "optimizer_class": "Adam"}},
    "raw rewards": {"clip_rewards": False},
    "dueling": {"policy_kwargs": {"features_extractor_class": "NipsCNN", "dueling": True}},
    "compressed": {"compression": "lz4"},
}


class Rich(Corridor):
    """Pays more than a clipped reward."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        image, reward, *others = super().step(action)
        return image, 5 * reward, *others  # type: ignore[return-value]  # the same types


def weights(**kwargs: Any) -> th.Tensor:
    """:return: all parameters after three fits"""
    settings = {**SMALL, "policy_kwargs": {"features_extractor_class": "NipsCNN"}, **kwargs}
    model = SweepDQN("CnnPolicy", make_vec_env(Rich, 4), **settings).learn(1200)
    assert model.n_fits == 3
    return th.cat([parameter.detach().ravel() for parameter in model.policy.parameters()])


@pytest.fixture(scope="module")
def unchanged_weights() -> th.Tensor:
    return weights()


@pytest.mark.parametrize("changed", EXERCISES.values(), ids=EXERCISES)
def test_exercises_change_what_is_learnt(changed: dict[str, Any], unchanged_weights: th.Tensor) -> None:
    same = th.equal(weights(**changed), unchanged_weights)
    assert same == ("compression" in changed)


def test_dropout_is_for_fits_and_not_for_play() -> None:
    network = {"features_extractor_class": "TutorialCNN", "features_extractor_kwargs": {"features_dim": 64, "dropout": 0.5}}
    model = SweepDQN("CnnPolicy", make_corridor(), **{**SMALL, "policy_kwargs": network, "max_epochs": 1})
    (dropout, *_) = (module for module in model.policy.q_net.modules() if isinstance(module, th.nn.Dropout))
    modes: dict[bool, int] = {False: 0, True: 0}
    dropout.register_forward_hook(lambda module, inputs, output: modes.update({module.training: modes[module.training] + 1}))
    model.learn(400)
    assert model.n_fits == 1
    assert modes[True] == model._n_updates
    assert modes[False] >= 50, "all games that were played with the network"
    images = th.rand(3, 1, 20, 20) * 255
    assert th.equal(model.learner.q_values(images), model.learner.q_values(images))


def test_no_op_starts_and_four_frames() -> None:
    """The tutorial's last exercise, on its own game, which skips frames by itself."""

    def wrap(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return AtariWrapper(NoopResetEnv(env, 30), noop_max=0, frame_skip=1, clip_reward=False)

    env = VecFrameStack(make_vec_env("ALE/Breakout-v5", 2, wrapper_class=wrap), 4)
    model = SweepDQN("CnnPolicy", env, **{**SMALL, "buffer_size": 200}, max_epochs=1, compression="lz4").learn(240)
    assert model.observation_space.shape == (4, 84, 84)
    assert model.n_fits == 2
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_goes_on_with_another_number_of_environments(tmp_path: Path) -> None:
    SweepDQN("CnnPolicy", make_corridor(4), **SMALL).learn(400).save(tmp_path / "model.zip")
    model = SweepDQN.load(tmp_path / "model.zip", env=make_corridor(2))
    assert (model.n_envs, model.n_states, model.n_fits) == (2, 400, 1)
    model.learn(400, reset_num_timesteps=False)
    assert (model.n_states, model.n_fits) == (800, 2)


def test_default_network_is_the_tutorials_with_dropout_if_asked() -> None:
    model = SweepDQN("CnnPolicy", make_corridor(1), policy_kwargs={"features_extractor_kwargs": {"dropout": 0.5}})
    extractor = model.policy.q_net.features_extractor
    assert type(extractor).__name__ == "TutorialCNN"
    named = SweepDQN(
        "CnnPolicy",
        make_corridor(1),
        policy_kwargs={"features_extractor_class": "TutorialCNN", "optimizer_class": "RMSpropTFLike"},
    )
    assert named.policy.normalize_images is False
    assert named.policy.optimizer.defaults["eps"] == 1e-10
    assert model.policy.normalize_images is False
    assert model.policy.q_net_target is model.policy.q_net
    image = th.randint(0, 256, (1, 1, 20, 20)).float()
    extractor.train(True)
    assert not th.equal(extractor(image), extractor(image))
    extractor.train(False)
    assert th.equal(extractor(image), extractor(image))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"buffer_size": 1000, "replay_fraction": 0.1, "batch_size": 128}, r"buffer_size=1000.* 100 states, and it needs 128"),
        ({"replay_fraction": 0.0}, r"replay_fraction=0.0 make a fit due at 0 states"),
        ({"replay_fraction": 1.5}, r"replay_fraction=1.5 must be a number in \[0, 1\]"),
        (
            {"replay_fraction": 0.5, "final_replay_fraction": 0.2},
            r"final_replay_fraction=0.2 must be at least replay_fraction",
        ),
        ({"policy_kwargs": {"distribution": "quantile"}}, r"distribution='quantile' does not go with SweepDQN"),
        ({"policy_kwargs": {"noisy_sigma": 0.5}}, r"noisy_sigma=0.5 does not go with SweepDQN"),
        ({"policy_kwargs": {"dueling": 1}}, r"dueling=1 must be True or False"),
        ({"loss_limit": -1}, r"loss_limit=-1 must be a number of at least 0"),
        ({"loss_limit": 0.1, "final_loss_limit": 0.2}, r"final_loss_limit=0.2 must be at most loss_limit=0.1"),
        ({"max_epochs": 0.5}, r"max_epochs=0.5 must be a number of at least 1"),
        ({"max_epochs": 8, "final_max_epochs": 2}, r"final_max_epochs=2 must be at least max_epochs=8"),
        ({"learning_rate": 1e-4, "final_learning_rate": 1e-3}, r"final_learning_rate=0.001 must be at most learning_rate"),
        ({"learning_rate": lambda progress: progress}, r"learning_rate=.* must be a number: it falls"),
        ({"loss_limit": 0.0}, r"final_loss_limit=0.015 must be at most loss_limit=0.0"),
        ({"final_max_epochs": math.inf}, r"final_max_epochs=inf must be a number of at least 0"),
        ({"exploration_initial_eps": 0.05}, r"exploration_final_eps=0.1 must be at most exploration_initial_eps=0.05"),
        ({"signal_steps": 0}, r"signal_steps=0 must be a whole number of states, at least 1"),
        ({"exploration_initial_eps": 1.1}, r"exploration_initial_eps=1.1 must be a number in \[0, 1\]"),
        ({"gamma": float("nan")}, r"gamma=nan must be a number in \[0, 1\]"),
        ({"keep_memory": "yes"}, r"keep_memory='yes' must be True or False"),
        ({"compression": "gzip"}, r"compression='gzip' is not known; choose one of 'lz4', 'zstd', None"),
        ({"precision": "float16"}, r"precision='float16' is not known"),
    ],
)
def test_refuses_bad_values_before_an_environment_is_made(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SweepDQN("CnnPolicy", "NoSuchGame-v0", **kwargs)


@pytest.mark.parametrize("name", ["replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"])
def test_refuses_other_buffers(name: str) -> None:
    other: dict[str, Any] = {name: "FrameReplayBuffer"}
    with pytest.raises(
        TypeError, match=rf"'{name}': a sweep needs a memory of its own.*buffer_size, compression and keep_memory"
    ):
        SweepDQN("CnnPolicy", "NoSuchGame-v0", **other)


def test_refuses_misspelt_arguments_vectors_and_a_used_folder(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no argument 'loss_limitt'; did you mean 'loss_limit'"):
        SweepDQN("CnnPolicy", "NoSuchGame-v0", loss_limitt=0.1)
    with pytest.raises(ValueError, match="states of one array of bytes, uint8, not Box"):
        SweepDQN("MlpPolicy", "CartPole-v1")
    with pytest.raises(ValueError, match=r"two of each environment"):
        SweepDQN("CnnPolicy", make_corridor(300), buffer_size=5000, policy_kwargs=SMALL["policy_kwargs"])
    with pytest.raises(ValueError, match="log_interval=0 must be a whole number of fits"):
        SweepDQN("CnnPolicy", make_corridor(), **SMALL).learn(8, log_interval=0)
    with pytest.warns(UserWarning, match="Without a Monitor"):
        SweepDQN("CnnPolicy", DummyVecEnv([Corridor]), **SMALL).learn(8)
    SweepDQN("CnnPolicy", make_corridor(), **SMALL, run_folder=str(tmp_path)).learn(8)
    with pytest.raises(ValueError, match="holds the logs of a run already"):
        SweepDQN("CnnPolicy", make_corridor(), **SMALL, run_folder=str(tmp_path))
