"""Folders and disks that cannot be written: one line from every command, and no training is lost."""

import contextlib
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from stable_baselines3.common.callbacks import BaseCallback

import sb3_atari_dqn
from sb3_atari_dqn.atomic_files import check_output
from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from sb3_atari_dqn.zoo import elsewhere
from sb3_atari_dqn.zoo.commands import main
from sb3_atari_dqn.zoo.compare import compare
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.export import export
from sb3_atari_dqn.zoo.plot import plot
from sb3_atari_dqn.zoo.report import report
from sb3_atari_dqn.zoo.resume import resume
from sb3_atari_dqn.zoo.runs import find_run
from tests.checkpoints.cartpole import ENV, HYPERPARAMS, make
from tests.zoo.test_evaluate import BREAKOUT, SMALL
from tests.zoo.test_evaluate import train as train_breakout

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
needs_rights = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user works."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of a megabyte, at ``logs``."""
    disk = folder / "logs"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mount.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))


class At(BaseCallback):
    """Does something at step 150."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self.action = action

    def _on_step(self) -> bool:
        if self.num_timesteps == 150:
            self.action()
        return True


def elsewhere_of(folder: Path) -> Path:
    """The folder in which a model was saved."""
    (found,) = (path for path in folder.iterdir() if path.name.startswith(f"{ENV}_"))
    return found


def check_saved(found: Path, least: int = 150) -> None:
    assert sb3_atari_dqn.load(found / f"{ENV}.zip").num_timesteps >= least
    run = find_run(found)
    assert run.hyperparams()["policy_kwargs"] == HYPERPARAMS["policy_kwargs"]
    evaluate([str(found), "--episodes", "1"])


def replace_by_file(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


@pytest.mark.parametrize("checkpoint_keep", [0, 3])
@pytest.mark.parametrize("harm", [shutil.rmtree, replace_by_file])
def test_a_folder_that_vanishes_while_training(
    folder: Path, harm: Callable[[Path], None], checkpoint_keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    manager, model = make(folder, checkpoint_keep=checkpoint_keep)
    run = Path(manager.save_path)
    manager.callbacks.append(At(lambda: harm(run)))
    with pytest.raises(OSError, match=r"training ended at step 1[5-9].*progress.csv.*The model is saved in '.*'$") as failure:
        manager.learn(model)
    assert str(elsewhere_of(folder)) in str(failure.value)
    check_saved(elsewhere_of(folder))


def test_one_that_vanishes_without_being_noticed(folder: Path) -> None:
    """Where nothing is logged; Stable-Baselines3 makes the folder again, and the configuration is written again, too."""
    manager, model = make(folder, checkpoint_keep=0)
    manager.log_interval = -2
    manager.callbacks.append(At(lambda: shutil.rmtree(manager.save_path)))
    manager.learn(model)
    manager.save_trained_model(model)
    check_saved(Path(manager.save_path), 300)


def test_a_model_that_cannot_be_saved_in_its_folder(folder: Path) -> None:
    manager, model = make(folder)
    manager.save_replay_buffer = True
    manager.learn(model)
    run = Path(manager.save_path)
    replace_by_file(run)
    with pytest.raises(OSError, match=f"'{run}' cannot be written: .*The model is saved in '.*'$"):
        manager.save_trained_model(model)
    check_saved(elsewhere_of(folder), 300)
    assert (elsewhere_of(folder) / "replay_buffer.pkl").is_file()


def test_a_signal_when_no_checkpoint_can_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manager, model = make(folder)
    checkpoints = Path(manager.save_path, FOLDER)

    def end() -> None:
        replace_by_file(checkpoints)
        signal.raise_signal(signal.SIGTERM)

    manager.callbacks.append(At(end))
    with pytest.raises(SystemExit) as exit_status:
        manager.learn(model)
    assert exit_status.value.code == 128 + signal.SIGTERM
    assert f"The model is saved in '{elsewhere_of(folder)}'" in capsys.readouterr().err
    check_saved(elsewhere_of(folder))


def test_the_current_folder_may_be_gone_too(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, model = make(folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    manager.callbacks.append(At(lambda: shutil.rmtree(folder)))
    manager.save_path, manager.params_path = os.path.abspath(manager.save_path), os.path.abspath(manager.params_path)
    try:
        with pytest.raises(OSError, match=f"The model is saved in '{tmp_path}"):
            manager.learn(model)
    finally:
        os.chdir(tmp_path)
    check_saved(elsewhere_of(tmp_path))


def test_nowhere_else_either(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "PLACES", (lambda: str(folder / "config.yml"), lambda: str(folder / "nowhere")))
    manager, model = make(folder)
    manager.callbacks.append(At(lambda: shutil.rmtree(manager.save_path)))
    with pytest.raises(OSError, match=r"training ended at step 1.*The model could not be saved elsewhere either$"):
        manager.learn(model)


@needs_full
def test_a_log_that_is_full_leaves_a_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost, so nothing is saved elsewhere."""
    manager, model = make(folder)
    log = Path(manager.save_path, "progress.csv")

    def harm() -> None:
        log.rename(folder / "progress.csv")
        log.symlink_to(FULL)

    manager.callbacks.append(At(harm))
    with pytest.raises(OSError, match=r"training ended at step 1.*No space left on device.$"):
        manager.learn(model)
    run = Path(manager.save_path)
    assert CheckpointStore(run / FOLDER).find_good()[0].num_timesteps >= 150
    assert not list(folder.glob(f"{ENV}_*"))


