"""Presets are code: each builds its algorithm, and every key of it reaches the model."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import rl_zoo3
import yaml
from torch import nn

from sb3_atari_dqn import AleVecEnv, FrameReplayBuffer, SweepDQN, VecMotionTracer
from sb3_atari_dqn.learning.losses import TDLoss, double_backup
from sb3_atari_dqn.learning.objectives import categorical_objective
from sb3_atari_dqn.networks.heads import Categorical, DuelingStreams
from sb3_atari_dqn.networks.noisy import NoisyLinear
from sb3_atari_dqn.networks.optimizers import resolve_optimizer
from sb3_atari_dqn.replay.samplers import PrioritizedSampler
from sb3_atari_dqn.zoo.experiment import ZOO_KEYS
from sb3_atari_dqn.zoo.presets import find_config, presets
from tests.zoo.experiments import make_experiment, make_model, make_sweep_model

ENVIRONMENTS = {"default": "Acrobot-v1", "atari": "SeaquestNoFrameskip-v4"}
SECTIONS = [(name, section) for name, path in presets().items() for section in yaml.safe_load(path.read_text())]
SWEEPS = ("dqn_sweep",)


def read(name: str, section: str) -> dict[str, Any]:
    return yaml.safe_load(presets()[name].read_text())[section]


def test_there_are_presets() -> None:
    assert {"dqn_custom", "nips", "target-network", "huber-raw-rewards", "bigger-network", "motion-tracer", "pong"} <= set(
        presets()
    )


@pytest.mark.parametrize(("name", "section"), [section for section in SECTIONS if section[0] not in SWEEPS])
def test_every_key_reaches_the_model(name: str, section: str, tmp_path: Path) -> None:
    env_id = ENVIRONMENTS.get(section, section)
    settings = read(name, section)
    n_envs = settings.get("n_envs", 1)
    hyperparams, _ = make_experiment(tmp_path, env_id, config=name).read_hyperparameters()  # checks them all
    assert hyperparams.get("n_envs", 1) == n_envs
    if (name, section) != ("dqn_custom", "atari"):  # one with all of its environments; each takes a tenth of a second
        n_envs = min(n_envs, 2)
    model = make_model(tmp_path, env_id, config=name, hyperparams={"buffer_size": 10, "n_envs": n_envs})
    expected = {key: value for key, value in read(name, section).items() if key not in ZOO_KEYS | {"policy", "buffer_size"}}
    learning_rate = str(expected.pop("learning_rate"))
    assert model.lr_schedule(1) == float(learning_rate.removeprefix("lin_"))
    assert (model.lr_schedule(0) == 0) == learning_rate.startswith("lin_")
    if "train_freq" in expected:
        assert model.train_freq.frequency == expected.pop("train_freq")  # type: ignore[union-attr]  # converted by now
    replay_buffer_class = expected.pop("replay_buffer_class", "ReplayBuffer")
    assert model.replay_buffer_class is not None
    assert model.replay_buffer_class.__name__ == replay_buffer_class
    assert model.replay_buffer_kwargs.items() >= expected.pop("replay_buffer_kwargs", {}).items()
    assert isinstance(model.env, AleVecEnv | VecMotionTracer) == settings.get("native_envs", False)
    assert model.n_envs == n_envs
    if "frame_stack" in settings:
        assert settings["replay_buffer_kwargs"]["n_stack"] == settings["frame_stack"]
    policy_kwargs = expected.pop("policy_kwargs", {})
    extractor = policy_kwargs.pop("features_extractor_class", None)
    assert extractor in (None, type(model.q_net.features_extractor).__name__)
    assert {name: getattr(model.policy, name) for name in policy_kwargs} == policy_kwargs
    assert expected
    assert {key: getattr(model, key) for key in expected} == expected
    shape = {"motion-tracer": (2, 105, 80)}.get(name, (4, 84, 84))
    if section not in ("default", "CartPole-v1"):
        assert model.observation_space.shape == shape
        assert model.q_net.net_arch == settings.get("policy_kwargs", {}).get("net_arch", [])


@pytest.mark.parametrize(("name", "section"), [section for section in SECTIONS if section[0] in SWEEPS])
def test_every_key_of_a_sweep_reaches_the_model(name: str, section: str, tmp_path: Path) -> None:
    env_id = ENVIRONMENTS.get(section, section)
    model = make_sweep_model(tmp_path, env_id, config=name)
    settings = read(name, section)
    assert model.lr_schedule(1) == settings["learning_rate"]
    policy_kwargs = settings["policy_kwargs"]
    assert type(model.policy.q_net.features_extractor).__name__ == policy_kwargs["features_extractor_class"]
    assert type(model.policy.optimizer) is resolve_optimizer(policy_kwargs["optimizer_class"])
    assert model.policy.optimizer.defaults.items() >= policy_kwargs["optimizer_kwargs"].items()
    assert model.policy.normalize_images is policy_kwargs["normalize_images"]
    others = settings.keys() - ZOO_KEYS - {"policy", "policy_kwargs", "learning_rate"}
    assert {key: getattr(model, key) for key in others} == {key: settings[key] for key in others}
    assert model.observation_space.shape == (2, 105, 80)
    assert isinstance(model.env, VecMotionTracer) == settings.get("native_envs", False)
    assert model.n_envs == settings["n_envs"]
    assert model.run_folder == str(tmp_path / f"dqn_sweep/{env_id}_1")


def test_the_sweeps_preset_is_the_algorithms_default_but_for_speed_and_size() -> None:
    defaults = {parameter.name: parameter.default for parameter in inspect.signature(SweepDQN.__init__).parameters.values()}
    settings = {key: value for key, value in read("dqn_sweep", "Breakout-v0").items() if key in defaults}
    changed = {key for key, value in settings.items() if value != defaults[key]}
    assert changed == {"policy", "policy_kwargs", "compression", "precision", "accelerate"}


def changes(before: str, after: str) -> dict[str, Any]:
    old, new = read(before, "atari"), read(after, "atari")
    assert old.keys() == new.keys()
    return {key: new[key] for key in new if new[key] != old[key]}


def test_each_step_of_the_ladder_changes_one_thing() -> None:
    assert read("nips", "atari")["target_update_interval"] is None
    assert changes("nips", "target-network") == {"target_update_interval": 40_000}
    assert changes("target-network", "huber-raw-rewards") == {"loss": "huber", "clip_rewards": False}
    bigger = changes("huber-raw-rewards", "bigger-network")
    # a longer run explores for as many steps as the shorter ones
    assert bigger.pop("exploration_fraction") * bigger["n_timesteps"] == pytest.approx(250_000)
    assert bigger == {"n_timesteps": 12_500_000, "policy_kwargs": {"features_extractor_class": "NatureCNN"}}


#: what each extension's preset changes against the default
EXTENSIONS: dict[str, set[str]] = {
    "double": {"double_q"},
    "dueling": {"policy_kwargs"},
    "prioritized": {"replay_buffer_kwargs", "learning_rate"},
    "c51": {"policy_kwargs", "loss", "huber_delta", "learning_rate"},
    "qrdqn": {"policy_kwargs", "learning_rate"},
    "iqn": {"policy_kwargs", "learning_rate"},
}


#: the papers' numbers, by preset
NUMBERS: dict[str, dict[str, Any]] = {
    "prioritized": {"priority_exponent": 0.6, "importance_exponent": 0.4, "learning_rate": 2.5e-5},
    "c51": {"n_atoms": 51, "v_min": -10, "v_max": 10, "eps": 0.01 / 32, "learning_rate": 2.5e-4},
    "qrdqn": {"n_quantiles": 200, "eps": 0.01 / 32, "learning_rate": 5e-5, "huber_delta": 1.0},
    "iqn": {
        "n_quantiles": 64,
        "n_play_quantiles": 32,
        "n_cosines": 64,
        "net_arch": [512],
        "eps": 0.01 / 32,
        "learning_rate": 5e-5,
        "huber_delta": 1.0,
    },
    "dueling": {"dueling": True, "net_arch": [512], "features_dim": None},
    "btr": {
        "n_envs": 64,
        "batch_size": 256,
        "update_period": 64,
        "learning_rate": 1e-4,
        "eps": pytest.approx(0.005 / 256, rel=1e-4),
        "gamma": 0.997,
        "n_steps": 3,
        "priority_exponent": 0.2,
        "importance_exponent": 0.45,
        "buffer_size": 2**20,
        "target_update_interval": 500 * 64,
        "learning_starts": 200_000,
        "n_quantiles": 8,
        "n_play_quantiles": 8,
        "width": 2,
        "pool_size": 6,
        "spectral_norm": True,
        "net_arch": [512],
        "noisy_sigma": 0.5,
        "dueling": True,
        "munchausen": True,
        "entropy_temperature": 0.03,
        "alpha": 0.9,
        "clip": -1.0,
        "max_grad_norm": 10,
        "action_repeat_probability": 0.25,
        "terminal_on_life_loss": False,
    },
}


def flatten(settings: Any) -> dict[str, Any]:
    """:return: all keys of nested settings, at whatever depth"""
    found: dict[str, Any] = {}
    for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
        if isinstance(key, str):
            found[key] = value
        if isinstance(value, dict | list):
            found |= flatten(value)
    return found


@pytest.mark.parametrize("name", NUMBERS)
def test_extensions_have_their_papers_numbers(name: str) -> None:
    settings = flatten(read(name, "atari"))
    assert {key: settings[key] for key in NUMBERS[name]} == NUMBERS[name]


def test_exploration_of_btr_takes_two_million_steps() -> None:
    settings = read("btr", "atari")
    assert settings["exploration_fraction"] * settings["n_timesteps"] == pytest.approx(2_000_000)


@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_extension_changes_one_thing(name: str) -> None:
    extended, plain = read(name, "atari"), read("dqn_custom", "atari")
    assert {key for key in extended.keys() | plain.keys() if extended.get(key) != plain.get(key)} == EXTENSIONS[name]


def test_rainbow_is_rainbow(tmp_path: Path) -> None:
    """Hessel et al. 2018, table 1."""
    model = make_model(tmp_path, "SeaquestNoFrameskip-v4", config="rainbow")
    assert isinstance(model.learner.loss, TDLoss)
    assert model.learner.loss.backup is double_backup
    assert model.learner.loss.objective is categorical_objective
    streams = model.q_net.q_net
    assert isinstance(streams, DuelingStreams)
    linear = [module for module in model.q_net.modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (3136, 512),
        (512, 51),
        (3136, 512),
        (512, 18 * 51),
    ]
    assert all(isinstance(layer, NoisyLinear) for layer in linear)
    assert isinstance(linear[0], NoisyLinear)
    assert linear[0].weight_sigma[0, 0].item() == pytest.approx(0.5 / 56)
    distribution = model.q_net.distribution
    assert isinstance(distribution, Categorical)
    assert (distribution.n_values, distribution.v_min, distribution.v_max) == (51, -10, 10)
    buffer = model.replay_buffer
    assert isinstance(buffer, FrameReplayBuffer)
    sampler = buffer.sampler
    assert isinstance(sampler, PrioritizedSampler)
    assert (sampler.priority_exponent, sampler.importance_exponent) == (0.5, 0.4)
    assert (buffer.n_steps, buffer.gamma, model.buffer_size) == (3, 0.99, 1_000_000)
    assert (model.lr_schedule(1), model.policy.optimizer.defaults["eps"]) == (6.25e-5, 1.5e-4)
    assert (model.batch_size, model.update_period, model.target_update_interval) == (32, 4, 8000)
    assert (model.learning_starts, model.exploration_initial_eps, model.exploration_final_eps) == (20_000, 0, 0)
    assert model.clip_rewards


def test_cpu_is_pong_at_a_constant_rate() -> None:
    cpu, pong = read("cpu", "atari"), read("pong", "PongNoFrameskip-v4")
    assert {key for key in cpu.keys() | pong.keys() if cpu.get(key) != pong.get(key)} == {"learning_rate", "n_timesteps"}
    assert cpu["learning_rate"] == float(pong["learning_rate"].removeprefix("lin_"))


def test_motion_tracer_changes_input_network_and_discount_only() -> None:
    for section in ("atari", "Breakout-v0"):
        tracer, plain = read("motion-tracer", section), read("dqn_custom", "atari")
        changed = {key for key in tracer.keys() | plain.keys() if tracer.get(key) != plain.get(key)}
        assert changed == {"env_wrapper", "frame_stack", "policy_kwargs", "gamma", "replay_buffer_kwargs"} | (
            {"native_envs"} if section == "Breakout-v0" else set()
        )


def test_finds_the_default_where_rl_zoo_is_installed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rl_zoo3, "__file__", "/elsewhere/rl_zoo3/__init__.py")
    assert find_config("/elsewhere/rl_zoo3/hyperparams/dqn_custom.yml") == str(presets()["dqn_custom"])


def test_the_default_is_ours_even_where_an_older_copy_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable installation copies it once."""
    copy = tmp_path / "hyperparams" / "dqn_custom.yml"
    copy.parent.mkdir()
    copy.write_text("default: {}")
    monkeypatch.setattr(rl_zoo3, "__file__", str(tmp_path / "__init__.py"))
    assert find_config(str(copy)) == str(presets()["dqn_custom"])


def test_finds_presets_files_and_modules(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text("default: {}")
    assert find_config(str(own)) == str(own)
    assert find_config("nips") == str(presets()["nips"])
    assert find_config("tests.zoo.configuration") == "tests.zoo.configuration"
    with pytest.raises(ValueError, match=r"own.txt' must end in .yml, .yaml or .py"):
        find_config(str(own.rename(tmp_path / "own.txt")))


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "must have a section for each game"), ("[1, 2]", "must have a section for each game"), ("a: [", "is not YAML")],
)
def test_refuses_files_that_are_no_configuration(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(content)
    with pytest.raises(ValueError, match=f"own.yml' {message}"):
        find_config(str(tmp_path / "own.yml"))


@pytest.mark.parametrize("name", ["nipz", "nothing.yml", "no.such.module", "json.tool"])
def test_lists_the_presets_if_there_is_none_of_that_name(name: str) -> None:
    with pytest.raises(
        ValueError,
        match=f"{name}' is neither a file nor a preset.*; the presets are .*nips, pong, prioritized, .*target-network",
    ):
        find_config(name)
