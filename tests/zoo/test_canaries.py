"""
No file of a run's folder is run by the commands that read it, whatever is in it.

A canary is a payload that makes a file when it is unpickled or called. Each file that a real run leaves is replaced by
canaries of every kind, and each command has to leave them alone: by reading the file as data, or by refusing it.
"""

import base64
import contextlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.export import export
from sb3_atari_dqn.zoo.plot import plot
from sb3_atari_dqn.zoo.report import report
from sb3_atari_dqn.zoo.resume import resume
from tests.report.runs import train, train_short
from tests.saving.models import Touch, torch_file

ENV_ID = "CartPole-v1"
HYPERPARAMS: dict[str, Any] = {
    "policy": "MlpPolicy",
    "n_timesteps": 200,
    "n_envs": 1,
    "buffer_size": 300,
    "learning_starts": 50,
    "batch_size": 8,
    "train_freq": 4,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
    "checkpoint_freq": 100,
}


def commands(run: Path, output: Path) -> dict[str, Callable[[], Any]]:
    model = str(output / "model.safetensors")
    return {
        "resume": lambda: resume([str(run), "-n", "220"]),
        "evaluate": lambda: evaluate([str(run), "--episodes", "1"]),
        "evaluate best": lambda: evaluate([str(run), "--episodes", "1", "--load-best"]),
        "report": lambda: report([str(run), "-o", str(output / "report.html")]),
        "export": lambda: export([str(run), "--safetensors", model]),
        "plot": lambda: plot([str(run)]),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with every file that one can have."""
    logs = tmp_path_factory.mktemp("logs")
    made = train(
        logs,
        "dqn_custom",
        ENV_ID,
        200,
        HYPERPARAMS,
        resumable=True,
        log_interval=1,
        eval_freq=100,
        n_eval_episodes=1,
        save_freq=100,
        save_replay_buffer=True,
    )
    evaluate([str(made), "--episodes", "2"])
    # RL Zoo's, of a run with normalize: true, beside a configuration that does not say so
    VecNormalize(DummyVecEnv([lambda: gym.make(ENV_ID)])).save(str(made / ENV_ID / "vecnormalize.pkl"))
    return made


@pytest.fixture(scope="module")
def played_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a game, played by a protocol, for ``compare``."""
    made = train_short(tmp_path_factory.mktemp("logs"))
    evaluate([str(made), "--episodes", "1", "--protocol", "nature"])
    return made


def payloads(path: Path, marker: Path) -> dict[str, bytes]:
    """
    :return: what the file could be replaced by, by kind
    """
    touch = Touch(marker)
    arrays = io.BytesIO()
    np.savez(arrays, results=np.array([touch], dtype=object), timesteps=np.array([touch], dtype=object), allow_pickle=True)
    tag = f"!!python/object/apply:os.system ['touch {marker}']"
    found = {
        "pickle": pickle.dumps(touch),
        "cloudpickle": cloudpickle.dumps(touch),
        "torch": torch_file(touch),
        "numpy": arrays.getvalue(),
        "yaml": yaml.dump({"env": ENV_ID}).encode() + f"policy: {tag}\n".encode(),
        "python": f"import os; os.system('touch {marker}')\n".encode(),
    }
    if path.suffix == ".zip":
        found |= {f"zip with {name}": content for name, content in _zips(path, touch).items()}
    if path.name == "config.yml":
        text = f"__import__('os').system('touch {marker}')"
        config: Any = yaml.unsafe_load(path.read_text())
        for key in ("policy_kwargs", "replay_buffer_kwargs", "replay_buffer_class", "normalize", "callback", "env_wrapper"):
            found[f"text of {key}"] = yaml.dump({**config, key: text}).encode()
        found["one value"] = path.read_bytes() + f"\nbatch_size: {tag}\n".encode()
    if path.name == "args.yml":
        args: Any = yaml.unsafe_load(path.read_text())
        found["one value"] = yaml.dump(dict(args)).encode() + f"\nverbose: {tag}\n".encode()
    return found


def _zips(path: Path, touch: Touch) -> dict[str, bytes]:
    serialized = {":type:": "anything", ":serialized:": base64.b64encode(cloudpickle.dumps(touch)).decode()}
    changed: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    values = json.loads(contents["data"])
    variants = {"a value": {"gamma": serialized}, "its policy": {"policy_class": serialized}, "more": {"canary": serialized}}
    for name, value in variants.items():
        changed[name] = _zip({**contents, "data": json.dumps(values | value).encode()})
    for name in contents:
        if name.endswith(".pth"):
            changed[name] = _zip({**contents, name: torch_file(touch)})
    return changed


def _zip(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def call(command: Callable[[], Any]) -> str:
    """What a command says; that it refuses is as good as that it works."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        command()
    return said.getvalue()


def test_the_commands_work_with_the_files_as_they_are(run: Path, tmp_path: Path) -> None:
    """Or it would be no wonder that they run nothing."""
    copied = tmp_path / "logs" / "dqn_custom" / run.name
    shutil.copytree(run, copied)
    for name, command in commands(copied, tmp_path).items():
        said = call(command)
        assert "error" not in said, f"{name}: {said}"


NAMES = [
    f"{ENV_ID}.zip",
    "best_model.zip",
    "config.yml",
    "args.yml",
    "vecnormalize.pkl",
    "evaluations.npz",
    "everything else",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_canary_is_born(name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [path for path in sorted(run.rglob("*")) if path.is_file()]
    assert set(NAMES[:-1]) <= {path.name for path in files}
    chosen = [path for path in files if path.name == name or (name == "everything else" and path.name not in NAMES)]
    marker = tmp_path / "canary"
    assert chosen
    kinds = payloads(chosen[0], marker)
    for index, kind in enumerate(kinds):
        copied = tmp_path / f"logs_{index}" / "dqn_custom" / run.name
        shutil.copytree(run, copied)
        for path in chosen:
            (copied / path.relative_to(run)).write_bytes(payloads(path, marker)[kind])
        monkeypatch.chdir(copied)  # RL Zoo looks for files in the current folder, too
        for command_name, command in commands(copied, tmp_path).items():
            call(command)
            assert not marker.exists(), f"{command_name} ran {name} with {kind}"


def test_no_canary_is_born_by_compare(played_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "error" not in call(lambda: compare([str(played_run), "-o", str(tmp_path / "plain.png")]))
    marker = tmp_path / "canary"
    files = [path for path in sorted(played_run.rglob("*")) if path.is_file()]
    read = [path for path in files if path.suffix in (".yml", ".json") and path.parent.name != "checkpoints"]
    for index, chosen in enumerate([[path] for path in read] + [[path for path in files if path not in read]]):
        copied = tmp_path / f"logs_{index}" / "dqn_custom" / played_run.name
        shutil.copytree(played_run, copied)
        monkeypatch.chdir(copied)
        for kind in payloads(chosen[0], marker):
            for path in chosen:
                (copied / path.relative_to(played_run)).write_bytes(payloads(path, marker)[kind])
            call(lambda: compare(["."]))
            assert not marker.exists(), f"compare ran {chosen[0].name} with {kind}"


def test_the_canaries_would_be_born(run: Path, tmp_path: Path) -> None:
    """Stable-Baselines3, RL Zoo's way of reading YAML, and ``--trust`` run what is in the files."""
    marker = tmp_path / "canary"

    def is_born(read: Callable[[], Any]) -> bool:
        with contextlib.suppress(Exception):
            read()
        born = marker.exists()
        marker.unlink(missing_ok=True)
        return born

    for kind in ("pickle", "cloudpickle"):
        content = payloads(run / "replay_buffer.pkl", marker)[kind]
        assert is_born(lambda: pickle.loads(content))  # noqa: B023  # called at once
    archive = tmp_path / "model.zip"
    archive.write_bytes(payloads(run / f"{ENV_ID}.zip", marker)["zip with more"])
    assert is_born(lambda: DQN.load(archive))
    args = run / ENV_ID / "args.yml"
    assert is_born(lambda: yaml.unsafe_load(payloads(args, marker)["one value"]))

    copied = tmp_path / "logs" / "dqn_custom" / run.name
    shutil.copytree(run, copied)
    (copied / ENV_ID / "args.yml").write_bytes(payloads(args, marker)["one value"])
    assert is_born(lambda: call(lambda: evaluate([str(copied), "--episodes", "1", "--trust"])))


def count_of(statistics: Path) -> float:
    averages = VecNormalize.load(str(statistics), DummyVecEnv([lambda: gym.make(ENV_ID)])).obs_rms
    assert isinstance(averages, RunningMeanStd)
    return averages.count


def test_running_averages_come_from_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A normalised run is resumed without the pickle that holds them; ``evaluate``, which needs it, asks for ``--trust``."""
    settings = {"eval_freq": 100, "n_eval_episodes": 1, "log_interval": 1}
    made = train(tmp_path, "dqn_custom", ENV_ID, 200, {**HYPERPARAMS, "normalize": True}, resumable=True, **settings)
    statistics = made / ENV_ID / "vecnormalize.pkl"
    count = count_of(statistics)
    marker = tmp_path / "canary"
    statistics.write_bytes(pickle.dumps(Touch(marker)))
    monkeypatch.chdir(made)
    assert "needs the running averages" in " ".join(call(lambda: evaluate([".", "--episodes", "1"])).split())
    assert "error" not in call(lambda: resume([".", "-n", "300"]))
    assert not marker.exists()
    assert count_of(statistics) - count == pytest.approx(100, abs=1)
