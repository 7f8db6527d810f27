"""What trials sample, and how it is laid over a preset."""

from typing import Any

import optuna
import pytest
import yaml

from sb3_atari_dqn import CustomDQN, SweepDQN
from sb3_atari_dqn.zoo.presets import presets
from sb3_atari_dqn.zoo.search_space import SEARCH_SPACES, convert, lay_over, preset_of_trial, suggest

ATARI = yaml.safe_load(presets()["dqn_custom"].read_text())["atari"]
SWEEP = yaml.safe_load(presets()["dqn_sweep"].read_text())["atari"]
TRACER = yaml.safe_load(presets()["motion-tracer"].read_text())["atari"]
PARAMS: dict[str, Any] = {
    "learning_rate": 1e-4,
    "batch_size": 64,
    "one_minus_gamma": 0.02,
    "update_period": 2,
    "exploration_fraction": 0.2,
    "exploration_final_eps": 0.1,
    "loss": "huber",
    "huber_delta": 2.0,
    "clip_rewards": False,
    "target_update_interval": 5000,
    "backup": "double",
    "n_steps": 3,
    "distribution": "none",
    "v_max": 20.0,
    "dueling": True,
    "noisy": False,
    "priority_exponent": 0.3,
    "features_extractor_class": "NipsCNN",
}


def draw(preset: dict[str, Any], n_trials: int = 50, n_envs: int = 8) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggest(study.ask(), preset, n_envs) for _ in range(n_trials)]


def test_converts_to_arguments_of_the_algorithm() -> None:
    hyperparams = convert(PARAMS)
    assert hyperparams.pop("gamma") == pytest.approx(0.98)
    assert hyperparams == {
        "learning_rate": 1e-4,
        "batch_size": 64,
        "update_period": 2,
        "exploration_fraction": 0.2,
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.1,
        "loss": "huber",
        "huber_delta": 2.0,
        "clip_rewards": False,
        "target_update_interval": 5000,
        "double_q": True,
        "munchausen": False,
        "munchausen_kwargs": None,
        "n_steps": 3,
        "replay_buffer_kwargs": {"priority_exponent": 0.3},
        "policy_kwargs": {
            "features_extractor_class": "NipsCNN",
            "features_extractor_kwargs": {"features_dim": None},
            "net_arch": [256],
            "dueling": True,
            "noisy_sigma": None,
            "distribution": None,
            "distribution_kwargs": {},
        },
    }
    assert convert(PARAMS | {"loss": "mse"})["huber_delta"] == 1.0
    CustomDQN.check_keywords(convert(PARAMS))


def test_converts_to_mixes_that_have_a_meaning() -> None:
    categorical = convert(PARAMS | {"distribution": "categorical", "backup": "munchausen"})
    assert (categorical["loss"], categorical["huber_delta"]) == (None, 1.0)
    assert (categorical["double_q"], categorical["munchausen"]) == (True, False)
    assert categorical["policy_kwargs"]["distribution_kwargs"] == {"v_min": -20.0, "v_max": 20.0}
    quantile = convert(PARAMS | {"distribution": "quantile", "backup": "munchausen", "loss": "mse"})
    assert (quantile["loss"], quantile["huber_delta"]) == ("huber", 2.0)
    assert (quantile["double_q"], quantile["munchausen"]) == (False, True)
    assert convert(PARAMS | {"noisy": True})["policy_kwargs"]["noisy_sigma"] == 0.5


def test_studies_from_before_the_extensions_are_read() -> None:
    new = ("backup", "n_steps", "distribution", "v_max", "dueling", "noisy", "priority_exponent")
    hyperparams = convert({name: value for name, value in PARAMS.items() if name not in new})
    CustomDQN.check_values(lay_over(ATARI, hyperparams))
    assert (hyperparams["double_q"], hyperparams["munchausen"], hyperparams["policy_kwargs"]["dueling"]) == (
        False,
        False,
        False,
    )


def test_every_draw_is_allowed_and_all_choices_occur() -> None:
    draws = draw(ATARI)
    for params in draws:
        assert params.keys() == PARAMS.keys()
        CustomDQN.check_values(lay_over(ATARI, convert(params)))
    for name, choices in {
        "batch_size": {32, 64, 128},
        "update_period": {1, 2, 4, 8},
        "loss": {"huber", "mse"},
        "clip_rewards": {True, False},
        "features_extractor_class": {"NipsCNN", "NatureCNN"},
        "backup": {"greedy", "double", "munchausen"},
        "n_steps": {1, 2, 3, 5},
        "distribution": {"none", "categorical", "quantile", "implicit-quantile"},
        "dueling": {True, False},
        "noisy": {True, False},
    }.items():
        assert {params[name] for params in draws} == choices
    assert len({params["learning_rate"] for params in draws}) == len(draws)


