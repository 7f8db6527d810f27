"""``CustomDQN`` beside Stable-Baselines3's DQN, and what it does beyond it."""

import csv
import inspect
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from torch import nn

from sb3_atari_dqn import AleVecEnv, CustomDQN, FrameReplayBuffer, SweepDQN
from sb3_atari_dqn.learning.learner import Update
from tests.conftest import MakeAtari

CARTPOLE: dict[str, Any] = {
    "learning_starts": 100,
    "train_freq": 1,
    "target_update_interval": 50,
    "buffer_size": 1000,
    "seed": 3,
}


def weights_and_optimizer(model: DQN) -> dict[str, th.Tensor]:
    state = {f"policy.{key}": value for key, value in model.policy.state_dict().items()}
    for index, moments in model.policy.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
    return state


def first_weight(q_net: nn.Module) -> th.Tensor:
    return next(iter(q_net.parameters()))


def assert_same(model: DQN, other: DQN) -> None:
    state, other_state = weights_and_optimizer(model), weights_and_optimizer(other)
    assert state.keys() == other_state.keys()
    for key, value in state.items():
        assert th.equal(value, other_state[key]), key


@pytest.mark.parametrize("kwargs", [{"batch_size": 32}, {"batch_size": 30}, {"n_steps": 3}, {"exploration_final_eps": 0.0}])
def test_trains_bit_for_bit_as_sb3_on_vectors(kwargs: dict[str, Any]) -> None:
    models = [algorithm("MlpPolicy", "CartPole-v1", **CARTPOLE, **kwargs).learn(700) for algorithm in (DQN, CustomDQN)]
    assert models[0]._n_updates == models[1]._n_updates == 600
    assert_same(*models)


def test_trains_bit_for_bit_as_sb3_on_images(make_atari: MakeAtari) -> None:
    models = [
        algorithm(
            "CnnPolicy",
            make_atari(),
            learning_starts=100,
            train_freq=1,
            target_update_interval=60,
            buffer_size=1000,
            exploration_fraction=0.5,
            seed=3,
        ).learn(400)
        for algorithm in (DQN, CustomDQN)
    ]
    assert models[0]._n_updates == models[1]._n_updates == 300
    assert_same(*models)


def test_seeds_decide() -> None:
    def train(seed: int) -> CustomDQN:
        return CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, "seed": seed}).learn(300)

    first, again, other = train(1), train(1), train(2)
    assert_same(first, again)
    assert not th.equal(first_weight(first.q_net), first_weight(other.q_net))


@pytest.mark.parametrize("changed", [{"loss": "mse"}, {"huber_delta": 0.1}, {"target_update_interval": None}])
def test_options_change_what_is_learnt(changed: dict[str, Any]) -> None:
    plain, other = (CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, **kwargs}).learn(300) for kwargs in ({}, changed))
    assert other._n_updates == 200
    assert not th.equal(first_weight(plain.q_net), first_weight(other.q_net))


def test_without_target_network_bootstraps_from_itself() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", learning_starts=10, target_update_interval=None, buffer_size=100)
    before = {key: value.clone() for key, value in model.q_net.state_dict().items()}
    model.learn(50)
    assert model.q_net_target is model.q_net
    assert model.learner.q_net_target is model.q_net
    assert model._n_updates > 0
    assert any(not th.equal(value, before[key]) for key, value in model.q_net.state_dict().items())
    assert all(value.abs().sum() > 0 for key, value in model.q_net.state_dict().items() if "weight" in key)


def test_target_network_is_copied_every_interval() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, "target_update_interval": 150})
    model.learn(149)
    assert not th.equal(first_weight(model.q_net), first_weight(model.q_net_target))
    copied = first_weight(model.q_net).clone()
    model.learn(1, reset_num_timesteps=False)
    # the copy is made right after the step, before the update that follows it
    assert th.equal(first_weight(model.q_net_target), copied)


class OneReward(gym.Env):
    """One-step episodes of images, each with the same reward."""

    observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, reward: float) -> None:
        self.reward = reward

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, (1, 36, 36), dtype=np.uint8), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.np_random.integers(0, 256, (1, 36, 36), dtype=np.uint8), self.reward, True, False, {}


