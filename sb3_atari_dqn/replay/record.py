"""A replay memory as checkpoints see it: what was stored for good, numbered, and a small rest.

What is numbered never changes, so it is written to a file once: see ``Store``. The rest is written with each checkpoint.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from sb3_atari_dqn.replay.buffer import FrameReplayBuffer

#: Stable-Baselines3's memories whose rows are all that they hold
_PLAIN = (ReplayBuffer, NStepReplayBuffer, DictReplayBuffer)


class Store(Protocol):
    """
    Things that are stored for good and numbered as they come, the first with 1. They may be forgotten later.

    ``replay.frames.Frames`` is one, and documents the methods.
    """

    @property
    def n_stored(self) -> int:
        """
        :return: the last number that was given
        """

    def numbers(self) -> np.ndarray:
        """
        :return: numbers of what is needed still, int64, in rising order
        """

    def read_stored(self, first: int, last: int) -> dict[str, np.ndarray]:
        """
        :param first: number of the first that is asked for
        :param last: number of the last one
        :return: those of them that are needed still, as arrays for a file
        """

    def write_stored(self, stored: dict[str, np.ndarray]) -> None:
        """
        :param stored: what ``read_stored`` gave
        """

    def check_complete(self) -> None:
        """
        :raises ValueError: if something that is needed was not written
        """


class RingRows:
    """
    The rows of arrays that are written round and round: row number ``n`` is at position ``(n - 1) % size``.

    :param arrays: by name, each (size, ...)
    :param n_rows: how many have been written so far
    :param n_lost: rows of a full ring that are not whole any more, the oldest ones
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], n_rows: int, n_lost: int = 0) -> None:
        self._arrays = arrays
        self._size = len(next(iter(arrays.values())))
        self._n_whole = self._size - n_lost
        self._written = np.ones(self._size, dtype=bool)  # after set_state: which rows are there again
        self.n_rows = n_rows

    @property
    def n_stored(self) -> int:
        return self.n_rows

    @property
    def position(self) -> int:
        """
        :return: where the next row goes
        """
        return self.n_rows % self._size

    @property
    def is_full(self) -> bool:
        """
        :return: whether the next row takes the place of an older one
        """
        return self.n_rows >= self._size

    def numbers(self) -> np.ndarray:
        return np.arange(max(self.n_rows - self._n_whole, 0) + 1, self.n_rows + 1)

    def read_stored(self, first: int, last: int) -> dict[str, np.ndarray]:
        # the last row of before is read once more: a cut may have marked it
        numbers = np.arange(max(first - 1, self.n_rows - self._n_whole + 1, 1), last + 1)
        return {"numbers": numbers, **{name: array[(numbers - 1) % self._size] for name, array in self._arrays.items()}}

    def write_stored(self, stored: dict[str, np.ndarray]) -> None:
        needed = (stored["numbers"] > self.n_rows - self._n_whole) & (stored["numbers"] <= self.n_rows)
        positions = (stored["numbers"][needed] - 1) % self._size
        for name, array in self._arrays.items():
            array[positions] = stored[name][needed]
        self._written[positions] = True

    def set_state(self, n_rows: int) -> None:
        """
        :param n_rows: how many have been written so far
        """
        self.n_rows = n_rows
        self._written = np.zeros(self._size, dtype=bool)

    def check_complete(self) -> None:
        n_missing = min(self.n_rows, self._n_whole) - int(self._written.sum())
        if n_missing:
            raise ValueError(f"{n_missing} rows of the replay memory are missing")


class _Counted:
    """
    A method of a replay buffer that tells when it has been called, whoever calls it: a callback may add transitions, too. It
    stands in for the method on the buffer itself.

    :param replay_buffer: the buffer
    :param name: of the method
    :param tell: called after it
    """

    def __init__(self, replay_buffer: ReplayBuffer, name: str, tell: Callable[[], None]) -> None:
        self._replay_buffer = replay_buffer
        self._name = name
        self._tell = tell
        own: Callable[..., Any] | None = vars(replay_buffer).get(name)  # that a user has set
        self._own: Callable[..., Any] | None = own._own if isinstance(own, _Counted) else own
        vars(replay_buffer)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self._own or functools.partial(getattr(type(self._replay_buffer), self._name), self._replay_buffer)
        result = method(*args, **kwargs)
        self._tell()
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._replay_buffer, self._name)  # a buffer that is pickled or copied has the plain method