def test_a_disk_that_is_full_while_training(small_disk: Path, folder: Path) -> None:
    manager, model = make(folder)

    def harm() -> None:
        with Path(manager.save_path, "progress.csv").open("a") as log:
            log.write("\n" * (4096 - log.tell()))  # what is left of its last page is the file's
        fill(small_disk)

    manager.callbacks.append(At(harm))
    with pytest.raises(OSError, match=r"No space left on device.*The model is saved in"):
        manager.learn(model)
    check_saved(elsewhere_of(folder))


def test_a_disk_without_room_for_the_model(small_disk: Path, folder: Path) -> None:
    """What is there of it is not taken for the run's model."""
    manager, model = make(folder, checkpoint_keep=0)
    manager.learn(model)
    fill(small_disk)
    os.truncate(small_disk / "filling", (small_disk / "filling").stat().st_size - 4096)
    with pytest.raises(OSError, match=r"cannot be written: .*The model is saved in"):
        manager.save_trained_model(model)
    assert not list(small_disk.rglob("*.zip"))
    check_saved(elsewhere_of(folder), 300)


def test_a_disk_that_is_full_when_a_training_begins(
    small_disk: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(small_disk)
    monkeypatch.setattr("sys.argv", ["rl_zoo3.train"])
    with pytest.raises(SystemExit) as exit_status:
        make(folder)
    assert exit_status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rl_zoo3.train: error: ")
    assert "No space left on device" in line
    assert "-f FOLDER makes one elsewhere" in line
    assert not list(small_disk.rglob(f"{ENV}*")), "an empty run would be taken for the latest"


@pytest.mark.parametrize("what", ["file", "link that leads nowhere", pytest.param("read-only", marks=needs_rights)])
def test_a_log_folder_that_cannot_be_made(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = folder / "logs"
    if what == "file":
        logs.touch()
    elif what == "read-only":
        logs.mkdir(mode=0o555)
    else:
        logs.symlink_to(folder / "nowhere")
    monkeypatch.setattr("sys.argv", ["/bin/rl_zoo3/train.py"])
    with pytest.raises(SystemExit):
        make(folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train.py: error: '{logs}")
    monkeypatch.setattr("sys.argv", ["my_script.py"])
    with pytest.raises(OSError, match="logs"):  # whoever calls RL Zoo from Python catches it
        make(folder)


def test_the_command_line_says_so_in_one_line(folder: Path) -> None:
    """The first file is one too many, by a limit of the system."""
    (folder / "small.yml").write_text(yaml.safe_dump({ENV: HYPERPARAMS}))
    ended = subprocess.run(
        [sys.executable, "-m", "sb3_atari_dqn", "train", "--algo", "dqn_custom", "--env", ENV, "--conf-file", "small.yml"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLCONFIGDIR": str(folder)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("train.py: error: File too large. The run's folder is 'logs/dqn_custom")
    assert "Traceback" not in ended.stderr
    assert not list((folder / "logs").rglob(f"{ENV}*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fast = {"n_envs": 2, "accelerate": "none", "precision": "float32", "env_kwargs": {"max_num_frames_per_episode": 40}}
    return train_breakout(tmp_path_factory.mktemp("logs"), "dqn_custom", BREAKOUT, SMALL | fast)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run, to be changed."""
    run = Path(shutil.copytree(made, tmp_path / made.name))
    (tmp_path / "full.png").symlink_to(FULL)
    return run


def error_of(command: Callable[[list[str]], None], *arguments: object) -> str:
    """The last line of what a command says; argparse's usage is above it."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as exit_status:
        command([str(argument) for argument in arguments])
    assert exit_status.value.code == 2
    return errors.getvalue().splitlines()[-1]


@needs_full
def test_files_that_cannot_be_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    no_space = "'/dev/full' cannot be written: No space left on device"
    assert error_of(report, run, "-o", FULL).endswith(no_space)
    assert error_of(export, run, "--safetensors", FULL).endswith("No space left on device")
    evaluation = ["--protocol", "nature", "--episodes", 1]
    assert error_of(evaluate, run, *evaluation, "--json", FULL).endswith(no_space)
    assert "nature: median" in capsys.readouterr().out, "games that were played are shown"
    evaluate([str(run), *map(str, evaluation)])
    assert error_of(compare, run, "--json", FULL).endswith(no_space)
    full = tmp_path / "full.png"
    assert error_of(compare, run, "-o", full).endswith(f"'{full}' cannot be written: No space left on device")


def test_places_in_the_run_that_cannot_be_written(run: Path) -> None:
    for name in ("report.html", "scores.png", "evaluation_nature.json"):
        (run / name).mkdir()
    assert error_of(report, run).endswith("give the name of a file; -o FILE writes it elsewhere")
    assert error_of(plot, run).endswith("give the name of a file; -o FILE writes it elsewhere")
    assert error_of(evaluate, run, "--protocol", "nature").endswith("give the name of a file; --json FILE writes it elsewhere")
    (run / "training.lock").unlink()
    (run / "training.lock").mkdir()
    assert "training.lock': Is a directory. A run goes on in its own folder: copy it" in error_of(resume, run, "-n", 40)


@needs_rights
def test_a_run_that_is_read_only(run: Path) -> None:
    run.chmod(0o555)
    try:
        assert "is read-only; -o FILE writes it elsewhere" in error_of(report, run)
        assert "is read-only; -o FILE writes it elsewhere" in error_of(plot, run)
        assert "is read-only; --json FILE writes it elsewhere" in error_of(evaluate, run, "--protocol", "nature")
    finally:
        run.chmod(0o755)


def test_a_full_disk_is_noticed_before_the_work(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(ValueError, match=r"report.html' cannot be written: No space left on device"):
        check_output(small_disk / "report.html")


@needs_full
def test_what_is_printed_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    full = FULL.open("w", buffering=1)
    monkeypatch.setattr("sys.argv", ["sb3_atari_dqn", "presets"])
    monkeypatch.setattr("sys.stdout", full)
    with pytest.raises(SystemExit) as failure:
        main()
    assert failure.value.code == "python -m sb3_atari_dqn presets: error: No space left on device"
    with contextlib.suppress(OSError):
        full.close()
