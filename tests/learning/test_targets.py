"""Targets against numbers worked out by hand."""

import pytest
import torch as th

from sb3_atari_dqn.learning.targets import q_learning_targets


@pytest.mark.parametrize(
    ("reward", "discount", "next_q_values", "target"),
    [
        (1.0, 0.99, [0.5, 2.0, -1.0], 2.98),  # 1 + 0.99 * 2
        (0.0, 0.97, [-3.0, -1.0, -2.0], -0.97),  # the largest value may be negative
        (-1.0, 0.0, [5.0, 7.0, 9.0], -1.0),  # terminal: nothing follows
        (1.83, 0.99**3, [1.0, 0.0, 0.0], 2.800299),  # three steps folded: 1.83 + 0.970299
        (1.0, 0.97, [1.83, 0.0, 1.0], 2.7751),  # tutorial 16's example of a score
    ],
)
def test_q_learning_targets(reward: float, discount: float, next_q_values: list[float], target: float) -> None:
    result = q_learning_targets(th.tensor([[reward]]), th.tensor([[discount]]), th.tensor([next_q_values]))
    assert result.shape == (1, 1)
    assert result.item() == pytest.approx(target, abs=1e-6)


def test_each_sample_has_its_own_target() -> None:
    targets = q_learning_targets(th.tensor([[1.0], [2.0]]), th.tensor([[0.5], [0.0]]), th.tensor([[1.0, 4.0], [100.0, 200.0]]))
    assert targets.tolist() == [[3.0], [2.0]]


def test_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(AssertionError):
        q_learning_targets(th.zeros(3), th.zeros(3, 1), th.zeros(3, 2))