@pytest.mark.parametrize(("clip", "value"), [(True, -1.0), (False, -3.0)])
def test_clipping_changes_what_is_learnt_not_what_is_reported(clip: bool, value: float) -> None:
    env = Monitor(OneReward(-3.0))
    model = CustomDQN(
        "CnnPolicy", env, clip_rewards=clip, learning_starts=20, train_freq=1, buffer_size=300, learning_rate=1e-3, seed=0
    )
    model.learn(300)
    q_values = model.q_net(model.policy.obs_to_tensor(env.reset(seed=1)[0])[0])
    assert q_values.mean().item() == pytest.approx(value, abs=0.3)
    assert {episode["r"] for episode in model.ep_info_buffer or ()} == {-3.0}
    assert model.replay_buffer is not None
    assert set(model.replay_buffer.rewards[:300].ravel()) == {-3.0}
    assert evaluate_policy(model, env, 2)[0] == -3.0


def test_epsilon_is_drawn_for_each_environment() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=1, seed=0, eval_epsilon=0.5)
    observations = np.tile(np.array([0.1, 0.2, 0.1, 0.2], dtype=np.float32), (50_000, 1))
    greedy = model.predict(observations[:1], deterministic=True)[0][0]
    actions = model.predict(observations, deterministic=False)[0]
    assert actions.shape == (50_000,)
    # half of them explore, half of those find the greedy action by chance: 75 %, standard deviation 0.2 %
    assert np.mean(actions == greedy) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(("eval_epsilon", "rate"), [(0.0, 0.0), (1.0, 1.0)])
def test_playing_does_not_depend_on_exploration(eval_epsilon: float, rate: float) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=1, seed=0, eval_epsilon=eval_epsilon)
    model.exploration_rate = 1 - rate
    observation = np.array([0.1, 0.2, 0.1, 0.2], dtype=np.float32)
    greedy = model.predict(observation, deterministic=True)[0]
    assert greedy.shape == ()
    others = [model.predict(observation)[0] != greedy for _ in range(1000)]
    assert np.mean(others) == pytest.approx(rate / 2, abs=0.06)
    assert {int(model.predict(observation, deterministic=True)[0]) for _ in range(50)} == {int(greedy)}


def test_logs_q_values_and_sb3s_keys(tmp_path: Path) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, "learning_starts": 10})
    model.set_logger(configure(str(tmp_path), ["csv", "tensorboard"]))
    seen: list[th.Tensor] = []
    update = model.learner.update

    def spy(batch: Any) -> Update:
        with th.no_grad():
            seen.append(model.q_net(batch.observations))
        return update(batch)

    model.learner.update = spy  # type: ignore[method-assign]
    model.learn(100, log_interval=1000)
    model.dump_logs()
    row = list(csv.DictReader((tmp_path / "progress.csv").open()))[-1]
    q_values = th.cat(seen).double()
    assert len(q_values) == 90 * 32
    assert float(row["train/q_values_mean"]) == pytest.approx(q_values.mean().item(), rel=1e-4)
    assert float(row["train/q_values_std"]) == pytest.approx(q_values.std(correction=0).item(), rel=1e-3)
    assert float(row["train/q_values_min"]) == pytest.approx(q_values.min().item(), rel=1e-5)
    assert float(row["train/q_values_max"]) == pytest.approx(q_values.max().item(), rel=1e-5)
    for key in ("train/loss", "train/learning_rate", "train/n_updates", "rollout/exploration_rate", "rollout/ep_rew_mean"):
        assert row[key] != "", key
    assert list(tmp_path.glob("events.out.tfevents.*"))


def first_observation(env: VecEnv) -> np.ndarray:
    observation = env.reset()
    assert isinstance(observation, np.ndarray)
    return observation


class CountedReplayBuffer(ReplayBuffer):
    """Counts how often a replay memory is allocated."""

    allocated = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        type(self).allocated += 1


