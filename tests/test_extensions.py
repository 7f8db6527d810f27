"""Every extension and every pair of them on a world of four states: finite updates, and every keyword in its place."""

import functools
import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_atari_dqn import CustomDQN, FrameReplayBuffer
from sb3_atari_dqn.learning.losses import MunchausenBackup, TDLoss, double_backup
from sb3_atari_dqn.networks.heads import DuelingStreams, streams_of
from sb3_atari_dqn.networks.noisy import NoisyLinear
from sb3_atari_dqn.replay.samplers import PrioritizedSampler, UniformSampler


class FourStates(gym.Env):
    """A corridor: to the right a reward of 2 at its end, to the left one of -0.5; one pixel is lit where the agent is."""

    observation_space = spaces.Box(0, 255, (1, 12, 12), np.uint8)
    action_space = spaces.Discrete(2)

    def _observe(self) -> np.ndarray:
        observation = np.zeros((1, 12, 12), np.uint8)
        observation[0, 3:9, 3 * self.state : 3 * self.state + 3] = 255
        return observation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(1, 3))
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.state += 1 if action else -1
        reward = {0: -0.5, 3: 2.0}.get(self.state, 0.0)
        return self._observe(), reward, self.state in (0, 3), False, {}


#: of each extension: keywords, and those of policy and replay memory
EXTENSIONS: dict[str, dict[str, dict[str, Any]]] = {
    "mse": {"algorithm": {"loss": "mse"}},
    "clip_rewards": {"algorithm": {"clip_rewards": True}},
    "no target network": {"algorithm": {"target_update_interval": None}},
    "n_steps": {"algorithm": {"n_steps": 3}},
    "double_q": {"algorithm": {"double_q": True}},
    "munchausen": {"algorithm": {"munchausen": True}},
    "prioritized": {"replay": {"priority_exponent": 0.6, "importance_exponent": 0.4}},
    "dueling": {"policy": {"dueling": True}},
    "noisy": {"policy": {"noisy_sigma": 0.5}},
    "categorical": {
        "policy": {"distribution": "categorical", "distribution_kwargs": {"n_atoms": 11, "v_min": -3, "v_max": 3}}
    },
    "quantile": {"policy": {"distribution": "quantile", "distribution_kwargs": {"n_quantiles": 5}}},
    "implicit-quantile": {"policy": {"distribution": "implicit-quantile", "distribution_kwargs": {"n_quantiles": 6}}},
    "bf16": {"algorithm": {"precision": "bf16", "accelerate": "fused"}},
    "overlap": {"algorithm": {"overlap": True}},
}

#: mixes without meaning
REFUSED = {
    ("mse", "categorical"): "loss='mse' is not what distribution='categorical' is learnt by",
    ("mse", "quantile"): "loss='mse' is not what distribution='quantile' is learnt by",
    ("mse", "implicit-quantile"): "loss='mse' is not what distribution='implicit-quantile' is learnt by",
    ("double_q", "munchausen"): "double_q=True has no effect with munchausen=True",
    ("no target network", "double_q"): "double_q=True has no effect without a target network",
    ("munchausen", "categorical"): "munchausen=True does not work with distribution=.categorical.",
}

PAIRS = [
    pair
    for pair in itertools.combinations(EXTENSIONS, 2)
    if not all(EXTENSIONS[name].get("policy", {}).get("distribution") for name in pair)  # one key, one value
]


def make_model(*names: str, **kwargs: Any) -> CustomDQN:
    parts: dict[str, dict[str, Any]] = {"algorithm": {}, "policy": {"net_arch": [16]}, "replay": {"n_stack": 1}}
    for name in names:
        for part, arguments in EXTENSIONS[name].items():
            parts[part] |= arguments
    defaults = {
        "learning_starts": 16,
        "train_freq": 4,
        "target_update_interval": 20,
        "buffer_size": 200,
        "batch_size": 16,
        "seed": 0,
    }
    return CustomDQN(
        "MlpPolicy",
        DummyVecEnv([FourStates] * 2),
        **{**defaults, **parts["algorithm"], **kwargs},
        policy_kwargs=parts["policy"],
        replay_buffer_class=FrameReplayBuffer,
        replay_buffer_kwargs=parts["replay"],
    )


def parameters(model: CustomDQN) -> th.Tensor:
    return th.cat([parameter.detach().flatten() for parameter in model.q_net.parameters()])