class BufferRecord:
    """
    A replay buffer of Stable-Baselines3's kind.

    :param replay_buffer: the buffer; rows that are added from now on are counted
    :raises ValueError: for a class of which it is not known what it holds
    """

    def __init__(self, replay_buffer: ReplayBuffer) -> None:
        self.replay_buffer = replay_buffer
        names = ["actions", "rewards", "dones", "timeouts"]
        if isinstance(replay_buffer, FrameReplayBuffer):
            names.append("_frame_ids")
        elif type(replay_buffer) in _PLAIN:
            names += ["observations"] if replay_buffer.optimize_memory_usage else ["observations", "next_observations"]
        else:
            raise ValueError(
                f"{type(replay_buffer).__name__} cannot be written to checkpoints: it is not known what it holds; "
                f"those that can be are FrameReplayBuffer, {', '.join(known.__name__ for known in _PLAIN)}"
            )
        arrays: dict[str, np.ndarray] = {}
        for name in names:
            array = getattr(replay_buffer, name)
            arrays |= {f"{name}.{key}": part for key, part in array.items()} if isinstance(array, dict) else {name: array}
        n_rows = replay_buffer.pos + replay_buffer.buffer_size * replay_buffer.full
        # where next observations have no place of their own, the last one takes that of the oldest observation
        self.rows = RingRows(arrays, n_rows, n_lost=int(replay_buffer.optimize_memory_usage))
        self._is_current = True  # not after a reset: numbers begin anew
        self._counted = [_Counted(replay_buffer, "add", self._count_row), _Counted(replay_buffer, "reset", self._end)]

    def is_of(self, replay_buffer: ReplayBuffer) -> bool:
        """
        :param replay_buffer: any
        :return: whether this is its record, and rows are still counted
        """
        is_counted = [vars(replay_buffer).get(name) for name in ("add", "reset")] == self._counted
        return self.replay_buffer is replay_buffer and self._is_current and is_counted

    def _count_row(self) -> None:
        self.rows.n_rows += 1

    def _end(self) -> None:
        self._is_current = False

    def cut(self) -> None:
        """Let nothing that is added later follow what is there, as after a time-out: the environments begin anew."""
        buffer = self.replay_buffer
        if not buffer.size():
            return
        if buffer.optimize_memory_usage:  # the new games' first observation goes where the last next one is: it is lost
            flags = [buffer.dones]
        elif buffer.handle_timeout_termination or isinstance(buffer, FrameReplayBuffer | NStepReplayBuffer):
            flags = [buffer.dones, buffer.timeouts]
        else:  # each row is whole by itself
            flags = []
        running = buffer.dones[buffer.pos - 1] == 0
        for flag in flags:
            flag[buffer.pos - 1, running] = 1

    def stores(self) -> dict[str, Store]:
        """
        :return: what is numbered, by name
        """
        stores: dict[str, Store] = {"rows": self.rows}
        if isinstance(self.replay_buffer, FrameReplayBuffer):
            stores["frames"] = self.replay_buffer.frames
        return stores

    def get_state(self) -> dict[str, Any]:
        """
        :return: what is not numbered
        """
        buffer = self.replay_buffer
        state: dict[str, Any] = {"class": type(buffer).__name__, "size": [buffer.buffer_size, buffer.n_envs]}
        state["n_rows"] = self.rows.n_rows
        if isinstance(buffer, FrameReplayBuffer):
            state |= buffer.get_state()
        elif buffer.optimize_memory_usage:
            state["next_observations"] = buffer.observations[buffer.pos].copy()  # of the last row
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what ``get_state`` gave; the stores are to be filled after this
        :raises ValueError: if it is of another buffer
        """
        buffer = self.replay_buffer
        for name, value in (("class", type(buffer).__name__), ("size", [buffer.buffer_size, buffer.n_envs])):
            if state[name] != value:
                raise ValueError(f"the replay memory has {name} {value}, and that of the checkpoint {state[name]}")
        self.rows.set_state(state["n_rows"])
        buffer.pos, buffer.full = self.rows.position, self.rows.is_full
        if isinstance(buffer, FrameReplayBuffer):
            buffer.set_state(state)
        elif buffer.optimize_memory_usage:
            buffer.observations[buffer.pos] = state["next_observations"]