def test_loading_to_play_allocates_no_replay_memory(make_atari: MakeAtari, tmp_path: Path) -> None:
    env = make_atari()
    model = CustomDQN("CnnPolicy", env, buffer_size=100, replay_buffer_class=CountedReplayBuffer, seed=0)
    assert CountedReplayBuffer.allocated == 1
    model.save(tmp_path / "model")
    for loaded in (CustomDQN.load(tmp_path / "model"), CustomDQN.load(tmp_path / "model", env=env)):
        observation = first_observation(env)
        assert loaded.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
        assert loaded.replay_buffer is None
        assert CountedReplayBuffer.allocated == 1
    loaded.learn(1)
    assert CountedReplayBuffer.allocated == 2
    assert loaded.replay_buffer is not None
    assert loaded.replay_buffer.buffer_size == 100


def test_save_load_go_on(tmp_path: Path) -> None:
    settings = {"loss": "mse", "clip_rewards": True, "target_update_interval": None, "eval_epsilon": 0.2}
    model = CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, **settings})
    model.learn(150)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    loaded = CustomDQN.load(tmp_path / "model", env=DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    assert_same(model, loaded)
    assert {key: getattr(loaded, key) for key in settings} == settings
    loaded.load_replay_buffer(tmp_path / "memory")
    assert loaded.replay_buffer is not None
    assert loaded.replay_buffer.pos == 150
    loaded.learn(50, reset_num_timesteps=False)
    loaded.learn(50, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded._n_updates) == (250, 150)


def test_the_target_network_is_not_what_a_model_without_one_loads(tmp_path: Path) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **{**CARTPOLE, "target_update_interval": 10_000}).learn(200)
    assert not th.equal(first_weight(model.q_net), first_weight(model.q_net_target))
    model.save(tmp_path / "with")
    without = CustomDQN.load(tmp_path / "with", target_update_interval=None)
    assert th.equal(first_weight(without.q_net), first_weight(model.q_net))
    without.save(tmp_path / "without")
    again = CustomDQN.load(tmp_path / "without", target_update_interval=50)
    assert again.q_net_target is not again.q_net
    assert th.equal(first_weight(again.q_net), first_weight(model.q_net))
    assert th.equal(first_weight(again.q_net_target), first_weight(model.q_net))
    model.set_parameters(without.get_parameters())


def test_arguments_by_position_are_sb3s() -> None:
    names = list(inspect.signature(DQN.__init__).parameters)[3:]
    values = [getattr(DQN("MlpPolicy", "CartPole-v1", buffer_size=10), name, None) for name in names]
    values = values[: names.index("target_update_interval")]
    values[names.index("learning_rate")] = 1e-3
    values[names.index("train_freq")] = 2
    model = CustomDQN("MlpPolicy", "CartPole-v1", *values, 77)
    assert model.target_update_interval == 77
    assert (model.lr_schedule(1), model.train_freq.frequency) == (1e-3, 2)  # type: ignore[union-attr]  # converted by now


