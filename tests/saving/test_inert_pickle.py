"""Pickles that would run something, read without it."""

import collections
import functools
import os
import pickle
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from sb3_atari_dqn.saving.inert_pickle import Record, decode
from tests.saving.models import Touch


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_as_it_was(protocol: int) -> None:
    data = {"a": [1, 2.5, None, True, "text"], "b": (1, (2, 3)), "c": {"d": -(10**30)}}
    assert decode(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_described_not_made(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    record = decode(pickle.dumps(Touch(marker), protocol))
    assert isinstance(record, Record)
    assert record.name.endswith(".system")
    assert record.arguments == (f"touch {marker}",)
    assert not marker.exists()


def test_results_of_calls_are_not_called_either(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    # getattr(__import__("os"), "system")("touch ..."), by hand
    program = (
        b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'touch "
        + str(marker).encode()
        + b"'\ntR."
    )
    assert isinstance(decode(program), Record)
    assert not marker.exists()
    pickle.loads(program)
    assert marker.exists(), "the program works where it is run"


def test_items_and_state_are_kept() -> None:
    record = decode(pickle.dumps(collections.OrderedDict(a=1, b=[2])))
    assert (record.name, record.items) == ("collections.OrderedDict", [("a", 1), ("b", [2])])
    record = decode(pickle.dumps(collections.deque([1, 2], maxlen=3)))
    assert (record.arguments, record.items) == (((), 3), [1, 2])
    record = decode(pickle.dumps(np.random.default_rng(0)))
    assert record.arguments[0].state[0]["bit_generator"] == "PCG64"


def test_functions_by_value_are_no_functions() -> None:
    for function in (lambda: os.getpid(), functools.partial(print, 1)):
        record = decode(cloudpickle.dumps(function))
        assert isinstance(record, Record)
        assert record.name.startswith(("cloudpickle.", "functools.partial"))


@pytest.mark.parametrize("program", [b"", b"\x80\x05", b"cos\nsystem\n(S'ls'\nt", b"Pabc\n.", b"\x80\x05\x97.", b"\x82\x01."])
def test_damaged_ones(program: bytes) -> None:
    with pytest.raises(ValueError, match="it holds a pickle that cannot be read"):
        decode(program)
