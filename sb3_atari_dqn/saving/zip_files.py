"""Stable-Baselines3's zip files, loaded without unpickling.

Such a file holds JSON whose values are numbers and text, or pickles where JSON has nothing for them, and weights, which
PyTorch reads by an allow-list of its own (``weights_only=True``). The pickles are read by ``inert_pickle``, which runs none of
them, and made into objects here: spaces, classes that may be named (``trust``), schedules, counters. Whatever else is in them
is refused.
"""

import base64
import binascii
import io
import json
import math
import re
import warnings
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import GymEnv, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_atari_dqn.checks import keyword_names
from sb3_atari_dqn.saving.inert_pickle import Record, decode
from sb3_atari_dqn.saving.trust import HOW_TO_TRUST, UntrustedFileError, check_policy_names, find_class
from sb3_atari_dqn.saving.values import ToZero

__all__ = ["best_algorithm", "load_zip", "read_data", "safe_values"]

SelfAlgorithm = TypeVar("SelfAlgorithm", bound=BaseAlgorithm)

PICKLED = ":serialized:"

#: values that are not read, but replaced: what was going on when the model was saved, and what its settings make anew
_NOT_READ = (
    "_last_obs",
    "_last_original_obs",
    "_last_episode_starts",
    "_last_dones",
    "_last_lstm_states",
    "action_noise",
    "replay_buffer",
    "replay_memory",
    "actor_batch_norm_stats",
    "actor_batch_norm_stats_target",
    "batch_norm_stats",
    "batch_norm_stats_target",
    "critic_batch_norm_stats",
    "critic_batch_norm_stats_target",
    "ep_info_buffer",
    "ep_success_buffer",
    "exploration_schedule",
    "lr_schedule",
)

#: values that say where to write, or what to import
_FORGOTTEN = ("env", "run_folder", "tensorboard_log", "_logged_in")

#: values that may be functions, which are not read: playing needs none
_MAY_BE_FUNCTIONS = ("clip_range", "clip_range_vf", "learning_rate")

#: packages whose objects may stand where nothing is read
_KNOWN_PACKAGES = (
    "cloudpickle",
    "collections",
    "numpy",
    "rl_zoo3",
    "sb3_atari_dqn",
    "sb3_contrib",
    "stable_baselines3",
    "torch",
)

_SPACES = "gymnasium.spaces."
_FLOAT_SCHEDULE = "stable_baselines3.common.utils.FloatSchedule"


def load_zip(
    path: Path,
    algorithm: type[SelfAlgorithm],
    env: GymEnv | None = None,
    device: th.device | str = "auto",
    trust: bool = False,
    **changes: Any,
) -> SelfAlgorithm:
    """
    :param path: zip file that an algorithm's ``save`` wrote
    :param algorithm: the algorithm
    :param env: environment to go on with; none is needed to play
    :param device: where the networks live
    :param trust: load it as Stable-Baselines3 does, which unpickles, and so runs, what is in it
    :param changes: arguments of the constructor to change
    :return: the model. Without ``trust`` it does not remember its last observation and episodes, or where it wrote logs.
    :raises UntrustedFileError: for a file that names something that a model does not need, if it is not trusted
    :raises ValueError: for a file that is damaged or not a model
    """
    content = path.read_bytes()  # once: what is loaded is what was looked at
    replaced = None if trust else safe_values(path, read_data(path, content))
    return algorithm.load(io.BytesIO(content), env=env, device=device, custom_objects=replaced, **changes)