def test_n_steps_of_a_loaded_model_are_folded_with_its_gamma(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    CustomDQN("MlpPolicy", "CartPole-v1", n_steps=3, gamma=0.9, buffer_size=10).save(tmp_path / "model")
    loaded = CustomDQN.load(tmp_path / "model", env=gym.make("CartPole-v1"), gamma=0.5).learn(1)
    assert isinstance(loaded.replay_buffer, NStepReplayBuffer)
    assert (loaded.replay_buffer.n_steps, loaded.replay_buffer.gamma) == (3, 0.5)
    assert not [warning for warning in recwarn if "is ignored" in str(warning.message)]


@pytest.mark.parametrize(("then", "now"), [(3, 1), (1, 3)])
def test_n_steps_of_now_choose_the_memory(then: int, now: int, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    CustomDQN("MlpPolicy", "CartPole-v1", n_steps=then, buffer_size=10).save(tmp_path / "model")
    loaded = CustomDQN.load(tmp_path / "model", env=gym.make("CartPole-v1"), n_steps=now).learn(1)
    assert isinstance(loaded.replay_buffer, NStepReplayBuffer) == (now == 3)
    assert getattr(loaded.replay_buffer, "n_steps", 1) == now
    assert not [warning for warning in recwarn if "is ignored" in str(warning.message)]


@pytest.mark.parametrize(("then", "now"), [(3, 5), (3, 1)])
def test_a_loaded_memory_folds_steps_as_the_model_has_it(then: int, now: int, tmp_path: Path) -> None:
    CustomDQN("MlpPolicy", "CartPole-v1", n_steps=then, buffer_size=10).learn(5).save_replay_buffer(tmp_path / "memory")
    model = CustomDQN("MlpPolicy", "CartPole-v1", n_steps=now, gamma=0.5, buffer_size=10)
    model.load_replay_buffer(tmp_path / "memory")
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    assert (model.replay_buffer.n_steps, model.replay_buffer.gamma) == (now, 0.5)


def test_refuses_a_memory_that_cannot_fold_steps(tmp_path: Path) -> None:
    CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=10).learn(5).save_replay_buffer(tmp_path / "memory")
    model = CustomDQN("MlpPolicy", "CartPole-v1", n_steps=3, buffer_size=10)
    before = model.replay_buffer
    with pytest.raises(ValueError, match="n_steps=3 needs an NStepReplayBuffer or FrameReplayBuffer, not ReplayBuffer"):
        model.load_replay_buffer(tmp_path / "memory")
    assert model.replay_buffer is before


def test_subclasses_keep_the_arguments(tmp_path: Path) -> None:
    class Own(CustomDQN):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    Own("MlpPolicy", "CartPole-v1", buffer_size=1).save(tmp_path / "model")
    assert Own.load(tmp_path / "model", eval_epsilon=0.2).eval_epsilon == 0.2


def test_reward_clipping_follows_the_model_not_the_saved_memory(tmp_path: Path) -> None:
    env = OneReward(-3.0)
    clipped, raw = (CustomDQN("CnnPolicy", env, clip_rewards=clip, buffer_size=10, seed=0) for clip in (True, False))
    clipped.learn(10)
    clipped.save_replay_buffer(tmp_path / "memory")
    plain = DQN("CnnPolicy", env, buffer_size=10)
    plain.load_replay_buffer(tmp_path / "memory")
    assert plain.replay_buffer is not None
    assert set(plain.replay_buffer.sample(5).rewards.ravel().tolist()) == {-3.0}
    raw.load_replay_buffer(tmp_path / "memory")
    assert clipped.replay_buffer is not None
    assert raw.replay_buffer is not None
    assert set(clipped.replay_buffer.sample(5).rewards.ravel().tolist()) == {-1.0}
    assert set(raw.replay_buffer.sample(5).rewards.ravel().tolist()) == {-3.0}


def test_trains_with_several_environments_and_callbacks(make_atari: MakeAtari, tmp_path: Path) -> None:
    class Count(BaseCallback):
        def _on_step(self) -> bool:
            return True

    count = Count()
    evaluation = EvalCallback(DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))]), n_eval_episodes=1, eval_freq=20)
    model = CustomDQN("MlpPolicy", DummyVecEnv([lambda: gym.make("CartPole-v1")] * 3), learning_starts=30, buffer_size=90)
    model.learn(120, callback=[count, evaluation])
    assert (count.n_calls, model.num_timesteps) == (40, 120)
    assert model._n_updates > 0
    assert evaluation.best_mean_reward > 0
    model.set_env(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 3))
    model.learn(30)