@functools.cache
def trained(names: tuple[str, ...]) -> tuple[th.Tensor, th.Tensor]:
    """
    :return: parameters before and after some updates, with a target network of another opinion that stays what it was
    """
    model = make_model(*names, **({} if "no target network" in names else {"target_update_interval": 10_000}))
    before = parameters(model)
    if "no target network" not in names:
        with th.no_grad():
            for stream in streams_of(model.q_net_target.q_net):
                for parameter in stream[-1].parameters():
                    parameter.neg_()
    model.learn(200, log_interval=10_000)
    assert model._n_updates >= 20
    report = model.update_report.read()
    assert all(np.isfinite(value) for value in report.values())
    assert report["loss"] > 0
    return before, parameters(model)


@pytest.mark.filterwarnings("ignore:precision=")
@pytest.mark.parametrize("names", [*((name,) for name in EXTENSIONS), *PAIRS], ids="+".join)
def test_learns_something_finite(names: tuple[str, ...]) -> None:
    if names in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[names]):
            make_model(*names)
        return
    before, after = trained(names)
    assert th.isfinite(after).all()
    assert not th.equal(before, after)
    for name in names:  # no option gets lost beside another
        others = tuple(other for other in names if other != name)
        assert not th.equal(after, trained(others)[1]), f"{name} changes nothing"


def test_each_keyword_reaches_the_object_that_swallows_it() -> None:
    def loss_of(model: CustomDQN) -> TDLoss:
        assert isinstance(model.learner.loss, TDLoss)
        return model.learner.loss

    def sampler_of(model: CustomDQN) -> Any:
        assert isinstance(model.replay_buffer, FrameReplayBuffer)
        return model.replay_buffer.sampler

    plain = make_model()
    assert isinstance(sampler_of(plain), UniformSampler)
    assert loss_of(make_model("double_q")).backup is double_backup
    munchausen = make_model("munchausen", munchausen_kwargs={"alpha": 0.5}).learner.loss
    assert isinstance(munchausen, TDLoss)
    assert isinstance(munchausen.backup, MunchausenBackup)
    assert (munchausen.backup.entropy_temperature, munchausen.backup.alpha, munchausen.backup.clip) == (0.03, 0.5, -1.0)
    prioritized = sampler_of(make_model("prioritized"))
    assert isinstance(prioritized, PrioritizedSampler)
    assert (prioritized.priority_exponent, prioritized.importance_exponent) == (0.6, 0.4)
    assert isinstance(make_model("dueling").q_net.q_net, DuelingStreams)
    noisy = [module for module in make_model("noisy").q_net.modules() if isinstance(module, NoisyLinear)]
    assert len(noisy) == 2


def test_priorities_follow_what_is_learnt() -> None:
    model = make_model("prioritized")
    model.learn(40)
    buffer = model.replay_buffer
    assert isinstance(buffer, FrameReplayBuffer)
    buffer.draw(1)
    sampler = buffer.sampler
    assert isinstance(sampler, PrioritizedSampler)
    numbers = sampler.tree[np.arange(buffer.size() * 2)]
    assert len(np.unique(numbers)) > 5
    assert 0.4 < sampler.importance_exponent <= 1
    model.learn(401, reset_num_timesteps=False)  # which is one step too far for two environments
    assert sampler.importance_exponent == 1


def test_a_loaded_memory_is_drawn_from_as_the_model_has_it(tmp_path: Any) -> None:
    prioritized, plain = make_model("prioritized"), make_model()
    for model in (prioritized, plain):
        model.learn(40)
        model.save_replay_buffer(tmp_path / str(model is plain))

    def load(model: CustomDQN, of: CustomDQN) -> Any:
        model.load_replay_buffer(tmp_path / str(of is plain))
        assert isinstance(model.replay_buffer, FrameReplayBuffer)
        return model.replay_buffer.sampler

    before = prioritized.replay_buffer.sampler.tree[np.arange(40)]  # type: ignore[union-attr]  # prioritized
    kept = load(make_model("prioritized"), prioritized)
    assert np.array_equal(kept.tree[np.arange(40)], before)
    assert len(np.unique(before)) > 5
    started = load(make_model("prioritized"), plain)
    assert isinstance(started, PrioritizedSampler)
    assert np.all(started.tree[np.arange(40)] == 1)
    assert np.all(started.tree[np.arange(40, 200)] == 0)
    assert isinstance(load(make_model(), prioritized), UniformSampler)


def test_refuses_a_memory_that_cannot_have_priorities(tmp_path: Any) -> None:
    plain = CustomDQN("MlpPolicy", DummyVecEnv([FourStates] * 2), buffer_size=200).learn(40)
    plain.save_replay_buffer(tmp_path / "memory")
    with pytest.raises(ValueError, match=r"priority_exponent=0.6 needs a FrameReplayBuffer, not ReplayBuffer"):
        make_model("prioritized").load_replay_buffer(tmp_path / "memory")


