"""What Python objects are made of, as nested state: attributes that are numbers, texts, arrays and the like.

Wrappers, environments and callbacks are of many classes, most of them not ours. What they remember is in their attributes; so
all attributes that state can say are read, and written again to an object that was made in the same way. Of the others it has
to be known that they are no state: that is for the caller to say.
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

#: NumPy's, by the names that their states have
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class UnknownStateError(ValueError):
    """An object with an attribute of which it is not known whether it is state."""


def is_plain(value: Any) -> bool:
    """
    :param value: anything
    :return: whether nested state can say it
    """
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple | collections.deque):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | bytes | np.generic)


def get_attributes(holder: object, is_no_state: Callable[[str, Any], bool]) -> dict[str, Any]:
    """
    :param holder: any object
    :param is_no_state: name and value of an attribute to whether it is none; asked where the value is not plain
    :return: its attributes
    :raises UnknownStateError: for an attribute of which that is not known, naming it
    """
    state: dict[str, Any] = {}
    for name, value in vars(holder).items():
        if is_plain(value):
            state[name] = {"value": _copy(value)}
        elif isinstance(value, np.random.Generator):
            state[name] = {"generator": value.bit_generator.state}
        elif isinstance(value, spaces.Space):
            if value._np_random is not None:
                state[name] = {"space": value.np_random.bit_generator.state}
        elif not is_no_state(name, value):
            raise UnknownStateError(f"{type(holder).__name__} has an attribute {name!r} of {type(value)}")
    return state


def set_attributes(holder: object, state: Mapping[str, Any]) -> None:
    """
    :param holder: an object made as the other one was
    :param state: what ``get_attributes`` gave for that
    """
    for name, saved in state.items():
        current = getattr(holder, name, None)
        if "generator" in saved:
            if not isinstance(current, np.random.Generator):
                kind = saved["generator"]["bit_generator"]
                if kind not in _BIT_GENERATORS:
                    raise ValueError(f"{kind!r} is not a generator of NumPy's; choose one of {', '.join(_BIT_GENERATORS)}")
                current = np.random.Generator(getattr(np.random, kind)())
                setattr(holder, name, current)
            current.bit_generator.state = saved["generator"]
        elif "space" in saved:
            assert isinstance(current, spaces.Space)
            current.np_random.bit_generator.state = saved["space"]
        else:
            setattr(holder, name, _as_before(saved["value"], current))


def _copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple | collections.deque):
        return [_copy(item) for item in value]
    return value


def _as_before(value: Any, current: Any) -> Any:
    """
    :param value: an attribute's value from a file, in which there are lists alone
    :param current: its value now, which tells its class
    :return: the value
    """
    if isinstance(current, np.ndarray) and isinstance(value, np.ndarray):
        if current.shape == value.shape and current.dtype == value.dtype and current.flags.writeable:
            current[...] = value  # others may have the same array
            return current
        return value
    if isinstance(value, list) and isinstance(current, tuple):
        return tuple(value)
    if isinstance(value, list) and isinstance(current, collections.deque):
        return collections.deque(value, maxlen=current.maxlen)
    if isinstance(value, dict) and isinstance(current, collections.OrderedDict):
        return collections.OrderedDict((key, _as_before(item, current.get(key))) for key, item in value.items())
    return value