def test_hindsight_replay_works() -> None:
    env = BitFlippingEnv(n_bits=4)
    model = CustomDQN("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=20, buffer_size=100)
    assert model.learn(60)._n_updates > 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"loss": "hubber"}, "loss='hubber' is not known; choose one of 'huber', 'mse'"),
        ({"huber_delta": 0}, "huber_delta=0 must be a finite number above 0"),
        ({"huber_delta": "1"}, "huber_delta='1' must be"),
        ({"loss": "mse", "huber_delta": 2.0}, "huber_delta=2.0 has no effect"),
        ({"target_update_interval": 0}, "target_update_interval=0 must be a whole number"),
        ({"target_update_interval": True}, "target_update_interval=True must be a whole number"),
        ({"target_update_interval": None, "tau": 0.5}, "tau=0.5 has no effect without a target network"),
        ({"target_update_interval": 0.5}, "target_update_interval=0.5 must be a whole number"),
        ({"eval_epsilon": 1.1}, r"eval_epsilon=1.1 must be a number in \[0, 1\]"),
        ({"eval_epsilon": -0.1}, "eval_epsilon=-0.1 must be"),
        ({"learning_rate": "fast"}, "learning_rate='fast' must be a number of at least 0"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number of transitions, at least 1"),
        ({"n_steps": 0}, "n_steps=0 must be a whole number of agent steps, at least 1"),
        ({"gamma": 1.5}, r"gamma=1.5 must be a number in \[0, 1\]"),
        ({"exploration_fraction": -1}, r"exploration_fraction=-1 must be a number in \[0, 1\]"),
        ({"max_grad_norm": "a"}, "max_grad_norm='a' must be a number of at least 0"),
        ({"clip_rewards": "yes"}, "clip_rewards='yes' must be True or False"),
        ({"gradient_steps": 1.5}, r"gradient_steps=1.5 must be a whole number of updates \(-1: .*at least -1"),
        ({"gradient_steps": -3}, "gradient_steps=-3 must be"),
        ({"train_freq": 0}, "train_freq=0 must be a whole number of steps of each environment"),
        ({"train_freq": (1, "game")}, r"train_freq=\(1, 'game'\) must count one of 'step', 'episode'"),
        ({"n_steps": 3, "optimize_memory_usage": True}, "n_steps=3 does not go with optimize_memory_usage=True"),
        ({"policy_kwargs": {"net_arch": "big"}}, "net_arch='big' must be a list"),
        ({"policy_kwargs": {"net_arch": [64, 0]}}, "net_arch=0 must be a whole number of units"),
        ({"policy_kwargs": {"activation_fn": "Tan"}}, "activation_fn='Tan' is not known; choose one of torch.nn's"),
        (
            {"policy_kwargs": {"noisy_sigma": 0.5}, "exploration_fraction": 0.5},
            "exploration_fraction=0.5 has no effect with noisy_sigma",
        ),
        (
            {"n_steps": 3, "replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 5}},
            "n_steps=5 (does not go with n_steps=3|has no effect there)",
        ),
        (
            {"policy_kwargs": {"features_extractor_class": "NatureCMM"}},
            "NatureCMM.*NipsCNN, NatureCNN, ImpalaCNN, Tutor",
        ),
    ],
)
def test_refuses_bad_values(kwargs: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=1, **kwargs)
    good = CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=1)
    good.save(tmp_path / "model")
    if "policy_kwargs" not in kwargs:
        with pytest.raises(ValueError, match=message):
            CustomDQN.load(tmp_path / "model", **kwargs)


def test_refuses_misspelt_arguments(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="CustomDQN has no argument 'learning_rat'; did you mean 'learning_rate'"):
        CustomDQN("MlpPolicy", "CartPole-v1", learning_rat=1e-3)
    CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=1).save(tmp_path / "model")
    with pytest.raises(TypeError, match="'eval_eps'; did you mean 'eval_epsilon'"):
        CustomDQN.load(tmp_path / "model", eval_eps=0.1)


def test_refuses_a_model_of_another_observation_size(make_atari: MakeAtari, tmp_path: Path) -> None:
    CustomDQN("CnnPolicy", make_atari(screen_size=84), buffer_size=1).save(tmp_path / "model")
    other = make_atari(screen_size=42)
    with pytest.raises(ValueError, match=r"4, 84, 84.*4, 42, 42"):
        CustomDQN.load(tmp_path / "model", env=other)
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        CustomDQN.load(tmp_path / "model").predict(first_observation(other))


def test_warns_where_environments_outrun_the_target_interval() -> None:
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 3)
    with pytest.warns(UserWarning, match="copied every 3 agent steps"):
        CustomDQN("MlpPolicy", env, target_update_interval=2, buffer_size=10)


@pytest.mark.parametrize(("n_timesteps", "warns"), [(100, True), (104, False)])
def test_warns_where_training_ends_before_it_learns(n_timesteps: int, warns: bool) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", learning_starts=100)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(n_timesteps)
    messages = [str(warning.message) for warning in caught]
    assert (model._n_updates == 0) == warns
    assert any(message.startswith("training ends at step 100, before it learns") for message in messages) == warns


