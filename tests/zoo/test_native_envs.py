"""``native_envs: true``: what a configuration becomes, in training, tuning and playing."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from gymnasium import spaces
from rl_zoo3.utils import create_test_env, get_saved_hyperparams
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv
from sb3_atari_dqn.envs.vec_motion_tracer import VecMotionTracer
from sb3_atari_dqn.zoo.native_envs import native_arguments
from tests.zoo.experiments import make_experiment, make_model

PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"
ATARI = "stable_baselines3.common.atari_wrappers.AtariWrapper"
TRACER = "sb3_atari_dqn.MotionTracerAtariWrapper"
NATIVE: dict[str, Any] = {"native_envs": True, "buffer_size": 200}


@pytest.mark.parametrize(
    ("hyperparams", "env_kwargs", "arguments", "tracer"),
    [
        ({"env_wrapper": [{ATARI: {"clip_reward": False}}], "frame_stack": 4}, {}, {"n_stack": 4}, None),
        ({"env_wrapper": {AtariWrapper: {"clip_reward": False}}}, None, {"n_stack": 1}, None),
        (
            {
                "env_wrapper": {
                    ATARI: {
                        "clip_reward": False,
                        "noop_max": 5,
                        "frame_skip": 3,
                        "screen_size": 50,
                        "terminal_on_life_loss": False,
                        "action_repeat_probability": 0.1,
                    }
                }
            },
            {"full_action_space": True, "max_num_frames_per_episode": 99},
            {
                "n_stack": 1,
                "noop_max": 5,
                "frame_skip": 3,
                "screen_size": 50,
                "terminal_on_life_loss": False,
                "action_repeat_probability": 0.1,
                "full_action_space": True,
                "max_episode_frames": 99,
            },
            None,
        ),
        (
            {"env_wrapper": {ATARI: {"clip_reward": False}}},
            {"repeat_action_probability": 0.25},
            {"n_stack": 1, "action_repeat_probability": 0.25},
            None,
        ),
        ({"env_wrapper": TRACER}, {}, {"n_stack": 1, "screen_size": (105, 80)}, {}),
        (
            {"env_wrapper": [{TRACER: {"noop_max": 1, "width": 40, "decay": 0.5, "threshold": 7}}], "frame_stack": 1},
            {},
            {"n_stack": 1, "screen_size": (105, 40), "noop_max": 1},
            {"decay": 0.5, "threshold": 7},
        ),
    ],
)
def test_translates(
    hyperparams: dict[str, Any],
    env_kwargs: dict[str, Any] | None,
    arguments: dict[str, Any],
    tracer: dict[str, Any] | None,
) -> None:
    assert native_arguments(hyperparams, env_kwargs) == (arguments, tracer)


@pytest.mark.parametrize(
    ("env_id", "hyperparams", "message"),
    [
        (BREAKOUT, {"native_envs": "yes"}, "native_envs='yes' must be true or false"),
        (BREAKOUT, {"env_wrapper": None}, "env_wrapper=None does not go with native_envs=True, which knows one wrapper"),
        (
            BREAKOUT,
            {"env_wrapper": [{ATARI: {}}]},
            "clip_reward must be false with native_envs=True, and is true if it is not",
        ),
        (BREAKOUT, {"env_wrapper": [{ATARI: {"clip_reward": True}}]}, "clipped where they are learnt from with clip_rewards"),
        (BREAKOUT, {"env_wrapper": ["sb3_atari_dqn.MotionTracer"]}, "MotionTracer'] does not go with native_envs=True"),
        (BREAKOUT, {"env_wrapper": [{ATARI: {"clip_reward": False}}, TRACER]}, "AtariWrapper or MotionTracerAtariWrapper"),
        (BREAKOUT, {"env_wrapper": {ATARI: {"clip_reward": False, "noop_max": -1}}}, "noop_max=-1 must be"),
        (BREAKOUT, {"env_wrapper": {ATARI: {"clip_reward": False, "screen_size": 0}}}, "screen_size=0 must be"),
        (BREAKOUT, {"env_wrapper": TRACER, "frame_stack": 4}, "frame_stack=4 does not go with native_envs=True and a motion"),
        (BREAKOUT, {"frame_stack": 0, "replay_buffer_kwargs": {"n_stack": 0}}, "n_stack=0 must be"),
        (BREAKOUT, {"n_envs": 0}, "n_envs=0 must be"),
        (BREAKOUT, {"normalize": True}, "normalize=True does not go with native_envs=True"),
        (BREAKOUT, {"monitor_kwargs": {"info_keywords": ["lives"]}}, "monitor_kwargs=.* does not go with native_envs=True"),
        (
            BREAKOUT,
            {"vec_env_wrapper": "stable_baselines3.common.vec_env.VecMonitor"},
            "vec_env_wrapper='stable.* does not go",
        ),
        (
            BREAKOUT,
            {"env_kwargs": {"difficulty": 3}},
            "env_kwargs: difficulty=3 does not go .* takes values of repeat_action_probability",
        ),
        (BREAKOUT, {"env_kwargs": {"max_num_frames_per_episode": None}}, "max_num_frames_per_episode=None does not go"),
        (
            BREAKOUT,
            {
                "env_wrapper": {ATARI: {"clip_reward": False, "action_repeat_probability": 0.2}},
                "env_kwargs": {"repeat_action_probability": 0.1},
            },
            "action_repeat_probability=0.2 and env_kwargs: repeat_action_probability=0.1 are the same thing",
        ),
        (
            "ALE/Breakout-v5",
            {},
            "'ALE/Breakout-v5' skips frames by itself .* give 'BreakoutNoFrameskip-v4'. Set native_envs: false",
        ),
        ("Breakout-v4", {}, "env_id='Breakout-v4' skips frames by itself"),
        ("CartPole-v1", {"env_wrapper": {ATARI: {"clip_reward": False}}}, "'CartPole-v1' is not one of ALE's games"),
    ],
)
def test_refuses_what_cannot_be_translated_before_anything_is_made(
    env_id: str, hyperparams: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(tmp_path, env_id, hyperparams={**NATIVE, **hyperparams})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"vec_env_type": "subproc"}, "--vec-env subproc does not go with native_envs=True"),
        ({"eval_env_kwargs": {"mode": 1}}, "env_kwargs: mode=1 does not go with native_envs=True"),
        ({"env_kwargs": {"difficulty": 3}}, "env_kwargs: difficulty=3 does not go with native_envs=True"),
        ({"n_eval_envs": 0}, "n_envs=0 must be"),
    ],
)
def test_refuses_arguments_of_the_command_line_too(kwargs: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(tmp_path, BREAKOUT, hyperparams=NATIVE, **kwargs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("env_id", "hyperparams"), [(BREAKOUT, {"native_envs": False}), ("CartPole-v1", {})])
def test_other_trainings_have_gymnasiums_environments(env_id: str, hyperparams: dict[str, Any], tmp_path: Path) -> None:
    env = make_model(tmp_path, env_id, hyperparams={"buffer_size": 10, "n_envs": 1, **hyperparams}).get_env()
    assert env is not None
    assert isinstance(env.unwrapped, DummyVecEnv)


def test_trains_evaluates_and_plays(tmp_path: Path) -> None:
    experiment = make_experiment(
        tmp_path,
        BREAKOUT,
        n_timesteps=600,
        eval_freq=300,
        log_interval=-1,
        n_eval_episodes=1,
        n_eval_envs=2,
        env_kwargs={"max_num_frames_per_episode": 500},
        eval_env_kwargs={"max_num_frames_per_episode": 400},
        hyperparams={**NATIVE, "n_envs": 4, "learning_starts": 500, "batch_size": 4},
    )
    setup = experiment.setup_experiment()
    assert setup is not None
    model = setup[0]
    env = model.get_env()
    assert isinstance(env, AleVecEnv)
    assert env.spec.kwargs["max_num_frames_per_episode"] == 500
    assert (env.num_envs, env.observation_space) == (4, spaces.Box(0, 255, (4, 84, 84), np.uint8))
    (evaluation,) = (callback for callback in experiment.callbacks if isinstance(callback, EvalCallback))
    eval_env = evaluation.eval_env
    assert isinstance(eval_env, AleVecEnv)
    assert (eval_env.num_envs, eval_env.spec.kwargs["max_num_frames_per_episode"]) == (2, 400)
    assert eval_env._seeds == [0, 1], "RL Zoo seeds evaluation as it does training"

    experiment.learn(model)
    experiment.save_trained_model(model)
    assert model._n_updates > 0
    assert (np.load(Path(experiment.save_path) / "evaluations.npz")["ep_lengths"] < 430).all(), "no-ops are not counted"
    assert sorted(Path(experiment.save_path).glob("*.monitor.csv")) == [
        Path(experiment.save_path) / f"{index}.monitor.csv" for index in range(4)
    ]
    assert len(load_results(experiment.save_path)) > 0, "a game was ended and logged"

    # what enjoy and record_video do
    saved = yaml.unsafe_load((Path(experiment.params_path) / "config.yml").read_text())
    assert isinstance(saved, OrderedDict)
    assert saved["native_envs"] is True
    hyperparams, stats_path = get_saved_hyperparams(experiment.params_path, test_mode=True)
    pictures = create_test_env(
        BREAKOUT,
        stats_path=stats_path,
        should_render=False,
        hyperparams=hyperparams,
        env_kwargs={"render_mode": "rgb_array"},
    )
    loaded = CustomDQN.load(Path(experiment.save_path) / f"{BREAKOUT}.zip")
    observations = pictures.reset()
    assert isinstance(observations, np.ndarray)
    assert observations.shape == (1, 84, 84, 4), "Gymnasium's"
    for _ in range(3):
        actions, _ = loaded.predict(observations)  # type: ignore[arg-type]  # SB3 types it as one environment's
        observations, *_ = pictures.step(actions)
    picture = pictures.render()
    assert picture is not None
    assert picture.shape == (210, 160, 3)


def test_the_motion_tracer_is_native_too(tmp_path: Path) -> None:
    wrapper = {TRACER: {"decay": 0.5, "height": 42, "width": 42}}
    model = make_model(tmp_path, BREAKOUT, config="motion-tracer", hyperparams={**NATIVE, "n_envs": 2, "env_wrapper": wrapper})
    env = model.get_env()
    assert isinstance(env, VecMotionTracer)
    assert isinstance(env.venv, AleVecEnv)
    assert (env.decay, env.threshold, env.observation_space.shape) == (0.5, 20, (2, 42, 42))
    played = create_test_env(BREAKOUT, should_render=False, hyperparams={"env_wrapper": [wrapper]})
    assert played.observation_space.shape == (42, 42, 2), "the same states, channels last"


def test_trials_have_native_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AleVecEnv] = []
    make = AleVecEnv.__init__

    def remember(self: AleVecEnv, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        make(self, *args, **kwargs)

    monkeypatch.setattr(AleVecEnv, "__init__", remember)
    experiment = make_experiment(
        tmp_path,
        BREAKOUT,
        n_timesteps=24,
        n_eval_episodes=1,
        n_evaluations=1,
        optimize_hyperparameters=True,
        eval_env_kwargs={"max_num_frames_per_episode": 100},
        hyperparams={**NATIVE, "n_envs": 2, "learning_starts": 20},
    )
    assert experiment.setup_experiment() is None
    study = optuna.create_study(direction="maximize")
    study.optimize(experiment.objective, n_trials=1)
    assert study.trials[0].state.name == "COMPLETE"
    assert [env.num_envs for env in made] == [1, 2, 1], "RL Zoo makes one to see the actions, then training and evaluation"
    assert not list(tmp_path.rglob("*.monitor.csv")), "trials would write the same files"


def test_subprocesses_are_allowed_without_native_environments(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, PONG, vec_env_type="subproc", hyperparams={"native_envs": False})
    experiment.read_hyperparameters()
    assert experiment.vec_env_class is SubprocVecEnv
    assert not list(tmp_path.iterdir())
