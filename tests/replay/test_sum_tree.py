"""The sum tree beside a plain array, driven by the same random operations."""

import numpy as np
import pytest

from sb3_atari_dqn.replay.sum_tree import SumTree


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100])
def test_equals_an_array(size: int) -> None:
    rng = np.random.default_rng(size)
    tree, array = SumTree(size), np.zeros(size)
    for _ in range(200):
        indices = rng.integers(0, size, rng.integers(1, 9))
        values = rng.random(len(indices)) * (rng.random(len(indices)) > 0.3)  # some are 0
        tree.set(indices, values)
        for index, value in zip(indices, values, strict=True):
            array[index] = value
        assert np.array_equal(tree[np.arange(size)], array)
        assert tree.total == pytest.approx(array.sum(), rel=1e-12, abs=1e-12)
        if array.sum() > 0:
            masses = rng.random(20) * tree.total
            assert np.array_equal(tree.find(masses), np.searchsorted(array.cumsum(), masses, side="right"))


def test_the_sum_does_not_drift() -> None:
    rng = np.random.default_rng(0)
    tree, array = SumTree(1000), np.zeros(1000)
    for _ in range(3000):
        indices = rng.permutation(1000)[:32]
        array[indices] = rng.random(32) * 10.0 ** rng.integers(-8, 8)
        tree.set(indices, array[indices])
    assert tree.total == pytest.approx(array.sum(), rel=1e-13)


def test_never_finds_a_number_that_is_zero() -> None:
    tree = SumTree(8)
    tree.set(np.array([1, 4]), np.array([0.1, 0.2]))
    # masses at and around the borders, and behind the end, where rounding may put them
    masses = np.array([0.0, 0.1, np.nextafter(0.1, 0), np.nextafter(tree.total, 0), tree.total, np.nextafter(tree.total, 1)])
    assert np.array_equal(tree.find(masses), [1, 4, 1, 4, 4, 4])


def test_one_value_for_all() -> None:
    tree = SumTree(5)
    tree.set(np.array([0, 3]), 2.0)
    assert tree.total == 4.0
