"""The replay memory of tutorial 16: states with the Q-values that were estimated there, swept backwards.

Conventions: arrays are (n_envs, n_steps), each row the consecutive steps of one environment. Every state is stored once;
what follows it is the next column, unless the row is cut there.

Source: Hvass Pedersen 2017, TensorFlow tutorial 16 (https://github.com/Hvass-Labs/TensorFlow-Tutorials).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sb3_atari_dqn.replay.frames import Frames, as_pixels, available_memory, bytes_of_frame, make_frames

#: arrays of a memory, (n_envs, n_steps, ...)
_ARRAYS = ("q_values", "actions", "rewards", "end_lives", "end_games", "cuts", "errors", "_frame_ids")


class Sweep(NamedTuple):
    """
    What a backward sweep gives.

    :param q_values: updated, float32 (n_envs, n_steps, n_actions)
    :param errors: of the estimates, float32 (n_envs, n_steps)
    """

    q_values: np.ndarray
    errors: np.ndarray


def sweep_backwards(
    q_values: np.ndarray, actions: np.ndarray, rewards: np.ndarray, ends: np.ndarray, cuts: np.ndarray, gamma: float
) -> Sweep:
    """
    Carry rewards to earlier states. From the last state but one to the first, the value of the action taken becomes

        ``reward`` where a life or the game ended, else ``reward + gamma * max_a Q(next state, a)``

    with the next state's values as this sweep has already updated them. Where a row is cut, nothing is known of the next
    state: the estimate stays, as that of the row's last state does. The error is the absolute change.

    Only the value of the action taken changes, so the maximum over all others is computed for all states at once, and one
    number is carried from state to state.

    :param q_values: as estimated, float32 (n_envs, n_steps, n_actions)
    :param actions: taken, integers (n_envs, n_steps)
    :param rewards: earned, clipped or not, float (n_envs, n_steps)
    :param ends: where a life or the game ended with the step, bool (n_envs, n_steps)
    :param cuts: where the next column is not what followed, bool (n_envs, n_steps)
    :param gamma: discount factor of one step
    :return: new Q-values and errors
    """
    n_envs, n_steps, n_actions = q_values.shape
    assert actions.shape == rewards.shape == ends.shape == cuts.shape == (n_envs, n_steps), (actions.shape, q_values.shape)
    flat = q_values.reshape(-1, n_actions)
    rows = np.arange(len(flat))
    taken = actions.reshape(-1)
    estimates = flat[rows, taken]
    others = flat.copy()
    others[rows, taken] = -np.inf
    is_cut = cuts & ~ends  # nothing follows an end anyway
    is_cut[:, -1:] = True
    discounts = np.where(ends, 0.0, gamma)

    values = estimates.tolist()
    best_next = 0.0
    steps = zip(
        range(len(flat) - 1, -1, -1),
        rewards.ravel()[::-1].tolist(),
        discounts.ravel()[::-1].tolist(),
        is_cut.ravel()[::-1].tolist(),
        others.max(axis=1)[::-1].tolist(),
        strict=True,
    )
    for index, reward, discount, cut, best_other in steps:
        value = values[index]
        if not cut:
            value = values[index] = reward + discount * best_next
        best_next = value if value > best_other else best_other

    new = flat.copy()
    new[rows, taken] = values
    errors = np.abs(new[rows, taken] - estimates)
    return Sweep(new.reshape(q_values.shape), errors.reshape(n_envs, n_steps))


def balanced_counts(n_large: int, n_small: int, batch_size: int, least_share: float) -> tuple[int, int]:
    """
    How a batch is divided between states with large and small errors: to those with large ones ``least_share`` or their own
    share, whatever is larger, rounded up. Where one kind has too few states, the other fills up.

    :param n_large: states with large errors
    :param n_small: all others
    :param batch_size: at most as many as there are states
    :param least_share: in [0, 1]
    :return: how many of each
    """
    assert batch_size <= n_large + n_small, (batch_size, n_large, n_small)
    share = max(n_large / (n_large + n_small), least_share)
    from_large = min(math.ceil(share * batch_size - 1e-9), n_large)
    from_small = min(batch_size - from_large, n_small)
    return batch_size - from_small, from_small


class Summary(NamedTuple):
    """
    :param minimum: smallest value
    :param mean: mean of all values
    :param maximum: largest value
    :param std: standard deviation
    """

    minimum: float
    mean: float
    maximum: float
    std: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Summary":
        """
        :param values: any shape
        :return: their summary
        """
        return cls(float(values.min()), float(values.mean(dtype=np.float64)), float(values.max()), float(values.std()))


class Statistics(NamedTuple):
    """
    What a sweep changed, and what the memory holds.

    :param n_states: states in the memory
    :param before: Q-values as estimated
    :param after: Q-values after the sweep
    :param change: of the Q-values; all of them, not only those of the actions taken
    :param n_large_errors: states with a large error
    :param lives: share of steps that ended a life, in [0, 1]
    :param games: share of steps that ended a game
    :param rewarded: share of steps with a reward that is not zero
    """

    n_states: int
    before: Summary
    after: Summary
    change: Summary
    n_large_errors: int
    lives: float
    games: float
    rewarded: float


class SweepMemory:
    """
    States, each stored once, with Q-values, action, reward, ends of life and game, and estimation error.

    :param n_states: room for states of all environments together
    :param n_envs: number of environments
    :param state_shape: of a state, uint8
    :param n_actions: number of actions
    :param compression: of states: ``None``, ``"lz4"`` or ``"zstd"``
    :raises MemoryError: if it would not fit into the memory that is free, with both figures
    """

    def __init__(
        self, n_states: int, n_envs: int, state_shape: tuple[int, ...], n_actions: int, compression: str | None = None
    ) -> None:
        self.n_envs = n_envs
        self.n_steps = n_states // n_envs
        self.state_shape = state_shape
        self.compression = compression
        self._n_pixels = math.prod(state_shape)
        self._check_it_fits(n_actions)
        shape = (n_envs, self.n_steps)
        # zeros take memory when they are first written to
        self.q_values = np.zeros((*shape, n_actions), dtype=np.float32)
        self.actions = np.zeros(shape, dtype=np.int32)
        self.rewards = np.zeros(shape, dtype=np.float32)
        self.end_lives = np.zeros(shape, dtype=bool)
        self.end_games = np.zeros(shape, dtype=bool)
        self.cuts = np.zeros(shape, dtype=bool)
        self.errors = np.zeros(shape, dtype=np.float32)
        self._frame_ids = np.zeros(shape, dtype=np.int64)
        self._frames = make_frames(self._n_pixels, n_envs, compression)
        self._position = 0
        self._is_full = False
        self._large = self._small = np.zeros(0, dtype=np.int64)

    def _check_it_fits(self, n_actions: int) -> None:
        n_states = self.n_envs * self.n_steps
        n_bytes = n_states * (bytes_of_frame(self._n_pixels, self.compression) + 4 * n_actions + 23)
        free = available_memory()
        if n_bytes > free:
            raise MemoryError(
                f"A memory of {n_states} states of {self._n_pixels} bytes takes about {n_bytes / 1e9:.2f} GB when it is full, "
                f"and {free / 1e9:.2f} GB are free: lower buffer_size"
                + ("" if self.compression else ', or set compression="lz4"')
            )

    @property
    def n_used(self) -> int:
        """
        :return: states in the memory, of all environments together
        """
        return self.n_envs * (self.n_steps if self._is_full else self._position)

    def add(
        self,
        states: np.ndarray,
        q_values: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        end_lives: np.ndarray,
        end_games: np.ndarray,
        cuts: np.ndarray,
    ) -> None:
        """
        Store one step of each environment. A full memory forgets its oldest steps.

        :param states: uint8 ``(n_envs, *state_shape)``
        :param q_values: estimated there, float32 (n_envs, n_actions)
        :param actions: taken, whole numbers (n_envs,)
        :param rewards: raw rewards (n_envs,)
        :param end_lives: whether a life ended with the step, the game's last one included, bool (n_envs,)
        :param end_games: whether the game ended, bool (n_envs,)
        :param cuts: whether the sequence was cut off there, as by a time limit, bool (n_envs,)
        """
        column = self._position
        if self._is_full:
            self._frames.free(self._frame_ids[:, column].tolist())
        flat = as_pixels(states, (self.n_envs, *self.state_shape), "states").reshape(self.n_envs, self._n_pixels)
        self._frame_ids[:, column] = self._frames.add(flat, list(range(self.n_envs)))
        self.q_values[:, column] = q_values
        self.actions[:, column] = actions
        self.rewards[:, column] = rewards
        self.end_lives[:, column] = end_lives
        self.end_games[:, column] = end_games
        self.cuts[:, column] = cuts
        self.errors[:, column] = 0  # until the next sweep; what is forgotten leaves nothing behind
        self._position += 1
        if self._position == self.n_steps:
            self._position, self._is_full = 0, True

    def cut(self) -> None:
        """Let nothing that is added later follow what is there: the environments begin anew."""
        if self.n_used:
            self.cuts[:, self._position - 1] = True

    def clear(self) -> None:
        """Forget all states."""
        self._frames.free(self._frame_ids[:, self._columns()].ravel().tolist())
        self._position, self._is_full = 0, False
        self._large = self._small = np.zeros(0, dtype=np.int64)

    def _columns(self) -> np.ndarray:
        """
        :return: the columns that are used, from the oldest to the newest, int (n_used / n_envs,)
        """
        if self._is_full:
            return (self._position + np.arange(self.n_steps)) % self.n_steps
        return np.arange(self._position)

    def sweep(self, gamma: float, clip_rewards: bool, error_threshold: float) -> Statistics:
        """
        One backward sweep, see ``sweep_backwards``; and states are divided by their errors, for ``sample``.

        :param gamma: discount factor of one step
        :param clip_rewards: limit rewards to [-1, 1]
        :param error_threshold: estimation error from which on it is large
        :return: statistics
        """
        columns = self._columns()
        before = self.q_values[:, columns]
        rewards, end_lives, end_games = self.rewards[:, columns], self.end_lives[:, columns], self.end_games[:, columns]
        swept = sweep_backwards(
            before,
            self.actions[:, columns],
            rewards.clip(-1, 1) if clip_rewards else rewards,
            end_lives | end_games,
            self.cuts[:, columns],
            gamma,
        )
        self.q_values[:, columns] = swept.q_values
        self.errors[:, columns] = swept.errors
        used = np.zeros((self.n_envs, self.n_steps), dtype=bool)
        used[:, columns] = True
        is_large = self.errors >= error_threshold
        self._large = np.flatnonzero(used & is_large)
        self._small = np.flatnonzero(used & ~is_large)
        return Statistics(
            n_states=self.n_used,
            before=Summary.of(before),
            after=Summary.of(swept.q_values),
            change=Summary.of(swept.q_values - before),
            n_large_errors=len(self._large),
            lives=float(end_lives.mean()),
            games=float(end_games.mean()),
            rewarded=float((rewards != 0).mean()),
        )

    def sample(
        self, batch_size: int, least_share: float, random_generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        A balanced batch without repetition, see ``balanced_counts``; after ``sweep``.

        :param batch_size: how many states
        :param least_share: of those with large errors, in [0, 1]
        :param random_generator: draws them
        :return: states, uint8 ``(batch, *state_shape)``, and their Q-values, float32 (batch, n_actions)
        """
        counts = balanced_counts(len(self._large), len(self._small), batch_size, least_share)
        drawn = [
            kind[random_generator.choice(len(kind), count, replace=False)]
            for kind, count in zip((self._large, self._small), counts, strict=True)
            if count
        ]
        return self.read(np.concatenate(drawn))

    def indices(self) -> np.ndarray:
        """
        :return: all states in the memory, int (n_used,), environment by environment and from the oldest to the newest
        """
        return (np.arange(self.n_envs)[:, None] * self.n_steps + self._columns()).ravel()

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        :param indices: states, as ``indices`` gives them, int (n,)
        :return: states, uint8 ``(n, *state_shape)``, and their Q-values, float32 (n, n_actions); copies
        """
        states = self._frames.read(self._frame_ids.reshape(-1)[indices]).reshape(-1, *self.state_shape)
        return states, self.q_values.reshape(-1, self.q_values.shape[-1])[indices]

    def set_q_values(self, indices: np.ndarray, q_values: np.ndarray) -> None:
        """
        :param indices: states, as ``indices`` gives them, int (n,)
        :param q_values: estimated anew, float32 (n, n_actions)
        """
        self.q_values.reshape(-1, self.q_values.shape[-1])[indices] = q_values

    def stores(self) -> dict[str, Frames]:
        """
        :return: what is numbered and never changes, by name: see ``replay.record``
        """
        return {"frames": self._frames}

    def get_state(self) -> dict[str, Any]:
        """
        :return: all the rest, of the columns that are used
        """
        columns = self._columns()
        return {
            "size": [self.n_envs, self.n_steps, *self.state_shape],
            "position": self._position,
            "is_full": self._is_full,
            "large": self._large,
            "small": self._small,
            "frames": self._frames.get_state(),
            "arrays": {name: getattr(self, name)[:, columns] for name in _ARRAYS},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what ``get_state`` gave; the frames are to be filled after this
        :raises ValueError: if it is of another memory
        """
        size = [self.n_envs, self.n_steps, *self.state_shape]
        if state["size"] != size:
            raise ValueError(f"the replay memory has size {size}, and that of the checkpoint {state['size']}")
        self._position, self._is_full = state["position"], state["is_full"]
        self._large, self._small = state["large"], state["small"]
        self._frames.set_state(state["frames"])
        for name in _ARRAYS:
            getattr(self, name)[:, self._columns()] = state["arrays"][name]
