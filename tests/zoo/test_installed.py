"""RL Zoo's four commands as a user runs them: installed, from an empty folder, in processes of their own, on real ROMs."""

import importlib.metadata
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import yaml

from sb3_atari_dqn.zoo.search_space import convert
from tests.zoo.installation import REPOSITORY, Installation, build_wheel

PONG = ("--algo", "dqn_custom", "--env", "PongNoFrameskip-v4")
SHORT = ("-n", "150", "--seed", "1", "-params", "learning_starts:100", "buffer_size:500")
FEW = (*SHORT, "n_envs:4")  # to start the preset's 32 takes as long as to start Python
STUDY = ("--storage", "sqlite:///tune.db", "--study-name", "pong")


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(wheel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with the package's wheel in it."""
    installation = Installation(tmp_path_factory.mktemp("wheel") / "venv")
    installation.pip("install", "--no-deps", "--no-index", wheel_file)
    installation.pip("check")
    yield installation
    installation.close()


@pytest.fixture(scope="module")
def trained(wheel: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a short run was trained and tuned."""
    folder = tmp_path_factory.mktemp("user")
    output = wheel.run(folder, "rl_zoo3.train", *PONG, *SHORT, "--eval-freq", "100", "--eval-episodes", "1")
    assert "features_extractor_class" in output
    assert "Eval num_timesteps=96" in output  # three steps of 32 environments
    tune = ("-optimize", "--n-trials", "2", "--eval-episodes", "1", "--no-optim-plots")
    output = wheel.run(folder, "rl_zoo3.train", *PONG, *FEW, *STUDY, *tune)
    assert "Best trial" in output
    return folder


def test_declares_what_rl_zoos_commands_need_and_nobody_else_declares() -> None:
    declared = {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in importlib.metadata.requires("sb3-atari-dqn") or ()}
    assert {"requests", "moviepy", "opencv-python-headless", "pandas", "tensorboard", "ale-py"} <= declared


def test_train_learns_and_saves(trained: Path) -> None:
    run = trained / "logs/dqn_custom/PongNoFrameskip-v4_1"
    assert (run / "PongNoFrameskip-v4.zip").stat().st_size > 10e6
    assert (run / "best_model.zip").exists()
    config = yaml.unsafe_load((run / "PongNoFrameskip-v4/config.yml").read_text())
    assert config["policy_kwargs"] == {"features_extractor_class": "NatureCNN"}


def test_tune_finds_two_different_trials(trained: Path) -> None:
    trials = optuna.load_study(storage=f"sqlite:///{trained / 'tune.db'}", study_name="pong").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert trials[0].params != trials[1].params


def test_enjoy_plays(wheel: Installation, trained: Path) -> None:
    output = wheel.run(trained, "rl_zoo3.enjoy", *PONG, "-f", "logs", "--no-render", "-n", "1000")
    assert "Loading latest experiment, id=1" in output, "the study is not a run"
    assert re.search(r"Atari Episode Score: -?\d+", output)


def test_record_video_writes_one(wheel: Installation, trained: Path) -> None:
    wheel.run(trained, "rl_zoo3.record_video", *PONG, "-f", "logs", "-n", "60")
    (video,) = (trained / "logs/dqn_custom/PongNoFrameskip-v4_1/videos").glob("*.mp4")
    assert video.stat().st_size > 1000


def test_rainbow_is_a_preset_like_any_other(wheel: Installation, trained: Path) -> None:
    small = ("-n", "150", "-params", "learning_starts:100", "buffer_size:500", "n_envs:2", "--seed", "1", "--eval-freq", "-1")
    output = wheel.run(trained, "rl_zoo3.train", *PONG, *small, "--conf-file", "rainbow", "-f", "rainbow")
    assert "categorical" in output
    wheel.run(trained, "rl_zoo3.record_video", *PONG, "-f", "rainbow", "-n", "20")
    run = trained / "rainbow/dqn_custom/PongNoFrameskip-v4_1"
    assert len(list((run / "videos").glob("*.mp4"))) == 1
    with zipfile.ZipFile(run / "PongNoFrameskip-v4.zip") as model:
        assert json.loads(model.read("data"))["_n_updates"] == 13
    output = wheel.run(trained, "sb3_atari_dqn", "ablation", "rainbow", "-f", "nowhere", "--list")
    assert output.splitlines()[-1].split() == ["Rainbow", "-", "-", "-"]


def test_evaluate_prints_scores_of_whole_games(wheel: Installation, trained: Path) -> None:
    run = "logs/dqn_custom/PongNoFrameskip-v4_1"
    first = wheel.run(trained, "sb3_atari_dqn", "evaluate", run, "--episodes", "1")
    scores = r"PongNoFrameskip-v4: mean (\S+), standard deviation \S+, minimum \S+, maximum \S+ \(whole games: 1\)"
    match = re.search(scores, first)
    assert match
    assert -21 <= float(match[1]) <= 21
    again = re.search(scores, wheel.run(trained, "sb3_atari_dqn", "evaluate", run, "--episodes", "1"))
    assert again
    assert again[0] == match[0], "same seed, same scores"
    assert "is not the folder of a training run" in wheel.run(trained, "sb3_atari_dqn", "evaluate", "logs", status=2)


@pytest.fixture(scope="module", params=["Breakout-v0", "SpaceInvaders-v0"])
def swept(request: pytest.FixtureRequest, wheel: Installation, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A game, and a folder in which a short run of the sweep was trained and tuned on it."""
    folder = tmp_path_factory.mktemp("sweep")
    brief = "max_num_frames_per_episode:1000"  # who does not press FIRE plays Breakout for ever
    limits = ("--eval-episodes", "1", "--env-kwargs", brief, "--eval-env-kwargs", brief)
    sweep = ("--algo", "dqn_sweep", "--env", request.param, "--seed", "1", *limits)
    small = (
        "-params",
        "n_envs:4",
        "buffer_size:1000",
        "batch_size:64",
        "policy_kwargs:dict(features_extractor_class='NipsCNN')",
    )
    output = wheel.run(folder, "rl_zoo3.train", *sweep, "-n", "300", "--eval-freq", "200", *small)
    assert "Eval num_timesteps=200" in output
    assert "large_errors_share" in output
    tune = ("--storage", "sqlite:///tune.db", "--study-name", "sweep", "-optimize", "--n-trials", "1", "--no-optim-plots")
    assert "Best trial" in wheel.run(folder, "rl_zoo3.train", *sweep, *tune, "-n", "300", *small)
    return request.param, folder


def test_the_sweep_goes_through_rl_zoos_four_commands(wheel: Installation, swept: tuple[str, Path]) -> None:
    game, folder = swept
    run = folder / f"logs/dqn_sweep/{game}_1"
    sweeps = (run / "q_values.csv").read_text().splitlines()
    assert sweeps[0] == "episodes,states,min,mean,max,std"
    assert [line.split(",")[1] for line in sweeps[1:]] == ["104", "208"]  # the memory's share grows, in steps of 4
    assert (run / "rewards.csv").exists()
    assert {path.name for path in run.glob("*.zip")} >= {"checkpoint.zip", "best_model.zip", f"{game}.zip"}
    assert [
        trial.state.name for trial in optuna.load_study(storage=f"sqlite:///{folder / 'tune.db'}", study_name="sweep").trials
    ] == ["COMPLETE"]
    playing = ("--algo", "dqn_sweep", "--env", game, "-f", "logs")
    assert "Loading latest experiment, id=1" in wheel.run(folder, "rl_zoo3.enjoy", *playing, "--no-render", "-n", "100")
    wheel.run(folder, "rl_zoo3.record_video", *playing, "-n", "60")
    assert len(list((run / "videos").glob("*.mp4"))) == 1
    scores = wheel.run(folder, "sb3_atari_dqn", "evaluate", str(run), "--episodes", "1")
    assert f"{game}: mean " in scores


def test_the_sweep_goes_on_from_a_checkpoint(wheel: Installation, swept: tuple[str, Path]) -> None:
    game, folder = swept
    checkpoint = f"logs/dqn_sweep/{game}_1/checkpoint.zip"
    sweep = ("--algo", "dqn_sweep", "--env", game, "-i", checkpoint, "-n", "300", "--eval-freq", "-1", "-f", "on")
    small = ("-params", "n_envs:4", "buffer_size:1000", "batch_size:64")
    wheel.run(folder, "rl_zoo3.train", *sweep, *small)
    sweeps = (folder / f"on/dqn_sweep/{game}_1/q_values.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in sweeps[1:]] == ["312", "416"], "the states that it has seen count"


def test_the_best_trial_is_trained_again(wheel: Installation, trained: Path) -> None:
    best = optuna.load_study(storage=f"sqlite:///{trained / 'tune.db'}", study_name="pong").best_trial
    output = wheel.run(
        trained, "sb3_atari_dqn", "train", *PONG, *FEW, *STUDY, "--best-trial", "--eval-freq", "-1", "-f", "again"
    )
    assert f"it is trial {best.number}, with value {best.value}" in output
    config = yaml.unsafe_load((trained / "again/dqn_custom/PongNoFrameskip-v4_1/PongNoFrameskip-v4/config.yml").read_text())
    assert config["learning_rate"] == best.params["learning_rate"]
    assert config["policy_kwargs"] == convert(best.params)["policy_kwargs"]
    assert config["policy_kwargs"]["features_extractor_class"] == best.params["features_extractor_class"]
    missing = (*PONG, "--best-trial", "--storage", "sqlite:///tune.db", "--study-name", "ping")
    assert "'ping' is not in --storage" in wheel.run(trained, "sb3_atari_dqn", "train", *missing, status=2)


def test_a_module_that_hides_ours_is_named(wheel: Installation, tmp_path: Path) -> None:
    hiding = tmp_path / "custom_envs.py"
    hiding.write_text("# environments of the user\n")
    assert "invalid choice: 'dqn_custom'" in wheel.run(tmp_path, "rl_zoo3.train", *PONG, status=2)
    output = wheel.run(tmp_path, "sb3_atari_dqn", "train", *PONG, *FEW, "--eval-freq", "-1")
    assert f"note: {hiding} hides the module" in output
    assert "Saving to logs/dqn_custom/PongNoFrameskip-v4_1" in output
    hiding.write_text("from sb3_atari_dqn.zoo import register; register()\n")
    wheel.run(tmp_path, "rl_zoo3.train", *PONG, *FEW, "--eval-freq", "-1")


def test_presets_are_found_from_any_folder(wheel: Installation, tmp_path: Path) -> None:
    listed = wheel.run(tmp_path, "sb3_atari_dqn", "presets")
    assert "motion-tracer" in listed
    output = wheel.run(tmp_path, "rl_zoo3.train", *PONG, "--conf-file", "nipz", status=2)
    assert "--conf-file 'nipz' is neither a file nor a preset (did you mean 'nips'?); the presets are bigger-network" in output
    assert "Traceback" not in output
    assert not (tmp_path / "logs").exists()
    wheel.run(
        tmp_path,
        "rl_zoo3.train",
        *("--algo", "dqn_custom", "--env", "Breakout-v0", "--conf-file", "motion-tracer", "--eval-freq", "-1"),
        *("-n", "40", "-params", "learning_starts:30", "buffer_size:100", "n_envs:4"),
    )


def test_an_unknown_command_is_answered_with_the_known_ones(wheel: Installation, tmp_path: Path) -> None:
    assert "choose one of train, enjoy, record_video" in wheel.run(tmp_path, "sb3_atari_dqn", "trian", status=1)
    assert "usage: python -m sb3_atari_dqn" in wheel.run(tmp_path, "sb3_atari_dqn")


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_uninstalling_leaves_nothing_behind(kind: str, wheel_file: Path, tmp_path: Path) -> None:
    installation = Installation(tmp_path / "venv")
    before = installation.files()
    if kind == "wheel":
        installation.pip("install", "--no-deps", "--no-index", wheel_file)
    else:
        installation.pip("install", "--no-deps", "--no-index", "--no-build-isolation", "--editable", REPOSITORY)
    added = installation.files() - before
    assert {"custom_envs.py", "rl_zoo3/hyperparams/dqn_custom.yml", "rl_zoo3/hyperparams/dqn_sweep.yml"} <= added
    assert "Saving to" in installation.run(tmp_path, "rl_zoo3.train", *PONG, *FEW, "--eval-freq", "-1")
    assert "motion-tracer" in installation.run(tmp_path, "sb3_atari_dqn", "presets")
    installation.pip("uninstall", "--yes", "sb3-atari-dqn")
    assert installation.files() == before
    assert not (installation.site_packages / "sb3_atari_dqn").exists()
    assert not list(installation.site_packages.glob("**/*custom_envs*"))
