"""Which transitions are drawn: all with equal probability, or those more often from which more is to be learnt.

A transition is a position in the memory and an environment. Draws come from NumPy's global generator, as Stable-Baselines3's.

Source: Schaul et al. 2016, "Prioritized experience replay", https://arxiv.org/abs/1511.05952.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from sb3_atari_dqn.checks import check_number
from sb3_atari_dqn.replay.sum_tree import SumTree

#: added to each priority, so that none is 0
LEAST_PRIORITY = 1e-6


class Draw(NamedTuple):
    """
    Transitions that were drawn.

    :param positions: in the memory, integers (n,)
    :param env_indices: environments, integers (n,)
    :param weights: of the transitions in the loss, float32 (n,)
    """

    positions: np.ndarray
    env_indices: np.ndarray
    weights: np.ndarray


class Sampler(Protocol):
    """Draws transitions from a memory."""

    def add(self, positions: np.ndarray) -> None:
        """
        :param positions: where each environment's transition is new, integers (n,)
        """

    def draw(self, n_transitions: int, n_positions: int) -> Draw:
        """
        :param n_transitions: how many
        :param n_positions: how many positions of the memory are used
        :return: the transitions
        """

    def set_priorities(self, draw: Draw, priorities: np.ndarray) -> None:
        """
        :param draw: transitions that were learnt from
        :param priorities: how much was to be learnt from each, float (n,), at least 0
        """

    def set_progress(self, progress_remaining: float) -> None:
        """
        :param progress_remaining: share of the training that is left, from 1 to 0
        """

    def get_state(self) -> dict[str, Any]:
        """
        :return: all that changes
        """

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what ``get_state`` gave
        """


class UniformSampler:
    """
    Draws all transitions with equal probability, with the random numbers that Stable-Baselines3 would have drawn.

    :param n_envs: number of environments
    """

    def __init__(self, n_envs: int) -> None:
        self.n_envs = n_envs

    def add(self, positions: np.ndarray) -> None:
        """Nothing to do."""

    def draw(self, n_transitions: int, n_positions: int) -> Draw:
        positions = np.random.randint(0, n_positions, size=n_transitions)
        env_indices = np.random.randint(0, self.n_envs, size=n_transitions)
        return Draw(positions, env_indices, np.ones(n_transitions, dtype=np.float32))

    def set_priorities(self, draw: Draw, priorities: np.ndarray) -> None:
        """Nothing to do."""

    def set_progress(self, progress_remaining: float) -> None:
        """Nothing to do."""

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


class PrioritizedSampler:
    """
    Draws a transition with a probability in proportion to ``priority ** priority_exponent`` (Schaul et al., eq. 1); new ones
    have the highest priority there was so far. Weights are ``(n * probability) ** -importance_exponent``, divided by the
    largest of those drawn together (section 3.4).

    :param n_positions: size of the memory
    :param n_envs: number of environments
    :param priority_exponent: the paper's alpha, at least 0
    :param importance_exponent: the paper's beta at the beginning, in [0, 1]; it goes linearly to 1 until the end of training
    """

    def __init__(self, n_positions: int, n_envs: int, priority_exponent: float, importance_exponent: float) -> None:
        self.check_values(priority_exponent, importance_exponent)
        self.n_envs = n_envs
        self.priority_exponent = priority_exponent
        self.first_importance_exponent = importance_exponent
        self.importance_exponent = importance_exponent
        self.tree = SumTree(n_positions * n_envs)
        self.highest = 1.0  # of the numbers in the tree

    @staticmethod
    def check_values(priority_exponent: float, importance_exponent: float) -> None:
        """
        :param priority_exponent: see above
        :param importance_exponent: see above
        :raises ValueError: for a value that is not allowed
        """
        exponents = {"priority_exponent": priority_exponent, "importance_exponent": importance_exponent}
        check_number(exponents, "priority_exponent", 0)
        check_number(exponents, "importance_exponent", 0, 1)

    def add(self, positions: np.ndarray) -> None:
        self.tree.set((positions[:, None] * self.n_envs + np.arange(self.n_envs)).ravel(), self.highest)

    def draw(self, n_transitions: int, n_positions: int) -> Draw:
        total = self.tree.total
        assert total > 0, "nothing to draw from"
        indices = self.tree.find(np.random.random_sample(n_transitions) * total)
        probabilities = self.tree[indices] / total
        weights = (n_positions * self.n_envs * probabilities) ** -self.importance_exponent
        return Draw(indices // self.n_envs, indices % self.n_envs, (weights / weights.max()).astype(np.float32))

    def set_priorities(self, draw: Draw, priorities: np.ndarray) -> None:
        if not np.isfinite(priorities).all():
            raise ValueError("training has diverged: the losses that priorities are made from are not finite")
        assert (priorities >= 0).all(), priorities
        numbers = (priorities.astype(np.float64) + LEAST_PRIORITY) ** self.priority_exponent
        self.tree.set(draw.positions * self.n_envs + draw.env_indices, numbers)
        self.highest = max(self.highest, numbers.max())

    def set_progress(self, progress_remaining: float) -> None:
        first = self.first_importance_exponent
        self.importance_exponent = 1 - (1 - first) * max(progress_remaining, 0.0)  # a run may go a few steps too far

    def get_state(self) -> dict[str, Any]:
        return {
            "numbers": self.tree[np.arange(self.tree.size)],
            "highest": float(self.highest),
            "importance_exponent": self.importance_exponent,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.tree.set(np.arange(self.tree.size), state["numbers"])
        self.highest = state["highest"]
        self.importance_exponent = state["importance_exponent"]


def make_sampler(n_positions: int, n_envs: int, priority_exponent: float | None, importance_exponent: float | None) -> Sampler:
    """
    :param n_positions: size of the memory
    :param n_envs: number of environments
    :param priority_exponent: see ``PrioritizedSampler``; ``None`` to draw all with equal probability
    :param importance_exponent: see there; 0.4 if ``None``
    :return: the sampler
    :raises ValueError: for a value that is not allowed, or that would have no effect
    """
    if priority_exponent is None:
        if importance_exponent is not None:
            raise ValueError(f"importance_exponent={importance_exponent!r} has no effect without priority_exponent")
        return UniformSampler(n_envs)
    return PrioritizedSampler(
        n_positions, n_envs, priority_exponent, 0.4 if importance_exponent is None else importance_exponent
    )
