"""Checks of arguments, for all rooms: an error names the argument, its value, and what is allowed."""

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

_HANDED_ON = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def keyword_names(function_or_class: Callable[..., Any]) -> set[str]:
    """
    :param function_or_class: a function, or a class whose constructor is meant
    :return: names of its parameters; where a constructor hands ``**kwargs`` on, those of the next base class too
    """
    functions = [function_or_class]
    if isinstance(function_or_class, type):
        functions = [vars(base)["__init__"] for base in function_or_class.__mro__ if "__init__" in vars(base)]
    names: set[str] = set()
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        names |= {parameter.name for parameter in parameters if parameter.kind not in _HANDED_ON}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names - {"self"}


def check_names(owner: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """
    :param owner: what takes the names
    :param names: what somebody wants to give
    :param allowed: what there is
    :raises TypeError: if one of them does not exist, naming the nearest one that does
    """
    allowed = set(allowed)
    for name in names:
        if name not in allowed:
            nearest = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0)
            raise TypeError(
                f"{owner} has no argument {name!r}; " + (f"did you mean {nearest[0]!r}?" if nearest else "it has none")
            )


def find_by_name(name: str, short_names: str = "") -> Any:
    """
    :param name: ``"package.module.Class"``, or ``"Class"``
    :param short_names: the module that this one is of; none if there are no short names
    :return: what has this name, None if there is nothing
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module or short_names), attribute)
    except (ValueError, ImportError, AttributeError):
        return None


def check_number(settings: Mapping[str, Any], name: str, minimum: float, maximum: float = float("inf")) -> None:
    """
    :param settings: arguments by name, those that are given
    :param name: one of them
    :param minimum: the least that is allowed
    :param maximum: the most that is allowed
    :raises ValueError: for anything else than a finite number in this range
    """
    value = settings.get(name, minimum)
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not minimum <= float(value) <= maximum:
        allowed = f"number in [{minimum:g}, {maximum:g}]" if maximum < float("inf") else f"number of at least {minimum:g}"
        raise ValueError(f"{name}={value!r} must be a {'finite number' if minimum == -math.inf else allowed}")


def check_whole_number(settings: Mapping[str, Any], name: str, minimum: int, unit: str) -> None:
    """
    :param settings: arguments by name, those that are given
    :param name: one of them
    :param minimum: the least that is allowed
    :param unit: what is counted
    :raises ValueError: for anything else than a whole number of at least that
    """
    value = settings.get(name, minimum)
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name}={value!r} must be a whole number of {unit}, at least {minimum}")


def check_switch(settings: Mapping[str, Any], name: str) -> None:
    """
    :param settings: arguments by name, those that are given
    :param name: one of them
    :raises ValueError: for anything else than True or False
    """
    if not isinstance(settings.get(name, False), bool | np.bool_):
        raise ValueError(f"{name}={settings[name]!r} must be True or False")
