"""Run folders that cannot be written: one line, and a training that can be saved elsewhere is."""

import os
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.callbacks import BaseCallback

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.plot import plot
from sb3_atari_dqn.zoo.register import register
from sb3_atari_dqn.zoo.report import report
from tests.report.runs import train

register()

HYPERPARAMS: dict[str, Any] = {
    "buffer_size": 300,
    "learning_starts": 20,
    "train_freq": 4,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
    "checkpoint_freq": 100,
}


class AtStep(BaseCallback):
    """Does something to the run's folder while it trains."""

    def __init__(self, folder: Path, do: Callable[[Path], None], step: int = 150) -> None:
        super().__init__()
        self.folder, self.do, self.step = folder, do, step

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step:
            self.do(self.folder)
        return True


def replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("in the way")


@pytest.mark.parametrize("do", [shutil.rmtree, replace_by_a_file], ids=["deleted", "replaced"])
@pytest.mark.parametrize("eval_freq", [-1, 200])
def test_a_training_whose_folder_is_gone_is_saved(
    do: Any, eval_freq: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    args = Namespace(algo="dqn_custom", env="CartPole-v1", seed=1, hyperparams=HYPERPARAMS, gym_packages=[])
    experiment = ExperimentManager(
        args, "dqn_custom", "CartPole-v1", "logs", n_timesteps=400, seed=1, hyperparams=HYPERPARAMS, verbose=0,
        eval_freq=eval_freq, n_eval_episodes=1, log_interval=1,
    )  # fmt: skip
    made = experiment.setup_experiment()
    assert made is not None
    run = Path(experiment.save_path)
    experiment.callbacks.append(AtStep(run, do))
    saved_elsewhere = True
    try:
        with pytest.warns(UserWarning, match=r"progress.csv is not continued, and training is: .* cannot be written"):
            experiment.learn(made[0])
        assert made[0].num_timesteps == 400
        experiment.save_trained_model(made[0])
        saved_elsewhere = False  # the folder was made anew
        model = run / "CartPole-v1.zip"
    except SystemExit as error:
        line = str(error.code)
        assert "\n" not in line
        assert line.startswith("error: the run's folder cannot be written (")
        [model] = tmp_path.glob("CartPole-v1_*_steps_*/CartPole-v1.zip")
        assert line.endswith(f"; the model was saved as {str(model)!r}")
    assert saved_elsewhere or do is shutil.rmtree
    assert CustomDQN.load(model).num_timesteps == made[0].num_timesteps > 150
    assert "No checkpoint could be written" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_ends_the_log_and_not_the_training(tmp_path: Path) -> None:
    experiment = ExperimentManager(
        Namespace(), "dqn_custom", "CartPole-v1", str(tmp_path), n_timesteps=300, seed=1, hyperparams=HYPERPARAMS, verbose=0,
        eval_freq=-1, log_interval=1,
    )  # fmt: skip
    made = experiment.setup_experiment()
    assert made is not None

    def fill(folder: Path) -> None:
        (folder / "progress.csv").unlink()
        (folder / "progress.csv").symlink_to("/dev/full")

    experiment.callbacks.append(AtStep(Path(experiment.save_path), fill))
    with pytest.warns(UserWarning, match="progress.csv is not continued, and training is: .*No space left on device"):
        experiment.learn(made[0])
    experiment.save_trained_model(made[0])
    assert (Path(experiment.save_path) / "CartPole-v1.zip").is_file()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("logs"), "dqn_custom", "CartPole-v1", 200, HYPERPARAMS, resumable=True, eval_freq=-1)


def test_commands_say_in_one_line_where_else_they_write(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, command, option in (("scores.png", plot, "-o FILE"), ("report.html", report, "-o FILE")):
        (run / name).mkdir()
        with pytest.raises(SystemExit) as status:
            command([str(run)])
        error = capsys.readouterr().err.splitlines()[-1]
        assert status.value.code == 2
        assert f"{name}' is a folder" in error
        assert error.endswith(f"; {option} writes it elsewhere")
        (run / name).rmdir()
    with pytest.raises(SystemExit):
        evaluate([str(run), "--episodes", "1", "--json", str(run / "CartPole-v1.zip" / "x.json")])
    assert "is a file, not a folder" in capsys.readouterr().err.splitlines()[-1]