def test_a_model_that_goes_on_does_not_begin_to_explore_again(tmp_path: Path) -> None:
    class Rates(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.rates: list[float] = []

        def _on_step(self) -> bool:
            assert isinstance(self.model, CustomDQN)
            self.rates.append(self.model.exploration_rate)
            return True

    whole = Rates()
    CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE, exploration_fraction=0.5).learn(400, whole)
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE, exploration_fraction=0.5)
    parts = Rates()
    with pytest.raises(InterruptedError):
        model.learn(400, [parts, StopAt(150)])
    model.save(tmp_path / "model.zip")
    again = CustomDQN.load(tmp_path / "model.zip", env=model.get_env())
    again.learn(1000, parts, reset_num_timesteps=False)
    assert again.num_timesteps == 1150
    assert parts.rates[:150] == whole.rates[:150]
    assert parts.rates[151:400] == pytest.approx(whole.rates[151:400])
    assert set(parts.rates[400:]) == {0.05}


class StopAt(BaseCallback):
    """Breaks off."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps

    def _on_step(self) -> bool:
        if self.num_timesteps == self.n_steps:
            raise InterruptedError
        return True


def test_a_model_that_goes_on_without_its_memory_fills_it_first(tmp_path: Path) -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE).learn(200)
    model.save(tmp_path / "model.zip")
    again = CustomDQN.load(tmp_path / "model.zip", env=model.get_env())
    n_updates = again._n_updates
    again.learn(100, reset_num_timesteps=False)
    assert again._n_updates == n_updates, "as many steps as learning_starts"
    assert again.replay_buffer is not None
    assert again.replay_buffer.size() == 100
    again.learn(10, reset_num_timesteps=False)
    assert again._n_updates == n_updates + 10


def test_a_memory_that_is_kept_does_not_join_two_games() -> None:
    model = CustomDQN("MlpPolicy", "CartPole-v1", **CARTPOLE, n_steps=3).learn(120)
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    last = model.replay_buffer.pos - 1
    model.learn(10, reset_num_timesteps=True)
    assert model.replay_buffer.dones[last].all()


class Counting(gym.Env):
    """
    Observations are the number of the game and of its step; the reward is the step's number.

    :param game: number of the first game
    """

    observation_space = spaces.Box(0, 1000, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, game: int = 0) -> None:
        self.game = game - 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.game += 1
        self.n_steps = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        return self._observation(), float(self.n_steps), self.n_steps == 10, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.game, self.n_steps], dtype=np.float32)


def counting_model(game: int = 0, **kwargs: Any) -> CustomDQN:
    return CustomDQN("MlpPolicy", Counting(game), buffer_size=100, learning_starts=0, train_freq=1, **kwargs)


def stored(model: CustomDQN, first: int, last: int) -> list[tuple[list[float], list[float], float, float]]:
    """Transitions from one position to another: observation, next observation, reward, done."""
    buffer = model.replay_buffer
    assert buffer is not None
    return [
        (
            buffer.observations[index, 0].tolist(),
            buffer.next_observations[index, 0].tolist(),
            float(buffer.rewards[index, 0]),
            float(buffer.dones[index, 0]),
        )
        for index in range(first, last)
    ]


class Stop(StopAt):
    """Ends the training as callbacks do."""

    def _on_step(self) -> bool:
        return self.num_timesteps < self.n_steps


def test_a_step_at_which_a_callback_stops_is_kept(tmp_path: Path) -> None:
    model = counting_model()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(100, Stop(10), log_interval=1)
    assert model.num_timesteps == 10
    assert model._episode_num == 1
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 2, "names, and the line of the game"
    model.learn(2, reset_num_timesteps=False)
    assert stored(model, 8, 12) == [
        ([0, 8], [0, 9], 9.0, 0.0),
        ([0, 9], [0, 10], 10.0, 1.0),
        ([1, 0], [1, 1], 1.0, 0.0),
        ([1, 1], [1, 2], 2.0, 0.0),
    ]


def test_after_an_exception_new_games_begin() -> None:
    model = counting_model()
    with pytest.raises(InterruptedError):
        model.learn(100, StopAt(5))
    model.learn(1, reset_num_timesteps=False)
    assert stored(model, 3, 5) == [([0, 3], [0, 4], 4.0, 1.0), ([1, 0], [1, 1], 1.0, 0.0)]
    assert model.replay_buffer is not None
    assert model.replay_buffer.timeouts[3, 0], "what would have come is worth something"


@pytest.mark.parametrize("kind", ["native", "processes"])
def test_environments_go_on_after_an_interrupted_update(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_native = kind == "native"
    env = AleVecEnv("PongNoFrameskip-v4", 2, screen_size=42) if is_native else SubprocVecEnv([Counting] * 2)
    policy = "CnnPolicy" if is_native else "MlpPolicy"
    model = CustomDQN(policy, env, overlap=True, update_period=2, buffer_size=100, learning_starts=8)

    def interrupted(batch: Any) -> Update:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.learner, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.learn(40)
    model.learn(20, reset_num_timesteps=False)
    assert model._n_updates > 0
    env.close()


@pytest.mark.parametrize("handles_timeouts", [True, False])
def test_no_memory_joins_games(handles_timeouts: bool) -> None:
    model = counting_model(n_steps=3, replay_buffer_kwargs={"handle_timeout_termination": handles_timeouts}).learn(5)
    model.learn(5)  # a new game
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    batch = model.replay_buffer._get_samples(np.array([3]))
    assert batch.next_observations.tolist() == [[0, 5]]
    assert batch.rewards.item() == pytest.approx(4 + 0.99 * 5)


def test_a_memory_without_next_observations_ends_where_games_were_left() -> None:
    model = counting_model(optimize_memory_usage=True, replay_buffer_kwargs={"handle_timeout_termination": False}).learn(5)
    env = model.get_env()
    assert env is not None
    model.set_env(env)
    model.learn(5, reset_num_timesteps=False)
    assert model.replay_buffer is not None
    assert model.replay_buffer.dones[:6, 0].tolist() == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("truncate", [True, False])
def test_a_loaded_memory_is_not_followed_by_the_running_game(truncate: bool, tmp_path: Path) -> None:
    counting_model().learn(5).save_replay_buffer(tmp_path / "memory")
    model = counting_model(game=100).learn(3)
    model.load_replay_buffer(tmp_path / "memory", truncate_last_traj=truncate)
    model.learn(1, reset_num_timesteps=False)
    assert stored(model, 4, 6) == [([0, 4], [0, 5], 5.0, float(truncate)), ([100, 3], [100, 4], 4.0, 0.0)]


def test_refuses_what_is_no_memory_of_this_model_and_keeps_its_own(tmp_path: Path) -> None:
    model = counting_model()
    before = model.replay_buffer
    save_to_pkl(tmp_path / "tuple", (1, 2))
    with pytest.raises(ValueError, match="tuple' does not hold a replay memory"):
        model.load_replay_buffer(tmp_path / "tuple")
    CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=10).save_replay_buffer(tmp_path / "cartpole")
    with pytest.raises(ValueError, match="is of other observations than this model: Box"):
        model.load_replay_buffer(tmp_path / "cartpole")
    CustomDQN("MlpPolicy", DummyVecEnv([Counting] * 2), buffer_size=10).save_replay_buffer(tmp_path / "two")
    with pytest.raises(ValueError, match="is of other environments than this model: 2, not 1"):
        model.load_replay_buffer(tmp_path / "two")
    assert model.replay_buffer is before


def test_arguments_of_the_caller_are_not_written_into() -> None:
    kwargs = {"handle_timeout_termination": True}
    counting_model(n_steps=3, replay_buffer_kwargs=kwargs)
    assert kwargs == {"handle_timeout_termination": True}


def test_loads_with_a_memory_by_name_and_another_window(make_atari: MakeAtari, tmp_path: Path) -> None:
    CustomDQN("CnnPolicy", make_atari(screen_size=42), buffer_size=10).learn(5).save(tmp_path / "model")
    model = CustomDQN.load(
        tmp_path / "model", env=make_atari(screen_size=42), replay_buffer_class="FrameReplayBuffer", stats_window_size=7
    )
    model.learn(5, reset_num_timesteps=False)
    assert isinstance(model.replay_buffer, FrameReplayBuffer)
    assert model.ep_info_buffer is not None
    assert model.ep_info_buffer.maxlen == 7


def test_one_environment_for_whole_episodes() -> None:
    with pytest.raises(ValueError, match=r"train_freq=\(1, 'episode'\) needs one environment, not n_envs=2"):
        CustomDQN("MlpPolicy", DummyVecEnv([Counting] * 2), train_freq=(1, "episode"), buffer_size=10)


def test_hindsight_does_not_take_goals_of_the_next_game() -> None:
    env = BitFlippingEnv(n_bits=10)
    model = CustomDQN("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=100, seed=1)
    with pytest.raises(InterruptedError):
        model.learn(50, StopAt(4))
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    model.learn(5, reset_num_timesteps=False)
    assert model.replay_buffer.ep_length[:3, 0].tolist() == [3, 3, 3]


def test_steps_of_a_memory_of_ones_own_choice_are_its_own(tmp_path: Path) -> None:
    own: dict[str, Any] = {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 3, "gamma": 0.99}}
    CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=10, **own).save(tmp_path / "own")
    model = CustomDQN.load(tmp_path / "own", replay_buffer_kwargs={"n_steps": 5, "gamma": 0.9})
    assert model.replay_buffer_kwargs == {"n_steps": 5, "gamma": 0.9}
    CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=10, n_steps=3).save(tmp_path / "model")
    with pytest.raises(ValueError, match="replay_buffer_kwargs: n_steps=5 has no effect there: give n_steps itself"):
        CustomDQN.load(tmp_path / "model", replay_buffer_kwargs={"n_steps": 5})


def test_a_loaded_noisy_model_refuses_a_fraction_of_no_exploration(tmp_path: Path) -> None:
    CustomDQN("MlpPolicy", "CartPole-v1", buffer_size=1, policy_kwargs={"noisy_sigma": 0.5}).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"exploration_fraction=0.7 has no effect: exploration_initial_eps and"):
        CustomDQN.load(tmp_path / "model", exploration_fraction=0.7)


def test_a_model_that_learnt_behind_episodes_plays_in_several_environments(tmp_path: Path) -> None:
    CustomDQN("MlpPolicy", "CartPole-v1", train_freq=[1, "episode"], buffer_size=10).save(tmp_path / "model")
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)
    assert CustomDQN.load(tmp_path / "model", env=env).predict(first_observation(env))[0].shape == (2,)


class VisionCNN(BaseFeaturesExtractor):
    """Its layers' names begin as those of buffers do, and it has buffers of both kinds."""

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, 8)
        self._vision = nn.Linear(int(np.prod(observation_space.shape or ())), 8)
        self.running_track = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.norm(self.running_track(self._vision(observations)))


