"""Runs and models that are made to run something when they are read, and those that are not."""

import base64
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml
from stable_baselines3 import DQN

from sb3_atari_dqn import AleVecEnv, CustomDQN
from sb3_atari_dqn.evaluation.results import Evaluation
from sb3_atari_dqn.saving.model_files import save_model
from sb3_atari_dqn.saving.trust import UntrustedFileError
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.export import export
from sb3_atari_dqn.zoo.presets import presets
from sb3_atari_dqn.zoo.register import register
from sb3_atari_dqn.zoo.run_files import WRAPPERS, read_hyperparams, read_yaml
from sb3_atari_dqn.zoo.runs import find_run
from tests.saving.models import Touch, pickled, with_values

register()

BREAKOUT = "BreakoutNoFrameskip-v4"
SMALL: dict[str, Any] = {"buffer_size": 4, "seed": 1, "policy_kwargs": {"features_extractor_class": "NipsCNN"}}
ARGS: dict[str, Any] = {
    "algo": "dqn_custom",
    "env": BREAKOUT,
    "env_kwargs": None,
    "gym_packages": [],
    "hyperparams": {"n_steps": (1, 2)},
    "seed": 1,
}
CONFIG: dict[str, Any] = {
    "env_wrapper": [{"stable_baselines3.common.atari_wrappers.AtariWrapper": {"clip_reward": False}}],
    "frame_stack": 4,
    "native_envs": True,
    "policy": "CnnPolicy",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ours as its zip file, and as a safetensors file beside it."""
    path = tmp_path_factory.mktemp("model") / f"{BREAKOUT}.zip"
    trained = CustomDQN("CnnPolicy", AleVecEnv(BREAKOUT), **SMALL)
    trained.save(path)
    save_model(trained, path.with_suffix(".safetensors"))
    return path


def make_run(folder: Path, model: Path, args: Any = (), config: Any = ()) -> Path:
    """A run as RL Zoo leaves it. Text is written as it is."""
    run = folder / f"{BREAKOUT}_1"
    (run / BREAKOUT).mkdir(parents=True)
    (run / model.name).write_bytes(model.read_bytes())
    for name, standard, changed in (("args", ARGS, args), ("config", CONFIG, config)):
        text = changed if isinstance(changed, str) else yaml.dump(OrderedDict(standard | dict(changed)))
        (run / BREAKOUT / f"{name}.yml").write_text(text)
    return run


def error_of(command: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        command(arguments)
    return capsys.readouterr().err


def test_a_genuine_run_is_read_as_rl_zoo_reads_it(model: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, model)
    assert "!!python/object/apply:collections.OrderedDict" in (run / BREAKOUT / "config.yml").read_text()
    assert "!!python/tuple" in (run / BREAKOUT / "args.yml").read_text()
    plain, trusted = find_run(run), find_run(run, trust=True)
    assert plain.args == trusted.args == ARGS
    assert plain.hyperparams() == trusted.hyperparams() == CONFIG | {"normalize": False}
    assert plain.preprocessing() == trusted.preprocessing()


def test_classes_in_a_configuration(tmp_path: Path) -> None:
    from torch import nn

    file = tmp_path / "config.yml"
    file.write_text(yaml.dump({"activation_fn": nn.ReLU, "empty": OrderedDict()}))
    assert read_yaml(file) == {"activation_fn": nn.ReLU, "empty": {}}


def test_every_preset_has_wrappers_that_are_allowed() -> None:
    for path in presets().values():
        for section in yaml.safe_load(path.read_text()).values():
            for wrapper in section.get("env_wrapper") or []:
                assert (wrapper if isinstance(wrapper, str) else next(iter(wrapper))) in WRAPPERS


def test_wrappers_that_are_allowed_are_there() -> None:
    import importlib

    for name in WRAPPERS:
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), attribute), type), name


MALICIOUS_YAML = {
    "apply": "!!python/object/apply:os.system ['touch MARKER']",
    "new": "!!python/object/new:os.system ['touch MARKER']",
    "nested": "env: x\nalgo: y\nkey: [{a: !!python/object/apply:os.system ['touch MARKER']}]",
    "in a pair": "!!python/object/apply:collections.OrderedDict [[[a, !!python/object/apply:os.system ['touch MARKER']]]]",
    "as a key": "? !!python/object/apply:os.system ['touch MARKER']\n: 1",
    "module": "a: !!python/module:evil_module",
    "name": "a: !!python/name:evil_module.Thing",
    "object": "a: !!python/object:evil_module.Thing {}",
}


@pytest.mark.parametrize("file", ["args", "config"])
@pytest.mark.parametrize("name", MALICIOUS_YAML)
def test_malicious_yaml_runs_nothing_and_says_why(
    name: str, file: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = make_run(tmp_path, model, **{file: MALICIOUS_YAML[name].replace("MARKER", str(marker))})
    for command in (evaluate, export):
        arguments = [str(run), "--protocol", "nature"] if command is evaluate else [str(run), "--onnx", str(tmp_path / "onnx")]
        if command is export and file == "config":
            continue  # it does not read it
        message = error_of(command, arguments, capsys)
        assert f"{file}.yml' is refused: it " in message
        assert "--trust" in message
    if file == "args":
        assert "args.yml' is refused: it " in error_of(compare, [str(run)], capsys)
    assert not marker.exists()
    assert "evil_module" not in sys.modules
    assert not (tmp_path / "onnx").exists()


def test_the_same_yaml_runs_where_it_is_trusted(model: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    run = make_run(tmp_path, model, args=MALICIOUS_YAML["nested"].replace("MARKER", str(marker)))
    find_run(run, trust=True)
    assert marker.exists(), "the other tests show something"


EVIL = "evil_module.Thing"
MALICIOUS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a wrapper": ({}, {"env_wrapper": EVIL}, f"env_wrapper names {EVIL!r}"),
    "one of several": ({}, {"env_wrapper": [*CONFIG["env_wrapper"], {EVIL: {}}]}, f"env_wrapper names {EVIL!r}"),
    "a wrapper that writes": ({}, {"env_wrapper": [{"gymnasium.wrappers.RecordVideo": {"video_folder": "x"}}]}, "RecordVideo"),
    "a function": ({}, {"env_wrapper": "os.system"}, "env_wrapper names 'os.system'"),
    "a wrapper of all": ({}, {"vec_env_wrapper": EVIL}, f"vec_env_wrapper names {EVIL!r}"),
    "a package": ({"gym_packages": ["evil_module"]}, {}, "it names 'evil_module' to import"),
    "a package of the game": ({"env": "evil_module:Pong-v0"}, {}, "it names 'evil_module' to import"),
}


@pytest.mark.parametrize("rules", ["as trained", "nature"])
@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_names_run_nothing_and_say_why(
    name: str, rules: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    args, config, expected = MALICIOUS[name]
    run = make_run(tmp_path, model, args, config)
    message = error_of(evaluate, [str(run), *(["--protocol", rules] if rules != "as trained" else [])], capsys)
    assert expected in message
    assert "--trust" in message
    assert "evil_module" not in sys.modules
    assert not marker.exists()


@pytest.mark.parametrize("normalize", [True, "__import__('evil_module')"])
def test_malicious_averages_run_nothing_and_say_why(
    normalize: bool | str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    run = make_run(tmp_path, model, config={"normalize": normalize})
    (run / BREAKOUT / "vecnormalize.pkl").write_bytes(pickle.dumps(Touch(marker)))
    message = error_of(evaluate, [str(run)], capsys)
    assert f"vecnormalize.pkl' is refused: it is a pickle of '{os.name}.system', not of VecNormalize" in message
    assert "--trust" in message
    assert f"normalize={normalize!r} does not go with a protocol" in error_of(
        evaluate, [str(run), "--protocol", "nature"], capsys
    )
    assert not marker.exists()


def test_text_that_rl_zoo_would_evaluate_stays_text(model: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    text = f"__import__('os').system('touch {marker}')"
    config = dict.fromkeys(("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs", "monitor_kwargs"), text)
    run = find_run(make_run(tmp_path, model, config=config))
    run.preprocessing()
    assert run.hyperparams()["policy_kwargs"] == text
    assert not marker.exists()


@pytest.mark.parametrize("key", ["observation_space", "policy_kwargs", "lr_schedule"])
def test_a_malicious_model_of_a_run(key: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "marker"
    evil = with_values(model, tmp_path / model.name, **{key: pickled(Touch(marker))})
    run = make_run(tmp_path, evil)
    for command, arguments in (
        (evaluate, [str(run)]),
        (evaluate, [str(run), "--protocol", "nature"]),
        (evaluate, [str(evil), "--env", BREAKOUT, "--protocol", "nature"]),
        (export, [str(run), "--onnx", str(tmp_path / "onnx")]),
        (export, [str(evil), "--safetensors", str(tmp_path / "safetensors")]),
    ):
        message = error_of(command, arguments, capsys)
        assert f"is refused for {key!r}" in message
        assert f"{os.name}.system" in message
        assert "--trust" in message
    assert not marker.exists()
    assert not (tmp_path / "onnx").exists()
    assert not (tmp_path / "safetensors").exists()


def test_a_malicious_model_is_run_where_it_is_trusted(model: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = with_values(model, tmp_path / model.name, anything=pickled(Touch(marker)))
    export([str(evil), "--trust", "--safetensors", str(tmp_path / "safetensors")])
    assert marker.exists()
    assert (tmp_path / "safetensors").exists()


def test_all_files_of_a_model_play_the_same_games(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(model.with_suffix(".safetensors").read_bytes())
    run = make_run(tmp_path, model)
    (run / "other.safetensors").write_bytes(model.with_suffix(".safetensors").read_bytes())
    where = ["--protocol", "nature", "--episodes", "1", "--seed", "2", "--json"]
    for name, path in {"run": run, "of run": run / "other.safetensors"}.items():
        evaluate([str(path), *where, str(tmp_path / name)])
    assert Evaluation.load(tmp_path / "run").episodes == Evaluation.load(tmp_path / "of run").episodes
    evaluate([str(tmp_path / "model.safetensors"), "--env", BREAKOUT, *where, str(tmp_path / "alone")])
    alone = Evaluation.load(tmp_path / "alone")
    assert (alone.algo, alone.training_steps) == ("dqn_custom", 0)


def test_bad_files(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (args, message) in enumerate(
        {
            "a: [": "is not what RL Zoo writes",
            "- 1": "is not what RL Zoo writes",
            "seed: 1": "is not what RL Zoo writes: it has algo=None",
            "{algo: dqn_custom, env: 3}": "it has env=3",
        }.items()
    ):
        assert message in error_of(evaluate, [str(make_run(tmp_path / str(number), model, args))], capsys)
    assert "is of the algorithm 'dqn_9', which is not known" in error_of(
        evaluate, [str(make_run(tmp_path, model, {"algo": "dqn_9"}))], capsys
    )
    where = ["--env", BREAKOUT, "--protocol", "nature"]
    safetensors = str(model.with_suffix(".safetensors"))
    assert "cannot be loaded as 'dqn_sweep': it holds a CustomDQN" in error_of(
        evaluate, [safetensors, *where, "--algo", "dqn_sweep"], capsys
    )
    (tmp_path / "short").write_bytes(Path(safetensors).read_bytes()[:-9])
    assert "short' is damaged" in error_of(evaluate, [str(tmp_path / "short"), *where], capsys)
    for number, wrapper in enumerate(([3], [["os.system"]], {"os.system": {}, "x": {}}, ("os.system",))):
        with pytest.raises(UntrustedFileError, match="env_wrapper names"):
            read_hyperparams(make_run(tmp_path / f"evil{number}", model, config={"env_wrapper": wrapper}) / BREAKOUT)


def test_a_model_of_stable_baselines3_needs_no_trust(tmp_path: Path) -> None:
    DQN("CnnPolicy", AleVecEnv(BREAKOUT), buffer_size=4, learning_rate=lambda left: left * 1e-4).save(tmp_path / "dqn.zip")
    arguments = ["--env", BREAKOUT, "--protocol", "nature", "--episodes", "1", "--json", str(tmp_path / "json")]
    with pytest.warns(UserWarning, match="learning_rate is a function and was not read"):
        evaluate([str(tmp_path / "dqn.zip"), *arguments])
    assert Evaluation.load(tmp_path / "json").algo == "dqn"


def test_base64_that_is_none(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("!", base64.b64encode(b"junk").decode(), 5):
        broken = with_values(model, tmp_path / "broken.zip", observation_space={":serialized:": text})
        message = error_of(export, [str(broken), "--onnx", str(tmp_path / "onnx")], capsys)
        assert "cannot be read: 'observation_space'" in message
