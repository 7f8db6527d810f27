"""Nested state in files, which are checked when they are read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_atari_dqn.checkpoints.files import (
    LEFT_FREE,
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


def round_trip(state: Any) -> Any:
    document, arrays = encode(state)
    return decode(unpack_json(pack_json(document)), unpack_arrays(pack_arrays(arrays)))


def test_state_comes_back_as_it_was() -> None:
    state: dict[str, Any] = {
        "numbers": [1, -(2**127), 0.1, float("inf"), True, None, "text"],
        "numpy numbers": (np.float32(0.1), np.int64(3), np.bool_(True)),
        "bytes": b"\x00\xff",
        "arrays": {"float": np.array([0.1, np.nan]), "empty": np.zeros((0, 3), np.int32), "none": np.array(2.5, np.float32)},
        "generator": np.random.default_rng(0).bit_generator.state,
    }
    back = round_trip(state)
    assert back["numbers"] == state["numbers"]
    assert [type(value) for value in back["numbers"]] == [type(value) for value in state["numbers"]]
    assert back["numpy numbers"] == [float(np.float32(0.1)), 3, True]
    assert back["bytes"] == b"\x00\xff"
    assert back["generator"] == state["generator"]
    for name, array in back["arrays"].items():
        original = state["arrays"][name]
        assert (array.dtype, array.shape, array.tobytes()) == (original.dtype, original.shape, original.tobytes())
        array[...] = 0  # its own memory


def test_the_order_of_an_array_in_memory_is_kept() -> None:
    """Convolutions of the two orders differ in the last bit."""
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 6, 4), dtype=np.uint8).transpose(0, 3, 1, 2)
    back = round_trip({"last_obs": images})["last_obs"]
    assert np.array_equal(back, images)
    assert back.strides == images.strides


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$array": "x"}, np.array(["text"])])
def test_says_where_something_is_that_cannot_be_written(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^model/1: \w+ cannot be written to a checkpoint"):
        encode({"model": [1, value]})


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written = write_file(path, b"old")
    with pytest.raises(OSError, match="MB are free on the disk, and it needs"):
        write_file(path, _Huge())
    assert read_file(path, written) == b"old"
    with pytest.raises(OSError, match="No such file"):
        write_file(tmp_path / "nowhere" / "file", b"new")


class _Huge(bytes):
    """Content that does not fit on any disk."""

    def __len__(self) -> int:
        return 2**62 - LEFT_FREE


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written = write_file(path, b"content")
    path.write_bytes(b"cintent")
    with pytest.raises(BrokenFileError, match=r"file' is not what was written: its checksum differs"):
        read_file(path, written)
    os.truncate(path, 3)
    with pytest.raises(BrokenFileError, match=r"file' has 3 bytes, and 7 were written"):
        read_file(path, written)
    path.unlink()
    with pytest.raises(BrokenFileError, match=r"file' cannot be read: No such file"):
        read_file(path, written)
    for unpack in (unpack_arrays, unpack_json):
        with pytest.raises(BrokenFileError, match=r"^not a (safetensors|JSON) file"):
            unpack(b"no such file")