def test_weights_are_averaged_and_statistics_copied_whatever_their_names() -> None:
    model = CustomDQN(
        "MlpPolicy",
        "CartPole-v1",
        **{**CARTPOLE, "target_update_interval": 1, "tau": 0.25, "learning_starts": 1000},
        policy_kwargs={"features_extractor_class": VisionCNN},
    )
    with pytest.warns(UserWarning, match="before it learns"):
        model.learn(4)
    before = {name: value.clone() for name, value in model.q_net_target.state_dict().items()}
    with th.no_grad():
        for tensor in model.q_net.state_dict().values():
            tensor.add_(1)
    model._on_step()
    for name, value in model.q_net.state_dict().items():
        is_statistic = name.endswith(("running_mean", "running_var"))
        expected = value if is_statistic else 0.75 * before[name] + 0.25 * value
        if name.endswith("num_batches_tracked"):
            expected = before[name]
        th.testing.assert_close(model.q_net_target.state_dict()[name], expected, msg=name)


@pytest.mark.parametrize("algorithm", [CustomDQN, SweepDQN])
def test_actions_that_are_not_counted_from_0_are_refused_at_once(algorithm: type[CustomDQN] | type[SweepDQN]) -> None:
    env = OneReward(1.0)
    env.action_space = spaces.Discrete(2, start=1)
    with pytest.raises(
        ValueError, match=r"actions Discrete\(2, start=1\) must be counted from 0, not from 1: wrap the environ"
    ):
        algorithm("CnnPolicy", env, policy_kwargs={"features_extractor_class": "NipsCNN"})
    wrapped = gym.wrappers.TransformAction(env, lambda action: action + 1, spaces.Discrete(2))
    algorithm("CnnPolicy", wrapped, policy_kwargs={"features_extractor_class": "NipsCNN"}, buffer_size=10_000)
