"""Settings of a model as JSON, and back.

Numbers, text, lists and dictionaries are themselves; anything else is a dictionary with the key ``"$"`` that says what it is.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_atari_dqn.saving.trust import class_name, find_class

__all__ = ["ToZero", "from_json", "to_json"]

KIND = "$"

#: RL Zoo's linear schedule, which this package does not import here
_ZOO_LINEAR = "rl_zoo3.utils.SimpleLinearSchedule"

_NUMBERS = re.compile(r"(bool|u?int(8|16|32|64)|float(16|32|64))")


class ToZero:
    """
    RL Zoo's schedule ``"lin_..."``: from a value to zero.

    :param initial_value: the value
    """

    def __init__(self, initial_value: float) -> None:
        self.initial_value = initial_value

    def __call__(self, progress_remaining: float) -> float:
        """
        :param progress_remaining: from 1 to 0
        :return: the value then
        """
        return progress_remaining * self.initial_value


def _float(value: float) -> float | str:
    """JSON has no infinity; text in its place is read by ``float``."""
    return value if math.isfinite(value) else str(value)


def _array(array: np.ndarray) -> dict[str, Any]:
    """An array, which is one number if all are the same: bounds of pixels are."""
    flat = array.ravel()
    values = flat[:1] if len(flat) and (flat == flat[0]).all() else flat
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "values": [_float(value) if isinstance(value, float) else value for value in values.tolist()],
    }


def _to_array(data: Mapping[str, Any]) -> np.ndarray:
    values = np.array([float(value) if isinstance(value, str) else value for value in data["values"]], _dtype(data["dtype"]))
    return np.broadcast_to(values, math.prod(data["shape"])).reshape(data["shape"]).copy()


def _dtype(name: str) -> np.dtype:
    if not _NUMBERS.fullmatch(name):
        raise ValueError(f"{name!r} is not a type of numbers")
    return np.dtype(name)


def to_json(value: Any) -> Any:
    """
    :param value: a setting of a model: a number, text, a list, tuple or dictionary of such, a class, a space, or a schedule
    :return: the same as JSON
    :raises ValueError: for something else
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {KIND: "float", "value": str(value)}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        if KIND in value or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{value!r} cannot be written as JSON: keys must be text, and none of them {KIND!r}")
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, TrainFreq):
        return to_json((value.frequency, value.unit.value))  # which the constructor takes
    if isinstance(value, tuple):
        return {KIND: "tuple", "items": [to_json(item) for item in value]}
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, type):
        return {KIND: "class", "name": class_name(value)}
    if isinstance(value, spaces.Space):
        return _space_to_json(value)
    return _schedule_to_json(value)


def _space_to_json(space: spaces.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Box):
        return {KIND: "Box", "low": _array(space.low), "high": _array(space.high)}
    if isinstance(space, spaces.Discrete):
        return {KIND: "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {KIND: "MultiDiscrete", "nvec": _array(space.nvec)}
    if isinstance(space, spaces.MultiBinary):
        return {KIND: "MultiBinary", "n": list(space.shape)}
    if isinstance(space, spaces.Dict):
        return {KIND: "Dict", "spaces": [[key, _space_to_json(inner)] for key, inner in space.spaces.items()]}
    raise ValueError(f"{space} cannot be written as JSON: spaces can be Box, Discrete, MultiDiscrete, MultiBinary or Dict")


def _schedule_to_json(value: Any) -> dict[str, Any]:
    if isinstance(value, FloatSchedule):
        return {KIND: "schedule of floats", "schedule": _schedule_to_json(value.value_schedule)}
    if isinstance(value, ConstantSchedule):
        return {KIND: "constant schedule", "value": to_json(value.val)}
    if isinstance(value, LinearSchedule):
        numbers = {name: to_json(getattr(value, name)) for name in ("start", "end", "end_fraction")}
        return {KIND: "linear schedule", **numbers}
    if isinstance(value, ToZero) or class_name(type(value)) == _ZOO_LINEAR:
        return {KIND: "schedule to zero", "start": to_json(value.initial_value)}
    raise ValueError(
        f"{value!r} of type {type(value).__name__} cannot be written as JSON: settings can be numbers, text, lists, "
        "dictionaries, classes, spaces and Stable-Baselines3's schedules, not functions"
    )


def from_json(data: Any, trust: bool = False) -> Any:
    """
    :param data: what ``to_json`` made
    :param trust: whether any class may be named
    :return: the setting
    :raises UntrustedFileError: for a class that may not be named
    :raises ValueError: for data that ``to_json`` does not make
    """
    if isinstance(data, list):
        return [from_json(item, trust) for item in data]
    if not isinstance(data, dict):
        return data
    if KIND not in data:
        return {key: from_json(item, trust) for key, item in data.items()}
    readers: dict[str, Callable[[], Any]] = {
        "float": lambda: float(data["value"]),
        "tuple": lambda: tuple(from_json(item, trust) for item in data["items"]),
        "class": lambda: find_class(data["name"], trust),
        "Box": lambda: _box(_to_array(data["low"]), _to_array(data["high"])),
        "Discrete": lambda: spaces.Discrete(data["n"], start=data["start"]),
        "MultiDiscrete": lambda: spaces.MultiDiscrete(_to_array(data["nvec"])),
        "MultiBinary": lambda: spaces.MultiBinary(data["n"]),
        "Dict": lambda: spaces.Dict(OrderedDict((key, from_json(inner)) for key, inner in data["spaces"])),
        "schedule of floats": lambda: FloatSchedule(from_json(data["schedule"])),
        "constant schedule": lambda: ConstantSchedule(data["value"]),
        "linear schedule": lambda: LinearSchedule(data["start"], data["end"], data["end_fraction"]),
        "schedule to zero": lambda: ToZero(data["start"]),
    }
    kind = data[KIND]
    if kind not in readers:
        raise ValueError(f"{kind!r} is not known; choose one of {', '.join(readers)}")
    try:
        return readers[kind]()
    except (KeyError, TypeError, AssertionError, AttributeError) as error:
        raise ValueError(f"{data!r} is not a {kind}: {error!r}") from error


def _box(low: np.ndarray, high: np.ndarray) -> spaces.Box:
    return spaces.Box(low, high, dtype=low.dtype.type)
