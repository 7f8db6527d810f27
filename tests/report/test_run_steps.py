"""Agent steps of runs with other frame skips, and of runs that begin with another one's model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_atari_dqn.report.curves import plot_scores, read_evaluations, training_scores
from sb3_atari_dqn.report.run_steps import action_repeat, first_step
from sb3_atari_dqn.report.training import training_charts
from tests.report.runs import SMALL, train

WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"
NAMES = [
    # environment, its arguments, frame skip of AtariWrapper, native
    ("BreakoutNoFrameskip-v4", {}, None, False),
    ("BreakoutNoFrameskip-v4", {}, 8, True),
    ("ALE/Breakout-v5", {"frameskip": 1, "repeat_action_probability": 0.0}, 3, False),
    ("ALE/Breakout-v5", {"repeat_action_probability": 0.0}, 1, False),
]


@pytest.mark.parametrize(("env_id", "env_kwargs", "skip", "native"), NAMES)
def test_steps_are_those_of_the_agent(
    env_id: str, env_kwargs: dict[str, Any], skip: int | None, native: bool, tmp_path: Path
) -> None:
    wrapper = {"clip_reward": False, "noop_max": 0} | ({} if skip is None else {"frame_skip": skip})
    changes = {
        "env_wrapper": [{WRAPPER: wrapper}],
        "native_envs": native,
        "n_envs": 1,
        "learning_starts": 500,
        "env_kwargs": {**env_kwargs, "max_num_frames_per_episode": 240},
    }
    with pytest.warns(UserWarning, match="before it learns"):
        run = train(tmp_path, "dqn_custom", env_id, 300, SMALL | changes)
    repeat = 4 if skip is None else skip
    assert action_repeat(run) == repeat
    games = training_scores(run)
    assert len(games) > 1
    # a game that is under way has no row; what resets press (FIRE, after each lost life) counts as well
    assert 300 / 2 < games["steps"].max() < 300 * 1.25


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", 1),
        ("env_wrapper: stable_baselines3.common.atari_wrappers.AtariWrapper", 4),
        ("env_wrapper: {stable_baselines3.common.atari_wrappers.MaxAndSkipEnv: {skip: 2}}", 2),
        ("env_wrapper: [sb3_atari_dqn.MotionTracerAtariWrapper: {frame_skip: 5}, gymnasium.wrappers.TimeLimit: null]", 5),
        ("!!python/object/apply:collections.OrderedDict\n- - - env_wrapper\n    - - x.AtariWrapper: {frame_skip: 7}\n", 7),
        ("env_wrapper: gymnasium.wrappers.AtariPreprocessing", 4),
        ("env_wrapper: my.Wrapper", None),
        ("env_wrapper: 3", None),
        ("[", None),
        ("env_wrapper: {x.AtariWrapper: {frame_skip: !!python/object/apply:os.system ['false']}}", None),
    ],
)
def test_frame_skip_of_configurations(text: str, expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "Pong").mkdir()
    (tmp_path / "Pong" / "config.yml").write_text(text)
    assert action_repeat(tmp_path) == expected


def test_a_run_without_configuration(tmp_path: Path) -> None:
    assert action_repeat(tmp_path) is None
    assert first_step(tmp_path) == 0


def test_a_run_that_goes_on_with_a_model_has_one_axis(tmp_path: Path) -> None:
    hyperparams: dict[str, Any] = {"buffer_size": 500, "learning_starts": 50, "train_freq": 4, "gradient_steps": 1}
    hyperparams["policy_kwargs"] = {"net_arch": [8]}
    first = train(tmp_path, "dqn_custom", "CartPole-v1", 600, hyperparams, eval_freq=200, n_eval_episodes=2)
    assert first_step(first) == 0
    second = train(
        tmp_path,
        "dqn_custom",
        "CartPole-v1",
        400,
        hyperparams,
        eval_freq=200,
        n_eval_episodes=2,
        trained_agent=str(first / "CartPole-v1.zip"),
    )
    assert first_step(second) == 600
    games = training_scores(second)
    assert games["steps"].min() > 600
    assert games["steps"].max() <= 1000
    evaluations = read_evaluations(second)
    assert evaluations is not None
    assert evaluations[0].tolist() == [800, 1000]
    lines = plot_scores({"second": second}).axes[0].lines
    assert all(600 < min(np.asarray(line.get_xdata())) <= max(np.asarray(line.get_xdata())) <= 1000 for line in lines)
    charts = training_charts(second, 1, 1000)["charts"]
    for chart in charts:
        for line in chart["lines"]:
            assert 600 <= line["x"][0] <= line["x"][-1] <= 1000, chart["key"]