def test_keeps_a_network_that_is_not_among_the_choices() -> None:
    merged = lay_over(TRACER, convert(draw(TRACER, 1)[0]))
    assert merged["policy_kwargs"].items() >= {"features_extractor_class": "TutorialCNN", "normalize_images": False}.items()
    assert "net_arch" not in merged["policy_kwargs"]
    own = {**ATARI, "policy_kwargs": {"features_extractor_class": type("Own", (), {})}}
    assert "features_extractor_class" not in draw(own, 1)[0]


def test_policy_kwargs_are_merged() -> None:
    preset = {**ATARI, "policy_kwargs": {"features_extractor_class": "NatureCNN", "normalize_images": False}}
    merged = lay_over(preset, convert(PARAMS))
    assert merged["policy_kwargs"] == {**convert(PARAMS)["policy_kwargs"], "normalize_images": False}
    assert merged["replay_buffer_kwargs"] == {"n_stack": 4, "compression": "lz4", "priority_exponent": 0.3}
    assert merged["frame_stack"] == 4
    assert preset["policy_kwargs"]["features_extractor_class"] == "NatureCNN"


def test_vectors_have_the_same_space_without_the_network() -> None:
    preset = {"policy": "MlpPolicy", "update_period": 4}
    assert draw(preset, 1)[0].keys() == PARAMS.keys() - {"features_extractor_class", "priority_exponent"}


def test_a_preset_that_counts_steps_as_sb3_does_goes_on_doing_so() -> None:
    preset = {"policy": "MlpPolicy", "train_freq": 4, "gradient_steps": 2}
    draws = draw(preset)
    assert {params["train_freq"] for params in draws} == {1, 2, 4, 8}
    merged = lay_over(preset, convert(draws[0]))
    assert merged["gradient_steps"] == 1
    assert "update_period" not in merged
    CustomDQN.check_values(merged)


@pytest.mark.parametrize(("n_envs", "periods"), [(1, {1, 2, 4, 8}), (3, {1}), (6, {1, 2}), (16, {1, 2, 4, 8})])
def test_periods_go_with_the_number_of_environments(n_envs: int, periods: set[int]) -> None:
    draws = draw(ATARI, n_envs=n_envs)
    assert {params["update_period"] for params in draws} == periods
    for params in draws:
        CustomDQN.check_values(lay_over({**ATARI, "n_envs": n_envs}, convert(params)))


@pytest.mark.parametrize("name", [name for name in presets() if name != "dqn_sweep"])
def test_every_draw_goes_with_every_preset(name: str) -> None:
    for section in yaml.safe_load(presets()[name].read_text()).values():
        for params in draw(section, n_envs=section.get("n_envs", 1)):
            CustomDQN.check_values(lay_over(section, convert(params)))


def test_no_target_network_stays_none() -> None:
    preset = {**ATARI, "target_update_interval": None}
    for params in draw(preset):
        merged = lay_over(preset, convert(params))
        assert merged["target_update_interval"] is None
        CustomDQN.check_values(merged)


@pytest.mark.parametrize(
    "changes", [{"optimize_memory_usage": True}, {"policy": "MultiInputPolicy"}, {"replay_buffer_class": "HerReplayBuffer"}]
)
def test_memories_without_several_steps_stay_so(changes: dict[str, Any]) -> None:
    preset = {"policy": "MlpPolicy", "update_period": 4}
    assert "n_steps" in draw(preset, 1)[0]
    assert "n_steps" not in draw(preset | changes, 1)[0]


def test_samples_for_the_preset_of_the_running_trial() -> None:
    """RL Zoo has taken the number of environments out of the preset, and gives it."""
    preset = {key: value for key, value in ATARI.items() if key != "n_envs"}
    token = preset_of_trial.set(preset)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        trials = [SEARCH_SPACES["dqn_custom"].sample(study.ask(), 0, 12, {}) for _ in range(20)]
    finally:
        preset_of_trial.reset(token)
    assert {trial["update_period"] for trial in trials} == {1, 2, 4}
    hyperparams = trials[0]
    assert "n_envs" not in hyperparams
    assert hyperparams["frame_stack"] == 4
    assert hyperparams["policy_kwargs"]["features_extractor_class"] in {"NipsCNN", "NatureCNN"}


def test_every_draw_of_the_sweep_is_allowed_and_all_of_it_is_searched() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = SEARCH_SPACES["dqn_sweep"]
    draws = [space.suggest(study.ask(), SWEEP, 16) for _ in range(50)]
    for params in draws:
        assert params.keys() == draws[0].keys()
        merged = lay_over(SWEEP, space.convert(params))
        SweepDQN.check_keywords(space.convert(params))
        SweepDQN.check_values(merged)
        assert merged["gamma"] == 1 - params["one_minus_gamma"]
        assert merged["policy_kwargs"] == SWEEP["policy_kwargs"]
    assert {params["batch_size"] for params in draws} == {64, 128, 256}
    for name in draws[0].keys() - {"batch_size", "clip_rewards", "exploration_steps"}:
        assert len({params[name] for params in draws}) == len(draws), name
