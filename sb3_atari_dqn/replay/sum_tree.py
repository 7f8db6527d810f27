"""Numbers that can be drawn in proportion to their size, a million of them in microseconds."""

import numpy as np


class SumTree:
    """
    A binary tree whose leaves are numbers and whose other nodes are the sums of their two children, in float64.

    A node's sum is always computed from its children, so that no error builds up. Node 1 is the root; the children of node
    ``i`` are ``2 * i`` and ``2 * i + 1``.

    :param size: how many numbers; all are 0 at first
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.n_levels = max(size - 1, 1).bit_length()
        self._first_leaf = 1 << self.n_levels
        self._nodes = np.zeros(2 * self._first_leaf)

    @property
    def total(self) -> float:
        """
        :return: sum of all numbers
        """
        return float(self._nodes[1])

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """
        :param indices: which numbers, integers (n,)
        :return: the numbers, float64 (n,)
        """
        return self._nodes[self._first_leaf + indices]

    def set(self, indices: np.ndarray, values: np.ndarray | float) -> None:
        """
        :param indices: which numbers, integers (n,); where one comes more than once, its last value counts
        :param values: finite numbers of at least 0, (n,) or one for all
        """
        nodes = self._first_leaf + indices
        self._nodes[nodes] = values
        for _ in range(self.n_levels):
            nodes = nodes >> 1
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, masses: np.ndarray) -> np.ndarray:
        """
        :param masses: float64 (n,), at least 0 and below ``total``
        :return: for each the number in which it falls when all are laid end to end, integers (n,); never one that is 0
        """
        nodes = np.ones(len(masses), dtype=np.int64)
        masses = masses.copy()
        for _ in range(self.n_levels):
            nodes *= 2
            left = self._nodes[nodes]
            goes_right = (masses >= left) & (self._nodes[nodes + 1] > 0)  # rounding may leave a mass behind the last number
            masses -= left * goes_right
            nodes += goes_right
        return nodes - self._first_leaf