def read_data(path: Path, content: bytes | None = None) -> dict[str, Any]:
    """
    :param path: zip file of a model
    :param content: of it, if that has been read
    :return: its values, pickles as text
    :raises ValueError: if it is not such a file
    """
    try:
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            data = json.loads(archive.read("data").decode())  # as Stable-Baselines3 reads it
        if not isinstance(data, dict) or "policy_class" not in data:
            raise KeyError("policy_class")
    except (zipfile.BadZipFile, KeyError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a model that Stable-Baselines3 saved: {error!r}") from error
    return data


def best_algorithm(data: Mapping[str, Any], algorithms: Mapping[str, type[BaseAlgorithm]]) -> list[str]:
    """
    :param data: a model's values
    :param algorithms: what it may be of, by name
    :return: names of those with its policy, of several the one whose arguments it has; more than one if that is not clear
    """
    module = data["policy_class"].get("__module__") if isinstance(data["policy_class"], dict) else None
    fits = {}
    for name, algorithm in algorithms.items():
        if any(policy.__module__ == module for policy in algorithm.policy_aliases.values()):
            names = keyword_names(algorithm)
            fits[name] = len(names & data.keys()) - len(names - data.keys())
    return [name for name in fits if fits[name] == max(fits.values())]


def safe_values(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param path: of the file, for messages
    :param data: its values
    :return: those that Stable-Baselines3 would unpickle or that would write somewhere, read in another way or replaced
    :raises UntrustedFileError: if one names something that is not allowed
    :raises ValueError: if one is damaged
    """
    replaced: dict[str, Any] = {}
    for name, value in data.items():
        try:
            if isinstance(value, dict) and PICKLED in value:
                replaced[name] = _read(name, decode(base64.b64decode(value[PICKLED], validate=True)))
            elif name in _FORGOTTEN:
                replaced[name] = None
        except UntrustedFileError as error:
            raise UntrustedFileError(f"{str(path)!r} is refused for {name!r}: {error}") from None
        except (binascii.Error, TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} cannot be read: {name!r}: {error}") from error
    try:
        policy_kwargs = replaced.get("policy_kwargs", data.get("policy_kwargs"))
        if isinstance(policy_kwargs, dict):
            check_policy_names(policy_kwargs)
    except UntrustedFileError as error:
        raise UntrustedFileError(f"{str(path)!r} is refused for 'policy_kwargs': {error}") from None
    return replaced


def _read(name: str, value: Any) -> Any:
    """
    :param name: of a value
    :param value: what its pickle describes
    :return: the value, or what stands for it
    """
    outermost = value.name if _is_record(value) else ""
    if name in _NOT_READ or name in _FORGOTTEN:
        if outermost and outermost.partition(".")[0] not in _KNOWN_PACKAGES:
            raise _refusal(outermost)
        return None
    if name in _MAY_BE_FUNCTIONS and _is_function(value):
        if name == "learning_rate":
            warnings.warn(
                "The model's learning_rate is a function and was not read: it plays as it did, and would learn at rate 0",
                stacklevel=5,
            )
        return 0.0
    return revive(value)


def _is_function(value: Any) -> bool:
    """Whether it is a function by value, maybe as what Stable-Baselines3 puts around a schedule."""
    if isinstance(value, Record) and value.name == _FLOAT_SCHEDULE and isinstance(value.state, dict):
        value = value.state.get("value_schedule")
    return isinstance(value, Record) and value.name.startswith("cloudpickle.")


def _is_record(value: Any) -> bool:
    return isinstance(value, Record) or (isinstance(value, type) and issubclass(value, Record))


def _refusal(name: str) -> UntrustedFileError:
    return UntrustedFileError(
        f"it holds a pickle that names {name!r}, which no model of Stable-Baselines3, sb3-contrib or this package needs, so "
        f"loading it could run any code. {HOW_TO_TRUST}"
    )


def revive(value: Any) -> Any:
    """
    :param value: what ``inert_pickle.decode`` gave
    :return: the object that it describes
    :raises UntrustedFileError: if it names something that is not allowed
    :raises ValueError: if it makes no sense
    """
    return _Reviver().revive(value)


class _Reviver:
    """Makes objects of descriptions. One that holds itself is refused."""

    def __init__(self) -> None:
        self._around: list[int] = []

    def revive(self, value: Any) -> Any:
        """
        :param value: see above
        :return: see above
        """
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if id(value) in self._around:
            raise ValueError("it holds a pickle of something that contains itself")
        self._around.append(id(value))
        try:
            return self._make(value)
        except UntrustedFileError:
            raise
        except (ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"it holds a pickle that makes no sense: {error!r}") from error
        finally:
            self._around.pop()

    def _make(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.revive(key): self.revive(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(self.revive(item) for item in value)
        if isinstance(value, bytearray):
            return bytes(value)
        if isinstance(value, Record):
            name = _plain(value.name)
            if name not in _MAKERS:
                raise _refusal(value.name)
            return _MAKERS[name](self, value)
        if _is_record(value):
            return _find(value.name)
        raise ValueError(f"it holds a pickle of {type(value).__name__}")


def _plain(name: str) -> str:
    """A name as it is today: modules of Python, NumPy and Gym have moved."""
    name = re.sub(r"^__builtin__\.", "builtins.", name)
    name = re.sub(r"^numpy\._core\.", "numpy.core.", name)
    return re.sub(r"^gym\.spaces\.", _SPACES, name)


def _find(name: str) -> type:
    try:
        return find_class(name)
    except UntrustedFileError:
        raise _refusal(name) from None


def _state(reviver: _Reviver, record: Record, names: Iterable[str]) -> dict[str, Any]:
    """
    :param names: of attributes
    :return: their values, of those that there are; others are not looked at
    """
    state = dict(record.state)
    return {name: reviver.revive(state[name]) for name in names if name in state}


def _box(reviver: _Reviver, record: Record) -> spaces.Box:
    state = _state(reviver, record, ("low", "high"))
    return spaces.Box(state["low"], state["high"], dtype=state["low"].dtype.type)


def _discrete(reviver: _Reviver, record: Record) -> spaces.Discrete:
    state = _state(reviver, record, ("n", "start"))
    return spaces.Discrete(int(state["n"]), start=int(state.get("start", 0)))


def _dtype(reviver: _Reviver, record: Record) -> np.dtype:
    """Of its description, name and byte order alone count: the rest could tell NumPy that bytes are addresses."""
    code = record.arguments[0]
    if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
        raise ValueError(f"{code!r} is not a type of numbers")
    return np.dtype(f">{code}" if record.state and record.state[1] == ">" else code)


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(data, bytes) or not isinstance(dtype, np.dtype) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError("it holds a pickle of an array whose size is not that of its data")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _array(reviver: _Reviver, record: Record) -> np.ndarray:
    _, shape, dtype, is_fortran, data = record.state
    return _from_bytes(reviver.revive(data), reviver.revive(dtype), reviver.revive(shape), "F" if is_fortran else "C")


def _array_of_buffer(reviver: _Reviver, record: Record) -> np.ndarray:
    return _from_bytes(*(reviver.revive(argument) for argument in record.arguments))


def _scalar(reviver: _Reviver, record: Record) -> np.generic:
    dtype, data = (reviver.revive(argument) for argument in record.arguments)
    return _from_bytes(data, dtype, (1,), "C")[0]


def _generator(reviver: _Reviver, record: Record) -> np.random.Generator:
    """NumPy's default generator where it stood; others are not among what a model holds."""
    state = reviver.revive(record.arguments[0].state[0])
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = state
    return generator


def _deque(reviver: _Reviver, record: Record) -> "deque[Any]":
    items, length = (*record.arguments, None)[:2] if record.arguments else ((), None)
    return deque([*reviver.revive(items), *reviver.revive(record.items)], maxlen=length)


def _ordered_dict(reviver: _Reviver, record: Record) -> "OrderedDict[Any, Any]":
    return OrderedDict(reviver.revive([*(record.arguments or [[]])[0], *record.items]))


def _train_freq(reviver: _Reviver, record: Record) -> TrainFreq:
    frequency, unit = (reviver.revive(argument) for argument in record.arguments)
    return TrainFreq(frequency, unit)


def _running_mean_std(reviver: _Reviver, record: Record) -> RunningMeanStd:
    state = _state(reviver, record, ("mean", "var", "count"))
    averages = RunningMeanStd()
    averages.mean, averages.var = (np.array(state[name], np.float64) for name in ("mean", "var"))
    averages.count = float(state["count"])
    if averages.mean.shape != averages.var.shape:
        raise ValueError(f"it holds means of shape {averages.mean.shape} and variances of shape {averages.var.shape}")
    return averages


def _bytes(reviver: _Reviver, record: Record) -> bytes:
    """How older pickles have bytes: as text that is to be encoded, or none."""
    text, encoding = record.arguments or ("", "latin1")
    if encoding != "latin1":
        raise ValueError(f"{encoding!r} is not how a pickle encodes bytes")
    return text.encode("latin1")


_MAKERS: dict[str, Callable[[_Reviver, Record], Any]] = {
    _SPACES + "box.Box": _box,
    _SPACES + "discrete.Discrete": _discrete,
    _SPACES + "multi_discrete.MultiDiscrete": lambda reviver, record: spaces.MultiDiscrete(
        **_state(reviver, record, ("nvec", "start"))
    ),
    _SPACES + "multi_binary.MultiBinary": lambda reviver, record: spaces.MultiBinary(**_state(reviver, record, ("n",))),
    _SPACES + "dict.Dict": lambda reviver, record: spaces.Dict(
        OrderedDict(_state(reviver, record, ("spaces",))["spaces"].items())
    ),
    "_codecs.encode": _bytes,
    "builtins.bytes": _bytes,
    "builtins.set": lambda reviver, record: set(reviver.revive(record.arguments[0])),
    "collections.OrderedDict": _ordered_dict,
    "collections.deque": _deque,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _dtype,
    "numpy.random._pickle.__generator_ctor": _generator,
    "rl_zoo3.utils.SimpleLinearSchedule": lambda reviver, record: ToZero(**_state(reviver, record, ("initial_value",))),
    "sb3_atari_dqn.saving.values.ToZero": lambda reviver, record: ToZero(**_state(reviver, record, ("initial_value",))),
    "stable_baselines3.common.running_mean_std.RunningMeanStd": _running_mean_std,
    "stable_baselines3.common.type_aliases.TrainFreq": _train_freq,
    "stable_baselines3.common.type_aliases.TrainFrequencyUnit": lambda _, record: TrainFrequencyUnit(*record.arguments),
    "stable_baselines3.common.utils.ConstantSchedule": lambda reviver, record: ConstantSchedule(
        **_state(reviver, record, ("val",))
    ),
    _FLOAT_SCHEDULE: lambda reviver, record: FloatSchedule(**_state(reviver, record, ("value_schedule",))),
    "stable_baselines3.common.utils.LinearSchedule": lambda reviver, record: LinearSchedule(
        **_state(reviver, record, ("start", "end", "end_fraction"))
    ),
}
