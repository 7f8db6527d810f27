"""`export`, from the command line."""

from pathlib import Path

import numpy as np
import pytest
from sb3_contrib import QRDQN

import sb3_atari_dqn
from sb3_atari_dqn.saving.onnx_files import q_values_in_pytorch
from sb3_atari_dqn.zoo.commands import main
from sb3_atari_dqn.zoo.export import export
from sb3_atari_dqn.zoo.register import register
from tests.saving.models import custom_dqn, observations_for, session_of, sweep_dqn

register()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.zip"
    custom_dqn(policy_kwargs={"dueling": True}).learn(20).save(path)
    return path


def test_both_files_at_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx, safetensors = tmp_path / "new" / "model.onnx", tmp_path / "model.safetensors"
    monkeypatch.setattr(
        "sys.argv", ["sb3_atari_dqn", "export", str(model), "--onnx", str(onnx), "--safetensors", str(safetensors)]
    )
    main()
    assert capsys.readouterr().out.splitlines() == [
        f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in (onnx, safetensors)
    ]
    loaded = sb3_atari_dqn.load(safetensors)
    assert loaded.num_timesteps == 20
    assert loaded.policy.optimizer.state_dict()["state"]
    observations = observations_for(loaded)
    q_values = session_of(onnx).run(None, {"observations": observations})[0]
    np.testing.assert_allclose(q_values, q_values_in_pytorch(loaded, observations), rtol=0, atol=1e-5)
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "model.onnx", "model.safetensors"}

    export([str(safetensors), "--safetensors", str(tmp_path / "smaller"), "--no-optimizer"])
    assert (tmp_path / "smaller").stat().st_size < 0.6 * safetensors.stat().st_size


def test_other_models(tmp_path: Path) -> None:
    QRDQN("MlpPolicy", "CartPole-v1", buffer_size=2).save(tmp_path / "qrdqn.zip")
    sweep_dqn().save(tmp_path / "sweep.zip")
    export([str(tmp_path / "qrdqn.zip"), "--onnx", str(tmp_path / "qrdqn.onnx")])
    export([str(tmp_path / "sweep.zip"), "--algo", "dqn_sweep", "--safetensors", str(tmp_path / "sweep")])
    assert type(sb3_atari_dqn.load(tmp_path / "sweep")) is sb3_atari_dqn.SweepDQN


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "nothing to write: give --onnx FILE or --safetensors FILE, or both"),
        (["MODEL", "--onnx", "FOLDER"], "--onnx 'FOLDER' is a folder: give the name of a file"),
        (["MODEL", "--safetensors", "FOLDER", "--onnx", "NEW"], "--safetensors 'FOLDER' is a folder"),
        (["MODEL", "--onnx", "TEXT/new"], "cannot be written: 'TEXT' is a file, not a folder"),
        (["MODEL", "--onnx", "NEW", "--safetensors", "NEW"], "--onnx and --safetensors are both 'NEW'"),
        (["MODEL", "--safetensors", "MODEL"], "'MODEL' is what is exported: give another name"),
        (["MODEL", "--onnx", "NEW", "--no-optimizer"], "--no-optimizer goes with --safetensors alone"),
        (["MODEL", "--onnx", "NEW", "--algo", "dqn9"], "--algo 'dqn9' is not known; choose one of a2c, "),
        (["MODEL", "--onnx", "NEW", "--algo", "ppo"], "'MODEL' cannot be loaded as 'ppo'"),
        (["MODEL", "--onnx", "NEW", "--load-best"], "--load-best does not go with a file, 'MODEL'"),
        (["NEW", "--onnx", "NEW2"], "'NEW' does not exist"),
        (["FOLDER", "--onnx", "NEW"], "'FOLDER' is not the folder of a training run"),
        (["TEXT", "--onnx", "NEW"], "'TEXT' is not a model that Stable-Baselines3 saved"),
        (["QRDQN", "--onnx", "NEW", "--safetensors", "NEW2"], "--safetensors does not go with a model of 'qrdqn'"),
    ],
)
def test_bad_input_writes_nothing(
    arguments: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("A text, not a model.")
    QRDQN("MlpPolicy", "CartPole-v1", buffer_size=2).save(tmp_path / "qrdqn.zip")
    names = {"NEW2": "new2", "NEW": "new", "FOLDER": "folder", "TEXT": "text", "QRDQN": "qrdqn.zip"}
    paths = {"MODEL": str(model)} | {name: str(tmp_path / path) for name, path in names.items()}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit, match="2"):
        export([paths.get(argument, argument.replace("TEXT", paths["TEXT"])) for argument in arguments])
    for name, path in paths.items():
        message = message.replace(f"'{name}'", repr(path))
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
