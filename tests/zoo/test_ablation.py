"""An ablation of two small variants, trained, interrupted, compared; and what cannot be one."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import rl_zoo3
import yaml

from sb3_atari_dqn.zoo.plans import check, check_folder, format_status, read_plan, runs_of, train_command, write_plan
from sb3_atari_dqn.zoo.presets import ablations, presets
from sb3_atari_dqn.zoo.sweep import ablation

SMALL: dict[str, Any] = {
    "env": "BreakoutNoFrameskip-v4",
    "n_timesteps": 400,
    "seeds": [1],
    "protocol": "nature",
    "episodes": 2,
    "params": {"n_envs": 2, "buffer_size": 1000, "learning_starts": 200, "update_period": 4},
    "variants": {"plain": {}, "with C51": {"conf_file": "c51", "params": {"n_steps": 2}}},
}


def write(path: Path, content: Any) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_trains_plays_compares_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = write(tmp_path / "small.yml", SMALL), tmp_path / "runs"
    arguments = [file, "-f", str(folder), "--jobs", "2"]
    ablation([*arguments, "--list", "--variants", "with C51"])
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["with C51"]
    assert not folder.exists()
    ablation(arguments)
    printed = capsys.readouterr().out
    assert "interquartile mean" in printed
    assert (folder / "ablation.png").stat().st_size > 10_000
    figures = json.loads((folder / "ablation.json").read_text())
    assert {run["label"] for run in figures["runs"]} == {"plain", "with C51"}
    experiment = folder / "with_C51" / "seed_1" / "dqn_custom" / "BreakoutNoFrameskip-v4_1"
    config = (experiment / "BreakoutNoFrameskip-v4" / "config.yml").read_text()
    assert "categorical" in config
    evaluation = json.loads((experiment / "evaluation_nature.json").read_text())
    assert len(evaluation["episodes"]) == 2
    assert evaluation["training_steps"] == 400

    # what is done stays done; what is trained is played; what was not finished, and has no checkpoint, begins anew
    plain = folder / "plain" / "seed_1" / "dqn_custom" / "BreakoutNoFrameskip-v4_1"
    models = [run / "BreakoutNoFrameskip-v4.zip" for run in (experiment, plain)]
    (plain / "evaluation_nature.json").unlink()
    ablation([*arguments, "--list"])
    assert re.fullmatch(r"plain +(-|\d+ %)", capsys.readouterr().out.splitlines()[1])
    before = [model.stat().st_mtime_ns for model in models]
    ablation(arguments)
    assert [model.stat().st_mtime_ns for model in models] == before
    assert (plain / "evaluation_nature.json").is_file()

    (plain / "evaluation_nature.json").unlink()
    models[1].unlink()
    shutil.rmtree(plain / "checkpoints", ignore_errors=True)
    ablation(arguments)
    assert [model.stat().st_mtime_ns > time for model, time in zip(models, before, strict=True)] == [False, True]
    assert (plain / "evaluation_nature.json").is_file()

    for changed, message in (
        (["-n", "500"], "is of another list, with n_timesteps=400, not 500"),
        (["--env", "PongNoFrameskip-v4"], "is of another list, with env='BreakoutNoFrameskip-v4', not 'PongNo"),
    ):
        with pytest.raises(SystemExit):
            ablation([*arguments, *changed])
        assert message in capsys.readouterr().err
    other = write(tmp_path / "other.yml", {**SMALL, "variants": {"plain": {"conf_file": "double"}}})
    with pytest.raises(SystemExit):
        ablation([other, "-f", str(folder)])
    assert "whose 'plain' is {'conf_file': None, 'params': {}, 'algo': 'dqn_custom'}" in capsys.readouterr().err


def test_trains_the_algorithms_of_others_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stable-Baselines3's DQN, with RL Zoo's configuration, beside ours."""
    dqn = {"algo": "dqn", "params": {"buffer_size": 1000, "learning_starts": 200}}
    content = {**SMALL, "n_timesteps": 600, "params": {}, "variants": {"DQN": dqn}}
    file, folder = write(tmp_path / "peers.yml", content), tmp_path / "runs"
    ablation([file, "-f", str(folder)])
    assert "interquartile mean" in capsys.readouterr().out
    experiment = folder / "DQN" / "seed_1" / "dqn" / "BreakoutNoFrameskip-v4_1"
    evaluation = json.loads((experiment / "evaluation_nature.json").read_text())
    assert (evaluation["algo"], evaluation["training_steps"]) == ("dqn", 600)
    run = next(runs_of(read_plan(file), folder))
    assert 400 < run.steps() < 700  # those of games that have ended, with their no-ops


