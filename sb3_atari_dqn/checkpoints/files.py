"""Nested state as JSON and arrays, in files that are checked when they are read.

State is what dictionaries with texts for keys, lists, numbers, texts, bytes, None and NumPy arrays can say. Arrays go to a
safetensors file; in the JSON a dictionary ``{"$array": name}`` stands for each. Tuples come back as lists. Nothing is pickled,
so reading a file runs nothing that is in it.
"""

import collections
import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from sb3_atari_dqn.atomic_files import written_whole

#: bytes of a disk that are left to others: logs have to go on when there is no room for a checkpoint
LEFT_FREE = 16 * 2**20

_ARRAY, _BYTES = "$array", "$bytes"


class BrokenFileError(ValueError):
    """A file that is not what was written: missing, cut short, or changed."""


def encode(state: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """
    :param state: nested state, see above
    :return: what JSON can say, and arrays by name
    :raises TypeError: for anything else, saying where it is
    """
    arrays: dict[str, np.ndarray] = {}
    return _encode(state, "", arrays), arrays


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item(), path, arrays)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    name = path or "state"
    if isinstance(value, bytes):
        arrays[name] = np.frombuffer(value, dtype=np.uint8)
        return {_BYTES: name}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        # in the order of its memory: what is computed from it may depend on that, in the last bit
        axes = sorted(range(value.ndim), key=lambda axis: -value.strides[axis])
        arrays[name] = np.asarray(value.transpose(axes), order="C")
        return {_ARRAY: name} if axes == list(range(value.ndim)) else {_ARRAY: name, "axes": axes}
    if isinstance(value, Mapping) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{path}/{key}" if path else key, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple | collections.deque):
        return [_encode(item, f"{path}/{index}" if path else str(index), arrays) for index, item in enumerate(value)]
    raise TypeError(f"{name}: {type(value).__name__} cannot be written to a checkpoint")


def decode(document: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """
    :param document: what ``encode`` gave first
    :param arrays: what it gave second; they are copied
    :return: the state
    """
    if isinstance(document, list):
        return [decode(item, arrays) for item in document]
    if not isinstance(document, dict):
        return document
    if _BYTES in document:
        return arrays[document[_BYTES]].tobytes()
    if _ARRAY in document:
        array = arrays[document[_ARRAY]].copy()
        return array.transpose(np.argsort(document["axes"])) if "axes" in document else array
    return {key: decode(item, arrays) for key, item in document.items()}


def write_file(path: Path, content: bytes) -> dict[str, Any]:
    """
    Write a file as a whole or not at all, unless the disk is about to be full.

    :param path: file to write
    :param content: of it
    :return: its "size" in bytes and its "sha256"
    :raises OSError: if it cannot be written; what was there before is still there
    """
    free, needed = shutil.disk_usage(path.parent).free, len(content) + LEFT_FREE
    if free < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e6:.0f} MB are free on the disk, and it needs {needed / 1e6:.0f} MB", str(path))
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_file(path: Path, expected: Mapping[str, Any]) -> bytes:
    """
    :param path: file to read
    :param expected: what ``write_file`` returned
    :return: its content
    :raises BrokenFileError: if it is not what was written, naming it
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BrokenFileError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    if len(content) != expected["size"]:
        raise BrokenFileError(f"{str(path)!r} has {len(content)} bytes, and {expected['size']} were written")
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise BrokenFileError(f"{str(path)!r} is not what was written: its checksum differs")
    return content


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """
    :param arrays: by name
    :return: content of a safetensors file
    """
    return safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def unpack_arrays(content: bytes) -> dict[str, np.ndarray]:
    """
    :param content: of a safetensors file
    :return: its arrays by name; they cannot be written to
    :raises BrokenFileError: if it is no such file
    """
    try:
        return safetensors.numpy.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BrokenFileError(f"not a safetensors file: {error}") from None


def pack_json(document: Any) -> bytes:
    """
    :param document: what JSON can say; and infinity and nan, as Python writes them
    :return: content of a JSON file
    """
    return json.dumps(document, indent=1).encode()


def unpack_json(content: bytes) -> Any:
    """
    :param content: of a JSON file
    :return: what it says
    :raises BrokenFileError: if it is no such file
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise BrokenFileError(f"not a JSON file: {error}") from None
