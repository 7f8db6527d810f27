"""Files that are there as a whole or not at all."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from sb3_atari_dqn.atomic_files import written_whole
from tests.waiting import LONG


def write(path: Path, text: str, error: BaseException | None = None) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text)
        if error is not None:
            raise error


def test_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(KeyboardInterrupt):
        write(path, "half", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []
    write(path, "whole")
    with pytest.raises(OSError, match="as if the disk were full"):
        write(path, "half", OSError("as if the disk were full"))
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_where_folders_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems of virtual machines and networks."""
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    with written_whole(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "file").read_text() == "whole"


def test_others_may_read_it(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write(tmp_path / "file", "whole")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_several_at_the_same_moment(tmp_path: Path) -> None:
    path = tmp_path / "file"
    all_have_written = threading.Barrier(4)
    seen = []

    def write_together(number: int) -> None:
        with written_whole(path) as temporary:
            temporary.write_text(str(number) * 1000)
            all_have_written.wait(LONG)
        seen.append(path.read_text())

    threads = [threading.Thread(target=write_together, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(seen) == 4
    assert set(seen) <= {str(number) * 1000 for number in range(4)}
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    write(path, "whole")
    reader.join(LONG)
    assert read == ["whole"]
    assert path.is_fifo()