@pytest.mark.parametrize("algo", ["dqn", "qrdqn", "ppo", "a2c"])
def test_others_have_the_configuration_of_rl_zoo(algo: str, tmp_path: Path) -> None:
    """One of ours has the name of sb3-contrib's QR-DQN."""
    plan = read_plan(write(tmp_path / "peers.yml", {**SMALL, "params": {}, "variants": {"peer": {"algo": algo}}}))
    check(plan)
    command = train_command(plan, next(runs_of(plan, tmp_path)), "cpu")
    assert Path(command[command.index("--conf-file") + 1]) == Path(rl_zoo3.__file__).parent / "hyperparams" / f"{algo}.yml"


def test_how_far_a_run_of_others_is_while_its_files_are_made(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path / "peers.yml", {**SMALL, "params": {}, "variants": {"peer": {"algo": "dqn"}}}))
    run = next(runs_of(plan, tmp_path))
    assert run.steps() == 0
    run.experiment.mkdir(parents=True)
    monitor = run.experiment / "0.monitor.csv"
    for content in ("", '#{"t_start": 1.0', '#{"t_start": 1.0, "env_id": "BreakoutNoFrameskip-v4"}\n', "#{}\nr,l,t\n1,80,2\n"):
        monitor.write_text(content)
        assert run.steps() == 0
    monitor.write_text('#{"t_start": 1.0, "env_id": "BreakoutNoFrameskip-v4"}\nr,l,t\n1.0,80,2.0\n')
    assert run.steps() == 20


def test_an_infinite_number_reaches_the_training(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path / "small.yml", {**SMALL, "params": {"max_grad_norm": math.inf}}))
    check(plan)
    assert "max_grad_norm:float('inf')" in train_command(plan, next(runs_of(plan, tmp_path)), "cpu")


def test_a_file_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path / "small.yml", SMALL))
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"plan.json' is not of a list of trainings"):
        check_folder(plan, tmp_path)


def test_a_folder_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """There was no ``algo``, and the algorithm's own configuration had its name."""
    plan = read_plan(write(tmp_path / "small.yml", SMALL))
    content = check_folder(plan, tmp_path)
    content["variants"]["plain"] = {"conf_file": "dqn_custom", "params": {}}
    write_plan(content, tmp_path)
    check_folder(plan, tmp_path)


