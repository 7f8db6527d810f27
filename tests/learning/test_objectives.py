"""Losses and their gradients against numbers worked out by hand."""

import pytest
import torch as th

from sb3_atari_dqn.learning.objectives import make_objective


@pytest.mark.parametrize(
    ("loss", "delta", "error", "value", "gradient"),
    [
        # inside delta: error**2 / 2, gradient error
        ("huber", 1.0, 0.5, 0.125, 0.5),
        ("huber", 1.0, -0.5, 0.125, -0.5),
        ("huber", 3.0, 2.0, 2.0, 2.0),
        ("huber", 0.25, 0.2, 0.02, 0.2),
        # outside: delta * (|error| - delta / 2), gradient clipped to delta, not lost
        ("huber", 1.0, 3.0, 2.5, 1.0),
        ("huber", 1.0, -3.0, 2.5, -1.0),
        ("huber", 3.0, -10.0, 25.5, -3.0),
        ("huber", 0.25, 1.0, 0.21875, 0.25),
        # error**2, gradient 2 * error
        ("mse", 1.0, 0.5, 0.25, 1.0),
        ("mse", 1.0, -3.0, 9.0, -6.0),
    ],
)
def test_losses_and_gradients(loss: str, delta: float, error: float, value: float, gradient: float) -> None:
    q_values = th.tensor([[8.0 + error]], requires_grad=True)
    losses = make_objective(loss, delta)(q_values, th.tensor([[8.0]]))
    assert losses.shape == (1, 1)
    assert losses.item() == pytest.approx(value, rel=1e-5)
    losses.sum().backward()
    assert q_values.grad is not None
    assert q_values.grad.item() == pytest.approx(gradient, rel=1e-5)


def test_losses_are_per_sample() -> None:
    q_values, targets = th.tensor([[0.0], [0.0], [0.0]]), th.tensor([[1.0], [0.0], [-4.0]])
    assert make_objective("huber", 1.0)(q_values, targets).tolist() == [[0.5], [0.0], [3.5]]
    assert make_objective("mse", 1.0)(q_values, targets).tolist() == [[1.0], [0.0], [16.0]]
