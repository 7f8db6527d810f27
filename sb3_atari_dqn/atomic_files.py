"""Files that are there as a whole or not at all, for all rooms."""

import contextlib
import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: what files are called until they are whole
TEMPORARY = ".tmp"


#: what is wrong with files, folders and disks, and not with a program
_OF_FILES = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EDQUOT", "EEXIST", "EFBIG", "EIO", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENOENT", "ENOSPC", "ENOTDIR"),
        *("EPERM", "EROFS", "ESTALE"),
    )
    if hasattr(errno, name)
}


def is_of_files(error: BaseException) -> bool:
    """
    :param error: any
    :return: whether it says that a file cannot be read or written, as on a full disk, rather than that a program is wrong
    """
    return isinstance(error, OSError) and error.errno in _OF_FILES


def what_failed(error: OSError) -> str:
    """
    :param error: of a file
    :return: one line for users: the file, if it is known, and what is wrong with it
    """
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{str(error.filename)!r}: {reason}"


def cannot_write(path: Path, error: OSError) -> str:
    """
    :param path: file or folder that was to be written
    :param error: why it was not
    :return: one line for users
    """
    return f"{str(path)!r} cannot be written: {error.strerror or error}"


def check_folder(folder: Path) -> None:
    """
    :param folder: where files are to be written
    :raises OSError: if they cannot be, as on a full disk
    """
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(bytes(4096))


def check_output(path: Path) -> None:
    """
    :param path: file that is to be written
    :raises ValueError: if it cannot be
    """
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: give the name of a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"{str(path)!r} cannot be written: {str(folder)!r} is a file, not a folder")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ValueError(f"{str(path)!r} cannot be written: {str(path if path.exists() else folder)!r} is read-only")
    if path.exists() and not path.is_file():  # a device or a pipe
        return
    try:
        check_folder(folder)
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """
    Write a file so that it is there as a whole or not at all, whatever happens meanwhile. Others may do so at the same moment.

    :param path: file to write; a device or a pipe is written to as it is
    :return: where to write it: beside, under another name. It takes its place when the context is left; if by an exception,
        what was there before is still there.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def whole_lines(path: Path) -> list[str]:
    """
    :param path: a text file that somebody may be writing to, line by line
    :return: its lines; a last one without an end is just being written, or was when its writer was killed, and is left out
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = file.readlines()
    return lines[:-1] if lines and not lines[-1].endswith("\n") else lines


def _sync_folder(folder: Path) -> None:
    """
    :param folder: its entries are on the disk when this returns, where the system can do that
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        with contextlib.suppress(OSError):  # some file systems do not
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