def test_a_run_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an optimizer makes of its arguments, only the training finds out."""
    policy_kwargs = {"features_extractor_class": "NipsCNN", "optimizer_kwargs": {"eps": "nonsense"}}
    content = {**SMALL, "variants": {"plain": {"params": {"policy_kwargs": policy_kwargs}}}}
    with pytest.raises(SystemExit, match=r"1 of 1 runs failed; see train.txt and evaluate.txt in .*seed_1"):
        ablation([write(tmp_path / "bad.yml", content), "-f", str(tmp_path / "runs")])
    assert "nonsense" in (tmp_path / "runs" / "plain" / "seed_1" / "train.txt").read_text()


@pytest.mark.parametrize("name", ablations())
def test_the_lists_that_come_with_the_package(name: str, tmp_path: Path) -> None:
    plan = read_plan(name)
    check(plan)
    assert plan.seeds == [1, 2, 3]
    runs = list(runs_of(plan, tmp_path))
    n_of_each_seed = len(plan.games) * len(plan.variants)
    assert len(runs) == 3 * n_of_each_seed
    assert len({run.folder for run in runs}) == len(runs)
    assert [run.seed for run in runs[:n_of_each_seed]] == [1] * n_of_each_seed
    for run in runs:
        command = train_command(plan, run, "cpu")
        conf_file = Path(command[command.index("--conf-file") + 1])
        if run.variant.algo == "dqn_custom":
            assert conf_file == presets()[run.variant.conf_file or "dqn_custom"]
        else:
            assert conf_file == Path(rl_zoo3.__file__).parent / "hyperparams" / f"{run.variant.algo}.yml"
        assert command[command.index("--algo") + 1] == run.variant.algo
        assert command[command.index("--seed") + 1] == str(run.seed)
    assert len(format_status(plan, runs).splitlines()) == len(plan.games) * (1 + len(plan.variants))


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"variants": {"a": {"conf_file": "raimbow"}}}, [], "neither a file nor a preset .did you mean 'rainbow'"),
        ({"variants": {"a": {"conf": "rainbow"}}}, [], "variant 'a' has no argument 'conf'; did you mean 'conf_file'"),
        ({"variants": {"a": {"params": {"n_step": 3}}}}, [], "no argument 'n_step'; did you mean 'n_steps'"),
        ({"variants": {"a": {"conf_file": "c51", "params": {"loss": "mse"}}}}, [], "loss='mse' is not what distribution="),
        ({"variants": {"a": {"conf_file": "pong"}}}, [], "has no section for 'BreakoutNoFrameskip-v4'.*it has PongNo"),
        (
            {"variants": {"a": {"algo": "dqn_costum"}}},
            [],
            "algo='dqn_costum' is not known; choose one of .*dqn_custom",
        ),
        (
            {"variants": {"a": {"algo": "dqn"}}},  # SMALL's update_period is ours
            [],
            "variant 'a': dqn has no argument 'update_period'; did you mean",
        ),
        ({"variants": {"a": {"algo": "dqn"}}, "params": {"seed": 3}}, [], "'seed' cannot be set in a configuration"),
        (
            {"variants": {"a": {"algo": "dqn"}}, "params": {"normalize": True}},
            [],
            "normalize=True does not go with a protocol",
        ),
        ({"params": {"env_kwargs": {"difficulty": 1}, "native_envs": False}}, [], "env_kwargs: difficulty=1 does not go with"),
        ({"params": {"n_timesteps": 500}}, [], "n_timesteps=500 does not go into params: it is the list's"),
        ({"params": [1]}, [], r"params=\[1\] must be hyperparameters by name"),
        ({"variants": {"a": {"params": [1]}}}, [], r"variant 'a': params=\[1\] must be hyperparameters by name"),
        ({"variants": {"a": {"algo": ["dqn"]}}}, [], r"variant 'a': algo=\['dqn'\] must be the name of an algorithm"),
        ({"variants": {"a": {"conf_file": 3}}}, [], "variant 'a': conf_file=3 must be the name of a preset, or a file"),
        ({"variants": {"a b": {}, "A_b": {}}}, [], "variants 'A_b' and 'a b' would have the same folder, 'a_b'"),
        ({"env": "ALE/Breakout-v5"}, [], "'ALE/Breakout-v5' skips frames"),
        ({"env": "ALE/Breakout-v5", "params": {}, "variants": {"a": {"algo": "dqn"}}}, [], "'ALE/Breakout-v5' skips frames"),
        ({"params": {"batch_size": 0}}, [], "batch_size=0 must be a whole number of transitions"),
        ({"params": {"n_envs": 0, "update_period": 4}}, [], "n_envs=0 must be a whole number of environments"),
        ({"variants": {"../a": {}}}, [], "variant '../a' must be a name for a folder"),
        ({"variants": {"-dueling": {}}}, [], "variant '-dueling' must be a name .* not begin with a point or a dash"),
        ({"variants": {"rainbow": "rainbow"}}, [], "variant 'rainbow': 'rainbow' must be conf_file, params or algo, by name"),
        ({}, ["--device", "cudda"], "--device 'cudda' is not known"),
        ({"variants": {}}, [], "needs variants"),
        ({"seed": [1]}, [], "has no argument 'seed'; did you mean 'seeds'"),
        ({"seeds": [1, 2, 1]}, [], "seed 1 is given twice"),
        ({"seeds": []}, [], r"seeds=\[\] must be whole numbers"),
        ({"protocol": "none"}, [], "nature, dqn-zoo, machado, tutorial"),
        ({"env": "PongNoFrameskip-v9"}, [], "env='PongNoFrameskip-v9' is not known"),
        ({"env": "CartPole-v1"}, [], "'CartPole-v1' is not one of ALE's games"),
        ({"n_timesteps": 0}, [], "n_timesteps=0 must be a whole number"),
        ({}, ["--episodes", "0"], "episodes=0 must be a whole number"),
        ({}, ["--jobs", "0"], "--jobs 0 must be at least 1"),
        ({}, ["--seeds", "3", "3"], "seed 3 is given twice"),
        ({}, ["--variants", "plane"], r"--variants .plane. is none of .*, which has plain, with C51"),
    ],
)
def test_bad_input(
    changes: dict[str, Any], arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "bad.yml", {**SMALL, **changes})
    with pytest.raises(SystemExit):
        ablation([file, "-f", str(tmp_path / "runs"), *arguments])
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1, 2]", "needs variants"), ("a: [", "is not YAML"), ("variants: {a: {}}", "lacks env, n_timesteps")],
)
def test_bad_files(content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yml").write_text(content)
    with pytest.raises(SystemExit):
        ablation([str(tmp_path / "bad.yml"), "-f", str(tmp_path / "runs")])
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ablation(["nothing", "-f", str(tmp_path / "runs")])
    lists = "freeway, games, ladder, pong, rainbow, sb3, tutorials"
    assert f"'nothing' is neither a file nor one of {lists}" in capsys.readouterr().err
