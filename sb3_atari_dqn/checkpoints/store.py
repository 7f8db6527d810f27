"""Checkpoints in a folder: written in one piece, the last few kept, verified when they are read.

A checkpoint is a *manifest*, ``<number>.json``, which names all its files with size and checksum, and carries a checksum of
itself. It is renamed into its place when all of them are on the disk; so whatever happens at whatever moment, a checkpoint is
whole or is not there. Files that no manifest names go.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sb3_atari_dqn.atomic_files import TEMPORARY
from sb3_atari_dqn.checkpoints.files import (
    BrokenFileError,
    decode,
    encode,
    pack_arrays,
    pack_json,
    read_file,
    unpack_arrays,
    unpack_json,
    write_file,
)
from sb3_atari_dqn.versions import versions

#: of the files and of what is in them; another number cannot be read
FORMAT = 1

#: folder of a run's checkpoints
FOLDER = "checkpoints"


class Checkpoint(NamedTuple):
    """
    What a manifest says.

    :param path: the manifest
    :param num_timesteps: agent steps at which it was written
    :param n_timesteps: agent steps that the run is to have
    :param is_exact: whether everything was at rest; after an exception it was not
    :param reason: why it was written
    :param versions: of what the run was computed with
    :param files: name, size and checksum of each file
    :param segments: those of the replay memory
    """

    path: Path
    num_timesteps: int
    n_timesteps: int
    is_exact: bool
    reason: str
    versions: dict[str, str]
    files: dict[str, dict[str, Any]]
    segments: list[dict[str, Any]]


class CheckpointStore:
    """
    The checkpoints of one run.

    :param folder: where they are; made when the first one is written
    :param n_kept: how many are kept
    """

    def __init__(self, folder: Path, n_kept: int = 3) -> None:
        self.folder = folder
        self.n_kept = n_kept

    def manifests(self) -> list[Path]:
        """
        :return: the manifests, newest first
        """
        return sorted((path for path in self.folder.glob("*.json") if path.stem.isdigit()), reverse=True)

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        num_timesteps: int,
        n_timesteps: int,
        state: Mapping[str, Any],
        segments: Sequence[Mapping[str, Any]],
        reason: str,
        is_exact: bool = True,
    ) -> Checkpoint:
        """
        Write a checkpoint, and let older ones go.

        :param num_timesteps: agent steps at which it is written
        :param n_timesteps: agent steps that the run is to have
        :param state: nested state, see ``files``
        :param segments: of the replay memory, on the disk already: "name", "size" and "sha256" of each
        :param reason: why it is written
        :param is_exact: whether everything was at rest
        :return: the checkpoint
        :raises OSError: if there is no room; older checkpoints are still there
        """
        document, arrays = encode(state)
        contents = {"state.json": pack_json(document), "arrays.safetensors": pack_arrays(arrays)}
        index = int(self.manifests()[0].stem) + 1 if self.manifests() else 1
        files = {}
        for suffix, content in contents.items():
            name = f"{index:06}.{suffix}"
            files[name] = write_file(self.folder / name, content)
        path = self.folder / f"{index:06}.json"
        manifest = {
            "format": FORMAT,
            "num_timesteps": num_timesteps,
            "n_timesteps": n_timesteps,
            "is_exact": is_exact,
            "reason": reason,
            "written_at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "versions": versions(),
            "files": files,
            "segments": [dict(segment) for segment in segments],
        }
        write_file(path, pack_json({**manifest, "sha256": _checksum(manifest)}))
        self.tidy()
        return _parse(path, manifest)

    def tidy(self) -> None:
        """Let go of all checkpoints but the last ones, and of files that none of them names."""
        kept: list[Path] = []
        n_exact = 0
        for path in self.manifests():
            try:
                is_exact = self.read_manifest(path).is_exact
            except BrokenFileError:
                continue  # a good one may be behind it
            # one that was written at an exception, or several, do not push a good one out
            if n_exact < self.n_kept and (is_exact or not kept):
                kept.append(path)
                n_exact += is_exact
        if not kept:
            return
        named = {path.name for path in kept}
        for path in kept:
            checkpoint = self.read_manifest(path)
            named |= checkpoint.files.keys() | {segment["name"] for segment in checkpoint.segments}
        for path in self.manifests():  # before the files that they name
            if path.name not in named:
                path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            is_ours = path.name.endswith((".json", ".safetensors", TEMPORARY))
            if path.name not in named and is_ours:
                path.unlink(missing_ok=True)

    def discard_after(self, checkpoint: Checkpoint) -> None:
        """
        Let go of what is newer, and of files that no checkpoint names.

        :param checkpoint: one of these
        """
        for path in self.manifests():
            if path.stem > checkpoint.path.stem:
                path.unlink(missing_ok=True)
        self.tidy()

    def read_manifest(self, path: Path) -> Checkpoint:
        """
        :param path: one of ``manifests``
        :return: what it says
        :raises BrokenFileError: if it is not what was written, naming it
        :raises ValueError: if it is of another format
        """
        try:
            manifest = unpack_json(path.read_bytes())
        except (OSError, BrokenFileError) as error:
            raise BrokenFileError(f"{str(path)!r} cannot be read: {error}") from None
        checksum = manifest.pop("sha256", None) if isinstance(manifest, dict) else None
        if checksum is None or _checksum(manifest) != checksum:
            raise BrokenFileError(f"{str(path)!r} is not what was written: its checksum differs")
        if manifest["format"] != FORMAT:
            found, own = manifest["versions"].get("sb3-atari-dqn"), versions().get("sb3-atari-dqn")
            raise ValueError(
                f"{str(path)!r} was written by sb3-atari-dqn {found} in format {manifest['format']}, and this is {own}, which "
                f"reads format {FORMAT}: they are not compatible. Go on with sb3-atari-dqn {found}."
            )
        return _parse(path, manifest)

    def verify(self, checkpoint: Checkpoint) -> None:
        """
        :param checkpoint: one of these
        :raises BrokenFileError: if one of its files is not what was written, naming it
        """
        for name, expected in checkpoint.files.items():
            read_file(self.folder / name, expected)
        for segment in checkpoint.segments:
            read_file(self.folder / segment["name"], segment)

    def read_state(self, checkpoint: Checkpoint) -> Any:
        """
        :param checkpoint: one of these
        :return: its state
        :raises BrokenFileError: if a file is not what was written, naming it
        """
        contents = {name.partition(".")[2]: read_file(self.folder / name, file) for name, file in checkpoint.files.items()}
        return decode(unpack_json(contents["state.json"]), unpack_arrays(contents["arrays.safetensors"]))

    def find_good(self) -> tuple[Checkpoint, list[str]]:
        """
        :return: the newest checkpoint of which every file is what was written; and what is wrong with newer ones
        :raises BrokenFileError: if there are some, and none that is whole, saying what is wrong with each
        :raises ValueError: if there is none at all, or the newest is of another format
        """
        complaints: list[str] = []
        for path in self.manifests():
            try:
                checkpoint = self.read_manifest(path)
                self.verify(checkpoint)
            except BrokenFileError as error:
                complaints.append(str(error))
            else:
                return checkpoint, complaints
        if not complaints:
            raise ValueError(
                f"{str(self.folder)!r} holds no checkpoint: the run ended before its first one (see checkpoint_freq)"
            )
        raise BrokenFileError(f"{str(self.folder)!r} holds no checkpoint that is whole: " + "; ".join(complaints))


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _parse(path: Path, manifest: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(path, **{name: manifest[name] for name in Checkpoint._fields if name != "path"})


class FolderLock:
    """
    A run's folder, for one process that trains in it. The system lets go of it when the process ends, however it ends.

    On systems without ``fcntl`` (Windows), and on file systems without locks, nothing is locked.

    :param folder: the folder
    """

    NAME = "training.lock"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.NAME
        self._descriptor: int | None = None

    def check_free(self) -> None:
        """
        See that nobody else has it, without writing anything.

        :raises ValueError: if another process has it, with its id
        """
        if self._descriptor is None and self.path.is_file():
            descriptor = self._open()
            if descriptor is not None:
                os.close(descriptor)

    def acquire(self) -> None:
        """
        Take it; doing so again changes nothing.

        :raises ValueError: if another process has it, with its id
        """
        if self._descriptor is not None:
            return
        self._descriptor = self._open()
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"process {os.getpid()} on {platform.node()}".encode())

    def _open(self) -> int | None:
        """
        :return: a descriptor that holds the lock until it is closed; None where there are no locks
        :raises ValueError: if another process has it, with its id; or if it is a symbolic link
        :raises OSError: if the file cannot be written
        """
        try:
            import fcntl
        except ImportError:
            return None
        if self.path.is_symlink():
            raise ValueError(f"{str(self.path)!r} is a symbolic link, whose file would be overwritten: delete the link")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise ValueError(f"{str(self.path.parent)!r} is being trained by another process ({owner})") from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        return descriptor

    def release(self) -> None:
        """Let go of it; doing so again changes nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
