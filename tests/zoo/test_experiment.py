"""RL Zoo's experiments with our algorithm: checks, trials, memory."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import optuna
import pytest
import rl_zoo3.exp_manager
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS

from sb3_atari_dqn import CustomDQN, NatureCNN, NipsCNN
from sb3_atari_dqn.checkpoints.store import FolderLock
from sb3_atari_dqn.networks.policy import CnnPolicy
from sb3_atari_dqn.zoo import register
from sb3_atari_dqn.zoo.experiment import check_hyperparams
from sb3_atari_dqn.zoo.search_space import convert
from tests.zoo.experiments import make_experiment, make_model, make_sweep_model

PONG = "PongNoFrameskip-v4"
ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"


def test_registering_again_changes_nothing() -> None:
    methods = dict(vars(ExperimentManager))
    tables = [dict(ALGOS), dict(HYPERPARAMS_SAMPLER), dict(HYPERPARAMS_CONVERTER)]
    register()
    assert dict(vars(ExperimentManager)) == methods
    assert tables == [ALGOS, HYPERPARAMS_SAMPLER, HYPERPARAMS_CONVERTER]
    assert ALGOS["dqn_custom"] is CustomDQN


def test_says_what_to_do_if_rl_zoo_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        changed.delattr(ExperimentManager, "objective")
        with pytest.warns(
            UserWarning, match=r"rl_zoo3 .*dqn_custom, dqn_sweep cannot be used.*objective.*pip install 'rl-zoo3"
        ):
            register()
        assert "dqn_custom" not in ALGOS
    register()
    assert ALGOS["dqn_custom"] is CustomDQN


def test_a_run_is_locked_until_its_model_is_saved(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="there are no locks on this system")
    experiment = make_experiment(tmp_path, "CartPole-v1", n_timesteps=8, log_interval=-1)
    made = experiment.setup_experiment()
    assert made is not None
    lock = FolderLock(Path(experiment.save_path))
    experiment.learn(made[0])
    with pytest.raises(ValueError, match="is being trained by another process"):
        lock.check_free()
    experiment.save_trained_model(made[0])
    lock.check_free()
    assert (lock.path.parent / "CartPole-v1.zip").is_file()


@pytest.mark.parametrize(
    ("hyperparams", "error", "message"),
    [
        ({"learning_rat": 1e-3}, TypeError, "no argument 'learning_rat'; did you mean 'learning_rate'"),
        ({"checkpoint_freq": 0}, ValueError, "checkpoint_freq=0 must be a whole number of agent steps, at least 1"),
        ({"checkpoint_keep": -1}, ValueError, "checkpoint_keep=-1 must be a whole number of checkpoints, at least 0"),
        ({"learning_rate": "1e-4"}, ValueError, "learning_rate='1e-4' must be a number, or lin_NUMBER.* 1.0e-4 for a number"),
        ({"learning_rate": "lin_fast"}, ValueError, "learning_rate='lin_fast' must be a number, or lin_NUMBER"),
        ({"n_timesteps": "1e6"}, ValueError, "n_timesteps='1e6' must be a number of at least 1"),
        ({"policy": "CnnPolicyy"}, ValueError, "policy='CnnPolicyy' is not known; choose one of MlpPolicy, CnnPolicy"),
        ({"buffer_size": 1e6}, ValueError, "buffer_size=1000000.0 must be a whole number of transitions"),
        ({"gamma": 1.5}, ValueError, r"gamma=1.5 must be a number in \[0, 1\]"),
        ({"frame_stak": 4}, TypeError, "no argument 'frame_stak'; did you mean 'frame_stack'"),
        ({"loss": "hubber"}, ValueError, "loss='hubber' is not known"),
        ({"target_update_interval": 0}, ValueError, "target_update_interval=0 must be"),
        ({"policy_kwargs": {"features_extractor_class": "NipsCMM"}}, ValueError, "'NipsCMM' is not known"),
        ({"policy_kwargs": "dict(features_extractor_class='NipsCMM')"}, ValueError, "'NipsCMM' is not known"),
        ({"policy_kwargs": {"duelling": True}}, TypeError, "policy_kwargs has no argument 'duelling'; did you mean 'dueling'"),
        ({"policy_kwargs": {"dueling": "yes"}}, ValueError, "dueling='yes' must be True or False"),
        ({"policy_kwargs": {"distribution": "c51"}}, ValueError, "distribution='c51' is not known"),
        (
            {"policy_kwargs": {"features_extractor_class": "ImpalaCNN", "features_extractor_kwargs": {"widht": 2}}},
            TypeError,
            "features_extractor_class ImpalaCNN has no argument 'widht'; did you mean 'width'",
        ),
        (
            {"policy_kwargs": {"features_extractor_class": "ImpalaCNN", "features_extractor_kwargs": {"width": 0}}},
            ValueError,
            "width=0 must be a whole number",
        ),
        ({"double_q": True, "munchausen": True}, ValueError, "double_q=True has no effect with munchausen=True"),
        ({"replay_buffer_kwargs": {"importance_exponent": 0.4}}, ValueError, "importance_exponent=0.4 has no effect"),
        ({"policy_kwargs": {"net_arc": []}}, TypeError, "policy_kwargs has no argument 'net_arc'; did you mean 'net_arch'"),
        ({"env_wrapper": [{"sb3_atari_dqn.MotionTracer": {"decy": 0.5}}]}, TypeError, "'decy'; did you mean 'decay'"),
        ({"env_wrapper": [{ATARI_WRAPPER: {"clip_rewrd": False}}]}, TypeError, "'clip_rewrd'; did you mean 'clip_reward'"),
        ({"policy_kwargs": ["dueling"]}, ValueError, r"policy_kwargs=\['dueling'\] must be arguments by name"),
        ({"env_wrapper": "nothing.Wrapper"}, ImportError, "No module named 'nothing'"),
        ({"env_wrapper": "sb3_atari_dqn.Tracer"}, ValueError, "env_wrapper 'sb3_atari_dqn.Tracer' is not known"),
        ({"seed": 3}, ValueError, "'seed' cannot be set in a configuration"),
        ({"env_wrapper": [{"sb3_atari_dqn.MotionTracer": {"decay": 1}}]}, ValueError, "decay=1 must be"),
        ({"env_wrapper": {"sb3_atari_dqn.MotionTracerAtariWrapper": {"width": 0}}}, ValueError, "width=0 must be"),
        ({"frame_stack": 2}, ValueError, "frame_stack=2 does not go with replay_buffer_kwargs: n_stack=4"),
        ({"frame_stack": 8}, ValueError, "frame_stack=8 does not go with replay_buffer_kwargs: n_stack=4"),
        ({"optimize_memory_usage": True}, ValueError, "optimize_memory_usage=True is not for FrameReplayBuffer"),
        ({"accelerate": "cuda-graph"}, ValueError, 'accelerate="cuda-graph" needs a CUDA device, and this is cpu'),
        (
            {"replay_buffer_class": "FrameReplayBufer"},
            ValueError,
            "'FrameReplayBufer' is not .* choose one of FrameReplayBuffer",
        ),
    ],
)
def test_refuses_bad_configurations_before_anything_is_made(
    hyperparams: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        make_model(tmp_path, PONG, hyperparams=hyperparams, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_preset_that_has_nothing_for_a_game_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no section for 'BreakoutNoFrameskip-v4'.*it has PongNoFrameskip-v4"):
        make_model(tmp_path, "BreakoutNoFrameskip-v4", config="pong")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["policy", "n_timesteps"])
def test_names_what_a_configuration_lacks(key: str, tmp_path: Path) -> None:
    section = {"policy": "MlpPolicy", "n_timesteps": 100}
    del section[key]
    config = tmp_path / "own.yml"
    config.write_text(yaml.dump({"CartPole-v1": section}))
    with pytest.raises(ValueError, match=f"own.yml has no {key} for CartPole-v1"):
        make_experiment(tmp_path, "CartPole-v1", config=str(config)).setup_experiment()
    assert list(tmp_path.iterdir()) == [config]


def test_two_runs_that_begin_together_have_folders_of_their_own(tmp_path: Path) -> None:
    first, second = (make_experiment(tmp_path, "CartPole-v1") for _ in range(2))
    assert first.save_path == second.save_path
    for experiment in (first, second):
        experiment.create_log_folder()
    folders = [tmp_path / "dqn_custom" / f"CartPole-v1_{number}" for number in (1, 2)]
    assert [Path(experiment.save_path) for experiment in (first, second)] == folders
    assert [Path(experiment.params_path) for experiment in (first, second)] == [folder / "CartPole-v1" for folder in folders]
    assert all(Path(experiment.params_path).is_dir() for experiment in (first, second))


def test_a_folder_with_brackets_is_numbered_too(tmp_path: Path) -> None:
    folder = tmp_path / "runs [a]"
    for _ in range(2):
        make_experiment(folder, "CartPole-v1").create_log_folder()
    assert {path.name for path in (folder / "dqn_custom").iterdir()} == {"CartPole-v1_1", "CartPole-v1_2"}


def test_evaluations_play_the_game_of_the_training(tmp_path: Path) -> None:
    """RL Zoo forgets the configuration's ``env_kwargs`` there."""
    hyperparams = {"env_kwargs": {"full_action_space": True, "repeat_action_probability": 0.25}, "buffer_size": 100}
    for native_envs in (True, False):
        experiment = make_experiment(tmp_path, PONG, hyperparams=hyperparams | {"native_envs": native_envs}, eval_freq=100)
        assert experiment.setup_experiment() is not None
        env = experiment.create_envs(1, eval_env=True)
        assert env.action_space.n == 18  # type: ignore[attr-defined]  # it is discrete
        env.close()
    given = make_experiment(tmp_path, PONG, hyperparams=hyperparams, eval_env_kwargs={"full_action_space": False})
    given.read_hyperparameters()
    assert given.eval_env_kwargs == {"full_action_space": False}


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "Pong-v4"])
def test_refuses_to_skip_frames_twice(env_id: str, tmp_path: Path) -> None:
    gymnasium = {"native_envs": False, "n_envs": 1, "buffer_size": 10}
    with pytest.raises(
        ValueError, match=r"skips frames by itself .* AtariWrapper would once more .*: give 'PongNoFrameskip-v4'"
    ):
        make_model(tmp_path, env_id, hyperparams=gymnasium)
    assert not list(tmp_path.iterdir())
    once = {"env_wrapper": [{ATARI_WRAPPER: {"clip_reward": False, "frame_skip": 1}}]}
    make_model(tmp_path, env_id, hyperparams=gymnasium | once)
    make_model(tmp_path, env_id, hyperparams=gymnasium | {"env_kwargs": {"frameskip": 1}})


