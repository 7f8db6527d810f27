"""What a run writes outside of its folder: for TensorBoard, and through links that somebody else has put into it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_atari_dqn.checkpoints.logs import CLAIM
from sb3_atari_dqn.checkpoints.store import FOLDER, CheckpointStore
from sb3_atari_dqn.zoo.evaluate import evaluate
from sb3_atari_dqn.zoo.plot import plot
from sb3_atari_dqn.zoo.report import report
from sb3_atari_dqn.zoo.resume import resume
from tests.checkpoints.cartpole import ENV, train

EVENTS = "events.out.tfevents.*"


def files(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def scores(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return sorted((event.step, event.value) for event in events.Scalars("rollout/ep_len_mean"))


def drop_newest(run: Path) -> None:
    """As if the run had been killed before it wrote its last checkpoint."""
    CheckpointStore(run / FOLDER).manifests()[0].unlink()
    (run / f"{ENV}.zip").unlink()


def rewrite(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the state of the newest checkpoint, as somebody could who knows the format."""
    store = CheckpointStore(run / FOLDER)
    checkpoint = store.read_manifest(store.manifests()[0])
    state = store.read_state(checkpoint)
    change(state)
    store.write(checkpoint.num_timesteps, checkpoint.n_timesteps, state, checkpoint.segments, checkpoint.reason)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user works."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize("tensorboard", ["tb", "logs/tb"])
@pytest.mark.parametrize("is_link", [False, True])
def test_tensorboard_goes_on_where_it_was(folder: Path, tensorboard: str, is_link: bool) -> None:
    """Also where ``logs`` is a link, as to a larger disk."""
    (folder / "large" / "disk").mkdir(parents=True)
    if is_link:
        Path("logs").symlink_to(folder / "large" / "disk")
    run = train(Path(), tensorboard)
    written = Path(tensorboard, ENV, "CustomDQN_1")
    expected = scores(written)
    (own,) = written.glob(EVENTS)
    other = written / "events.out.tfevents.1.somebody.2.3"
    content = own.read_bytes()
    other.write_bytes(content)
    for _ in range(2):  # the second time there is a file that the newest checkpoint does not know
        drop_newest(run)
        resume([str(run)])
    assert other.read_bytes() == content
    other.unlink()
    assert scores(written) == expected
    assert len(list(written.glob(EVENTS))) == 2


def without_claim(run: Path, written: Path) -> None:
    """As earlier versions left it, whose paths did not follow links."""
    (written / CLAIM).unlink()

    def change(state: dict[str, Any]) -> None:
        state["tensorboard"] = os.path.relpath(written, run)
        sizes = {name: size for name, size in state["log_files"].items() if "tfevents" not in name}
        state["log_files"] = sizes | {os.path.relpath(path, run): path.stat().st_size for path in written.glob(EVENTS)}

    rewrite(run, change)


@pytest.mark.parametrize("tensorboard", ["tb", "logs/tb"])
def test_runs_of_earlier_versions_go_on_too(folder: Path, tensorboard: str) -> None:
    (folder / "large" / "disk").mkdir(parents=True)
    Path("logs").symlink_to(folder / "large" / "disk")
    run = train(Path(), tensorboard)
    written = Path(tensorboard, ENV, "CustomDQN_1")
    without_claim(run, written)
    before = scores(written)
    resume([str(run), "-n", "400"])
    after = scores(written)
    assert after[: len(before)] == before
    assert after[-1][0] > 300
    assert list(run.rglob(EVENTS)) == []


@pytest.mark.parametrize("is_claimed", [True, False])
def test_event_files_of_other_runs_are_left_alone(folder: Path, is_claimed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint and ``args.yml`` name the log folder of another run; and a copy of a run names that of the first one."""
    first, second = train(Path(), "tb"), train(Path(), "tb")
    copy = Path(shutil.copytree(first, first.parent / f"{ENV}_3"))
    other = Path("tb", ENV, "CustomDQN_1")
    if not is_claimed:
        (other / CLAIM).unlink()
        shutil.rmtree(copy)
    rewrite(second, lambda state: state.update(tensorboard=os.path.relpath(other, second)))
    before = files(other)
    for run in (second, copy) if is_claimed else (second,):
        resume([str(run), "-n", "400"])
        assert f"for TensorBoard goes into '{run}/tensorboard' from here" in capsys.readouterr().err
        assert scores(run / "tensorboard")[-1][0] > 300
        resume([str(run), "-n", "450"])
        assert "from here" not in capsys.readouterr().err
        assert len(list((run / "tensorboard").glob(EVENTS))) == 2
    assert files(other) == before


def forge_claim(run: Path, other: Path) -> None:
    own = run / "tensorboard"
    own.mkdir()
    names = [os.path.relpath(path, own) for path in other.glob(EVENTS)]
    (own / CLAIM).write_text(json.dumps({"run": "..", "files": names}))
    rewrite(run, lambda state: state.update(tensorboard="tensorboard"))


def test_a_note_in_the_run_cannot_name_files_outside(folder: Path) -> None:
    run = train(Path(), "tb")
    other = Path("tb", ENV, "CustomDQN_1")
    forge_claim(run, other)
    before = files(other)
    resume([str(run), "-n", "350"])
    assert files(other) == before


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run from somebody else, to be changed, reached through a link."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    return Path(shutil.copytree(made, tmp_path / "here" / made.name))


@pytest.mark.parametrize(
    "name",
    [
        "training.lock",
        "0.monitor.csv",
        "1.monitor.csv",
        "progress.csv",
        "evaluations.npz",
        f"{ENV}.zip",
        f"{ENV}/config.yml",
        f"{ENV}/command.txt",
        f"{FOLDER}/000099.json",
        "report.html",
        "tensorboard",
        FOLDER,
        ENV,
    ],
)
def test_links_out_of_the_run_are_refused(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    if (run / name).exists():
        (run / name).rename(outside)
    else:
        outside.write_text("precious")
    (run / name).symlink_to(outside)
    before = files(tmp_path) | {path: b"" for path in tmp_path.rglob("*") if path.is_symlink()}
    for command in (resume, evaluate, report):
        with pytest.raises(SystemExit) as exit_status:
            command([str(run)])
        error = capsys.readouterr().err.splitlines()[-1]
        assert exit_status.value.code == 2
        assert str(run / name) in error
        assert "symbolic link" in error
    assert files(tmp_path) | {path: b"" for path in tmp_path.rglob("*") if path.is_symlink()} == before


def test_links_within_the_run_and_to_it_are_followed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "last.zip").symlink_to(f"{ENV}.zip")
    (run / "again").symlink_to(run.resolve())
    resume([str(run), "-n", "350"])
    assert "goes on at step 300 of 350" in capsys.readouterr().out


def test_a_pipe_in_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(run / "1.monitor.csv")
    with pytest.raises(SystemExit):
        resume([str(run)])
    assert "1.monitor.csv' is refused: it is neither a file nor a folder" in capsys.readouterr().err


def test_a_lock_is_never_a_link(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("precious")
    (run / "training.lock").unlink()
    (run / "training.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(SystemExit):
        resume([str(run), "--trust"])
    assert "training.lock' is a symbolic link" in capsys.readouterr().err
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_plot_does_not_overwrite_what_a_link_leads_to(run: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (run / "scores.png").symlink_to(tmp_path / "precious")
    plot([str(run)])
    assert (tmp_path / "precious").read_text() == "precious"
    assert (run / "scores.png").read_bytes().startswith(b"\x89PNG")
