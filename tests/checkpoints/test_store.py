"""Checkpoints in a folder: kept, verified, locked."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from sb3_atari_dqn.checkpoints import store as store_module
from sb3_atari_dqn.checkpoints.store import CheckpointStore, FolderLock
from tests.checkpoints.processes import SERVER
from tests.waiting import LONG


def write(store: CheckpointStore, steps: int, is_exact: bool = True) -> None:
    store.prepare()
    store.write(steps, 1000, {"array": np.arange(steps), "steps": steps}, [], "every", is_exact)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """Two checkpoints, of 100 and 200 steps."""
    store = CheckpointStore(tmp_path / "checkpoints", n_kept=2)
    for steps in (100, 200):
        write(store, steps)
    return store


def test_the_newest_is_read(store: CheckpointStore) -> None:
    checkpoint, complaints = store.find_good()
    assert (checkpoint.num_timesteps, checkpoint.n_timesteps, complaints) == (200, 1000, [])
    state = store.read_state(checkpoint)
    assert state["steps"] == 200
    assert np.array_equal(state["array"], np.arange(200))


def test_the_last_ones_are_kept(store: CheckpointStore) -> None:
    (store.folder / "000009.state.json.tmp").touch()
    (store.folder / "memory-000001.safetensors").touch()
    (store.folder / "notes.txt").touch()
    write(store, 300)
    names = {path.name for path in store.folder.iterdir()}
    kept = {f"{index:06}.{suffix}" for index in (2, 3) for suffix in ("json", "state.json", "arrays.safetensors")}
    assert names == kept | {"notes.txt"}


def test_those_of_exceptions_do_not_push_good_ones_out(store: CheckpointStore) -> None:
    for steps in (210, 220, 230):
        write(store, steps, is_exact=False)
    assert [store.read_manifest(path).num_timesteps for path in store.manifests()] == [230, 200, 100]
    write(store, 300)
    assert [store.read_manifest(path).num_timesteps for path in store.manifests()] == [300, 200]


@pytest.mark.parametrize("name", ["000002.json", "000002.state.json", "000002.arrays.safetensors"])
@pytest.mark.parametrize("harm", ["flipped", "cut short", "missing"])
def test_a_broken_checkpoint_is_named_and_the_one_before_it_used(store: CheckpointStore, name: str, harm: str) -> None:
    path = store.folder / name
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "cut short":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    checkpoint, complaints = store.find_good()
    assert checkpoint.num_timesteps == 100
    if not (name == "000002.json" and harm == "missing"):
        assert len(complaints) == 1
        assert name in complaints[0]
    write(store, 200)
    assert store.find_good()[0].num_timesteps == 200


def test_nothing_good_is_left(store: CheckpointStore) -> None:
    for path in store.folder.glob("*.state.json"):
        path.write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"holds no checkpoint that is whole: .*000002.state.json.*; .*000001.state.json"):
        store.find_good()
    with pytest.raises(ValueError, match="elsewhere' holds no checkpoint"):
        CheckpointStore(store.folder / "elsewhere").find_good()


def test_another_format_is_refused(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as future:
        future.setattr(store_module, "FORMAT", 7)
        write(CheckpointStore(store.folder.with_name("newer")), 300)
    store = CheckpointStore(store.folder.with_name("newer"))
    with pytest.raises(ValueError, match=r"in format 7, and this is .* reads format 1: they are not compatible"):
        store.find_good()
    manifest = json.loads(store.manifests()[0].read_text())
    assert manifest["versions"].keys() >= {"sb3-atari-dqn", "torch", "numpy"}


def _hold(folder: Path, ready: object, release: object) -> None:
    FolderLock(folder).acquire()
    ready.set()  # type: ignore[attr-defined]
    release.wait(LONG)  # type: ignore[attr-defined]


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    ready, release = SERVER.Event(), SERVER.Event()
    process = SERVER.Process(target=_hold, args=(tmp_path, ready, release))
    process.start()
    assert ready.wait(LONG)
    lock = FolderLock(tmp_path)
    for take in (lock.check_free, lock.acquire):
        with pytest.raises(ValueError, match=rf"is being trained by another process \(process {process.pid} on "):
            take()
    process.kill()  # which cannot clean up
    process.join(LONG)
    lock.acquire()
    lock.acquire()
    assert str(os.getpid()) in lock.path.read_text()
    lock.release()
    lock.release()


def test_seeing_whether_a_folder_is_free_leaves_nothing(tmp_path: Path) -> None:
    FolderLock(tmp_path).check_free()
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="there are no locks on this system")

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.check_free()
    lock.release()