@pytest.mark.parametrize(
    ("hyperparams", "error", "message"),
    [
        ({"loss_limt": 1e-3}, TypeError, "no argument 'loss_limt'; did you mean 'loss_limit'"),
        ({"replay_buffer_class": "FrameReplayBuffer"}, TypeError, "a sweep needs a memory of its own"),
        ({"learning_rate": "lin_1e-3"}, ValueError, "learning_rate=LinearSchedule.* must be a number: it falls"),
        ({"buffer_size": 100}, ValueError, "make a fit due at 9 states, and it needs 128"),
        ({"policy_kwargs": {"optimizer_class": "Adan"}}, ValueError, "optimizer_class='Adan' is not known"),
        ({"n_envs": 0}, ValueError, "n_envs=0 must be a whole number of environments"),
    ],
)
def test_refuses_bad_configurations_of_the_sweep_before_anything_is_made(
    hyperparams: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        make_sweep_model(tmp_path, "Breakout-v0", hyperparams=hyperparams)
    assert not list(tmp_path.iterdir())


def test_rl_zoos_own_names_of_buffers_go_on_working(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, PONG, hyperparams={"replay_buffer_class": "HerReplayBuffer"})
    hyperparams, _ = experiment.read_hyperparameters()
    assert hyperparams["replay_buffer_class"] == "HerReplayBuffer"  # RL Zoo makes the class of it


class OpenPolicy(CnnPolicy):
    """A user's policy with an argument of its own."""

    def __init__(self, *args: Any, note: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.note = note


class OpenWrapper(gym.Wrapper):
    """A user's wrapper that takes anything."""

    def __init__(self, env: gym.Env, **kwargs: Any) -> None:
        super().__init__(env)


def test_lets_users_policies_and_wrappers_take_what_they_take(tmp_path: Path) -> None:
    own = {
        "buffer_size": 10,
        "native_envs": False,
        "n_envs": 1,
        "policy": f"{__name__}.OpenPolicy",
        "policy_kwargs": {"note": "mine"},
        "env_wrapper": [{f"{__name__}.OpenWrapper": {"anything": 1}}, {ATARI_WRAPPER: {"clip_reward": False}}],
    }
    model = make_model(tmp_path, PONG, hyperparams=own)
    assert isinstance(model.policy, OpenPolicy)
    assert model.policy.note == "mine"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study of two trials on Pong, of which the second one has another network than the preset."""
    folder = tmp_path_factory.mktemp("study")
    storage = f"sqlite:///{folder / 'tune.db'}"
    optuna.create_study(storage=storage, study_name="pong", direction="maximize").enqueue_trial(
        {"features_extractor_class": "NipsCNN", "update_period": 8, "batch_size": 32}
    )
    experiment = make_experiment(
        folder,
        PONG,
        n_timesteps=60,
        optimize_hyperparameters=True,
        n_trials=2,
        n_eval_episodes=1,
        storage=storage,
        study_name="pong",
        no_optim_plots=True,
        n_evaluations=1,
        hyperparams={"n_envs": 4, "buffer_size": 100, "learning_starts": 20, "policy_kwargs": {"net_arch": [16]}},
        eval_env_kwargs={"max_num_frames_per_episode": 200},
    )
    assert experiment.setup_experiment() is None
    experiment.hyperparameters_optimization()
    return folder, storage


def test_a_study_leaves_no_folder_that_looks_like_a_run(study: tuple[Path, str]) -> None:
    folder, _ = study
    assert [path for path in (folder / "dqn_custom").iterdir() if path.is_dir()] == []
    assert list((folder / "dqn_custom").glob("report_*.csv"))


def test_two_trials_differ(study: tuple[Path, str]) -> None:
    trials = optuna.load_study(storage=study[1], study_name="pong").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert trials[0].params["learning_rate"] != trials[1].params["learning_rate"]


@pytest.mark.parametrize("trial_id", [0, 1])
def test_a_trial_is_trained_again_with_its_hyperparameters(study: tuple[Path, str], trial_id: int, tmp_path: Path) -> None:
    params = optuna.load_study(storage=study[1], study_name="pong").trials[trial_id].params
    model = make_model(
        tmp_path,
        PONG,
        storage=study[1],
        study_name="pong",
        trial_id=trial_id,
        hyperparams={"n_envs": 4, "buffer_size": 10, "policy_kwargs": "dict(net_arch=[24])"},
    )
    assert model.q_net.net_arch == [24], "merged, not replaced"
    assert model.lr_schedule(1) == params["learning_rate"]
    assert model.gamma == 1 - params["one_minus_gamma"]
    for name in (
        "batch_size",
        "loss",
        "clip_rewards",
        "target_update_interval",
        "exploration_fraction",
        "double_q",
        "n_steps",
    ):
        assert getattr(model, name) == convert(params)[name], name
    assert model.policy.distribution == convert(params)["policy_kwargs"]["distribution"]
    assert type(model.q_net.features_extractor).__name__ == params["features_extractor_class"]
    assert model.buffer_size == 10, "the command line has the last word"
    saved = yaml.unsafe_load((tmp_path / f"dqn_custom/{PONG}_1/{PONG}/config.yml").read_text())
    assert saved["batch_size"] == params["batch_size"]
    if trial_id == 0:
        assert isinstance(model.q_net.features_extractor, NipsCNN)


def test_the_command_of_a_study_is_shown_without_its_password(
    study: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    opened = optuna.load_study(storage=study[1], study_name="pong")
    opened.set_user_attr("command", "train --storage postgresql://tuner:xyzzy@host/studies -optimize")  # of an earlier version
    make_experiment(study[0], PONG, storage=study[1], study_name="pong", trial_id=0).read_hyperparameters()
    said = capsys.readouterr().out
    assert "the study was run as: train --storage postgresql://tuner:***@host/studies -optimize" in said
    assert "xyzzy" not in said


class Recorded(CustomDQN):
    """Remembers the networks that trials were given."""

    networks: list[tuple[str, list[int]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.networks.append((type(self.q_net.features_extractor).__name__, self.q_net.net_arch))


def test_a_trial_keeps_what_the_preset_says_of_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorded.networks = []
    monkeypatch.setitem(ALGOS, "dqn_custom", Recorded)
    experiment = make_experiment(
        tmp_path,
        "Breakout-v0",
        config="motion-tracer",
        n_timesteps=10,
        n_evaluations=1,
        n_eval_episodes=1,
        eval_env_kwargs={"max_num_frames_per_episode": 200},
        optimize_hyperparameters=True,
        hyperparams={
            "n_envs": 2,
            "buffer_size": 20,
            "policy_kwargs": {"features_extractor_class": "TutorialCNN", "net_arch": [8]},
        },
    )
    experiment.setup_experiment()
    optuna.create_study(direction="maximize").optimize(experiment.objective, n_trials=1)
    assert Recorded.networks == [("TutorialCNN", [8])]


def test_a_trial_that_runs_out_of_memory_is_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = f"sqlite:///{tmp_path / 'tune.db'}"
    experiment = make_experiment(
        tmp_path,
        "CartPole-v1",
        n_timesteps=10,
        n_evaluations=1,
        optimize_hyperparameters=True,
        n_trials=2,
        storage=storage,
        study_name="huge",
        hyperparams={"buffer_size": 10**15},
    )
    experiment.setup_experiment()
    experiment.hyperparameters_optimization()
    trials = optuna.load_study(storage=storage, study_name="huge").trials
    assert [trial.state.name for trial in trials] == ["PRUNED", "PRUNED"]
    output = capsys.readouterr().out
    assert "Trial 1 ran out of memory" in output
    assert "All trials of the study were pruned" in output


def test_other_failures_are_not_hidden(tmp_path: Path) -> None:
    experiment = make_experiment(
        tmp_path,
        "CartPole-v1",
        n_timesteps=10,
        n_evaluations=1,
        optimize_hyperparameters=True,
        hyperparams={"policy_kwargs": {"optimizer_kwargs": {"eps": "nonsense"}}},
    )
    experiment.setup_experiment()
    with pytest.raises(TypeError):
        optuna.create_study().optimize(experiment.objective, n_trials=1)


def test_a_device_that_is_none_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nonsense"):
        make_model(tmp_path, "CartPole-v1", device="nonsense")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"trial_id": 0}, "--trial-id 0 needs the study"),
        ({"trial_id": 7, "study_name": "pong"}, "--trial-id 7 is not in study 'pong'"),
        ({"trial_id": -1, "study_name": "pong"}, "--trial-id -1 is not in study 'pong'"),
        ({"trial_id": 0, "study_name": "ping"}, "--study-name 'ping' is not in --storage"),
        ({"trial_id": 0, "study_name": "pong", "storage": "sqlite:///typo.db"}, "there is no file 'typo.db'"),
        ({"trial_id": 0, "study_name": "pong", "storage": "no such address"}, "'no such address' cannot be opened"),
    ],
)
def test_refuses_a_trial_that_is_not_there(
    kwargs: dict[str, Any], message: str, study: tuple[Path, str], tmp_path: Path
) -> None:
    storage = {"storage": study[1]} if "study_name" in kwargs else {}
    with pytest.raises(ValueError, match=message):
        make_model(tmp_path, PONG, **{**storage, **kwargs})
    assert not list(tmp_path.iterdir())
    assert not Path("typo.db").exists()


def test_refuses_a_trial_of_another_algorithm(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'ppo.db'}"
    optuna.create_study(storage=storage, study_name="ppo").add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ValueError, match="has no 'one_minus_gamma': it is not a trial of this algorithm"):
        make_model(tmp_path / "logs", PONG, storage=storage, study_name="ppo", trial_id=0)


def test_other_algorithms_are_left_alone(tmp_path: Path) -> None:
    experiment = rl_zoo3.exp_manager.ExperimentManager.__new__(ExperimentManager)
    experiment.algo = "dqn"
    experiment.config = "nonsense"
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        experiment.read_hyperparameters()


class OwnNatureCNN(NatureCNN):
    """A user's, with an argument of its own."""

    def __init__(self, observation_space: gym.spaces.Space[Any], width: int = 2) -> None:
        super().__init__(observation_space)
        self.width = width


@pytest.mark.parametrize(
    ("policy", "policy_kwargs"),
    [
        ("MultiInputPolicy", {"features_extractor_kwargs": {"cnn_output_dim": 128}}),
        ("CnnPolicy", {"features_extractor_class": OwnNatureCNN, "features_extractor_kwargs": {"width": 3}}),
    ],
)
def test_other_networks_take_their_own_arguments(policy: str, policy_kwargs: dict[str, Any]) -> None:
    check_hyperparams("dqn_custom", {"policy": policy, "policy_kwargs": policy_kwargs})
    if "features_extractor_class" in policy_kwargs:
        with pytest.raises(TypeError, match="OwnNatureCNN has no argument 'widht'; did you mean 'width'"):
            check_hyperparams(
                "dqn_custom", {"policy": policy, "policy_kwargs": policy_kwargs | {"features_extractor_kwargs": {"widht": 1}}}
            )