def test_priorities_that_nobody_reports_are_warned_of() -> None:
    kwargs = {"n_stack": 1, "priority_exponent": 0.6}
    model = DQN(
        "MlpPolicy",
        DummyVecEnv([FourStates]),
        learning_starts=4,
        buffer_size=50,
        replay_buffer_class=FrameReplayBuffer,
        replay_buffer_kwargs=kwargs,
    )
    with pytest.warns(UserWarning, match="priority_exponent=0.6 has no effect with an algorithm that does not report"):
        model.learn(8)


@pytest.mark.parametrize("kwargs", [{"n_steps": 3}, {"gamma": 0.5}])
def test_the_memory_has_steps_and_discount_of_the_algorithm(kwargs: dict[str, Any]) -> None:
    ((name, value),) = kwargs.items()
    model = make_model(**kwargs)
    assert getattr(model.replay_buffer, name) == value
    for replay_buffer_class in (FrameReplayBuffer, "FrameReplayBuffer"):
        with pytest.raises(ValueError, match=rf"replay_buffer_kwargs: {name}={value} does not go with {name}="):
            CustomDQN(
                "MlpPolicy",
                DummyVecEnv([FourStates]),
                replay_buffer_class=replay_buffer_class,
                replay_buffer_kwargs={"n_stack": 1, **kwargs},
            )


def test_priorities_need_the_memory_that_has_them() -> None:
    with pytest.raises(ValueError, match="priority_exponent in replay_buffer_kwargs needs replay_buffer_class"):
        CustomDQN("MlpPolicy", "CartPole-v1", replay_buffer_kwargs={"priority_exponent": 0.5})


def test_noise_explores_in_place_of_epsilon() -> None:
    noisy, plain = make_model("noisy"), make_model()
    assert (noisy.exploration_initial_eps, noisy.exploration_final_eps) == (0.0, 0.0)
    assert (plain.exploration_initial_eps, plain.exploration_final_eps) == (1.0, 0.05)
    both = make_model("noisy", exploration_final_eps=0.1)
    assert (both.exploration_initial_eps, both.exploration_final_eps) == (1.0, 0.1)
    noisy.learn(40)
    observation = np.stack([observe(state) for state in (1, 2)])
    explored = th.stack([noisy.learner.q_values(noisy.policy.obs_to_tensor(observation)[0]) for _ in range(5)])
    assert len(explored.unique(dim=0)) == 5
    noisy.eval_epsilon = 0.0
    assert len({tuple(noisy.predict(observation)[0]) for _ in range(20)}) == 1


@pytest.mark.parametrize("name", ["dueling", "noisy", "categorical", "quantile", "implicit-quantile"])
def test_round_trip(name: str, tmp_path: Any) -> None:
    model = make_model(name, "prioritized", "double_q")
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = CustomDQN.load(tmp_path / "model")
    observation = model.env.reset()  # type: ignore[union-attr]  # it has one
    pixels = th.as_tensor(observation)
    assert th.equal(model.q_net(pixels), loaded.q_net(pixels))
    assert loaded.double_q
    assert loaded.policy_kwargs == model.policy_kwargs
    loaded = CustomDQN.load(tmp_path / "model", env=DummyVecEnv([FourStates] * 2))
    loaded.learn(40)
    assert loaded._n_updates > 0


#: what solves the corridor, which pays at its right end
LEARNERS = [
    (),
    ("double_q", "dueling", "noisy", "categorical", "n_steps", "prioritized"),
    ("quantile", "prioritized"),
    ("implicit-quantile", "munchausen", "dueling"),
]


@pytest.mark.parametrize("names", LEARNERS, ids=lambda names: "+".join(names) or "plain")
def test_learns_the_corridor(names: tuple[str, ...]) -> None:
    exploration = {} if "noisy" in names else {"exploration_fraction": 0.5}
    model = make_model(*names, gamma=0.9, train_freq=1, learning_rate=2e-3, **exploration).learn(1200)
    values = model.q_net(th.as_tensor(np.stack([observe(state) for state in (1, 2)])))
    assert values.argmax(dim=1).tolist() == [1, 1]
    # at once, and one step later: 2 and 1.8; Munchausen's policy adds little where it is sure
    tolerance = 0.5 if "munchausen" in names else 0.3
    assert values[:, 1].tolist() == pytest.approx([1.8, 2.0], abs=tolerance)


def observe(state: int) -> np.ndarray:
    world = FourStates()
    world.state = state
    return world._observe()
