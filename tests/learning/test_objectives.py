"""Losses and their gradients against numbers worked out by hand, and against slow twins."""

import math

import pytest
import torch as th

from sb3_atari_dqn.learning.objectives import Outcome, Prediction, SampleLosses, make_objective, quantile_huber
from sb3_atari_dqn.learning.targets import bellman_targets
from tests.learning.test_targets import slow_projection


def of_q_values(loss: str | None, delta: float, q_values: th.Tensor, targets: th.Tensor) -> SampleLosses:
    zeros = th.zeros(len(targets), 1)
    return make_objective(loss, delta)(Prediction(q_values, None), Outcome(targets, zeros, zeros))


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
        (None, 1.0, 3.0, 2.5, 1.0),
        # error**2, gradient 2 * error
        ("mse", 1.0, 0.5, 0.25, 1.0),
        ("mse", 1.0, -3.0, 9.0, -6.0),
    ],
)
def test_losses_and_gradients(loss: str | None, delta: float, error: float, value: float, gradient: float) -> None:
    q_values = th.tensor([[8.0 + error]], requires_grad=True)
    losses, priorities = of_q_values(loss, delta, q_values, th.tensor([[8.0]]))
    assert losses.shape == priorities.shape == (1,)
    assert losses.item() == pytest.approx(value, rel=1e-5)
    assert priorities.item() == pytest.approx(abs(error), rel=1e-5)
    assert not priorities.requires_grad
    losses.sum().backward()
    assert q_values.grad is not None
    assert q_values.grad.item() == pytest.approx(gradient, rel=1e-5)


def test_losses_are_per_sample() -> None:
    q_values, targets = th.tensor([[0.0], [0.0], [0.0]]), th.tensor([[1.0], [0.0], [-4.0]])
    assert of_q_values("huber", 1.0, q_values, targets).losses.tolist() == [0.5, 0.0, 3.5]
    assert of_q_values("mse", 1.0, q_values, targets).losses.tolist() == [1.0, 0.0, 16.0]


@pytest.mark.parametrize(
    ("fraction", "error", "delta", "value", "gradient"),
    [
        # target above the quantile: weight fraction; below: 1 - fraction. Huber as above.
        (0.25, 0.5, 1.0, 0.25 * 0.125, -0.25 * 0.5),
        (0.25, -0.5, 1.0, 0.75 * 0.125, 0.75 * 0.5),
        (0.9, 3.0, 1.0, 0.9 * 2.5, -0.9),
        (0.9, -3.0, 1.0, 0.1 * 2.5, 0.1),
        (0.5, 3.0, 2.0, 0.5 * 4.0 / 2, -0.5),
    ],
)
def test_quantile_loss_and_gradient(fraction: float, error: float, delta: float, value: float, gradient: float) -> None:
    quantile = th.tensor([[2.0]], requires_grad=True)
    loss = quantile_huber(quantile, th.tensor([fraction]), th.tensor([[2.0 + error]]), delta)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(value, rel=1e-5)
    loss.sum().backward()
    assert quantile.grad is not None
    assert quantile.grad.item() == pytest.approx(gradient, rel=1e-5)


@pytest.mark.parametrize("own_fractions", [False, True])
@pytest.mark.parametrize("delta", [1.0, 0.3])
def test_quantile_loss_equals_its_slow_twin(own_fractions: bool, delta: float) -> None:
    generator = th.Generator().manual_seed(1)
    quantiles, targets = th.randn(8, 5, generator=generator), th.randn(8, 7, generator=generator)
    fractions = th.rand(8, 5, generator=generator) if own_fractions else th.rand(5, generator=generator)
    expected = []
    for sample in range(8):
        loss = 0.0
        for i in range(5):
            fraction = float(fractions[sample, i] if own_fractions else fractions[i])
            for j in range(7):
                error = float(targets[sample, j] - quantiles[sample, i])
                huber = error**2 / 2 if abs(error) <= delta else delta * (abs(error) - delta / 2)
                loss += abs(fraction - (error < 0)) * huber / delta / 7
        expected.append(loss)
    assert quantile_huber(quantiles, fractions, targets, delta).tolist() == pytest.approx(expected, abs=1e-6)


def test_quantile_loss_finds_quantiles() -> None:
    # of 0, 1, ..., 99 with equal probability; a small delta, for Huber's rounds them off
    targets = th.arange(100.0).expand(1, -1)
    fractions = th.tensor([0.1, 0.5, 0.9])
    quantiles = th.zeros(1, 3, requires_grad=True)
    optimizer = th.optim.SGD([quantiles], lr=2.0)
    for _ in range(600):
        optimizer.zero_grad()
        quantile_huber(quantiles, fractions, targets, delta=0.01).sum().backward()
        optimizer.step()
    assert quantiles[0].tolist() == pytest.approx([10, 50, 90], abs=1.5)


@pytest.mark.parametrize("distribution", ["quantile", "implicit-quantile"])
def test_quantile_objective(distribution: str) -> None:
    generator = th.Generator().manual_seed(2)
    outputs, fractions = th.randn(4, 3, generator=generator), th.rand(4, 3, generator=generator)
    rewards, discounts = th.randn(4, 1, generator=generator), th.tensor([[0.9], [0.9], [0.0], [0.5]])
    following = th.randn(4, 6, generator=generator)
    losses, priorities = make_objective("huber", 0.5, distribution)(
        Prediction(outputs, fractions), Outcome(rewards, discounts, following)
    )
    targets = rewards + discounts * following
    assert th.allclose(losses, quantile_huber(outputs, fractions, targets, 0.5))
    unwanted = make_objective("huber", 0.5, distribution, has_priorities=False)
    assert th.equal(unwanted(Prediction(outputs, fractions), Outcome(rewards, discounts, following)).losses, losses)
    expected = [[(t - o).abs() for t in targets[row] for o in outputs[row]] for row in range(4)]
    assert priorities.tolist() == pytest.approx([float(sum(errors) / 18) for errors in expected], rel=1e-5)


def test_categorical_objective_by_hand() -> None:
    # two atoms 0 and 1, prediction (1/4, 3/4); the next state is surely worth 1, reward 0, discount 0.5: target (1/2, 1/2)
    logits = th.tensor([[0.0, math.log(3)]], requires_grad=True)
    outcome = Outcome(th.tensor([[0.0]]), th.tensor([[0.5]]), th.tensor([[-100.0, 100.0]]))
    losses, priorities = make_objective(None, 1.0, "categorical")(Prediction(logits, th.tensor([0.0, 1.0])), outcome)
    divergence = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert losses.item() == pytest.approx(divergence, rel=1e-5)
    assert priorities.item() == pytest.approx(divergence, rel=1e-5)
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-0.25, 0.25])  # probability - target, as of the cross-entropy


def test_categorical_objective_equals_its_slow_twin() -> None:
    generator = th.Generator().manual_seed(3)
    atoms = th.linspace(-2, 2, 5)
    logits, following = th.randn(16, 5, generator=generator), th.randn(16, 5, generator=generator)
    rewards, discounts = th.randn(16, 1, generator=generator), th.rand(16, 1, generator=generator)
    losses, _ = make_objective(None, 1.0, "categorical")(Prediction(logits, atoms), Outcome(rewards, discounts, following))
    targets = slow_projection(bellman_targets(rewards, discounts, atoms.expand(16, -1)), following.softmax(dim=1), atoms)
    for sample in range(16):
        divergence = 0.0
        for target, probability in zip(targets[sample].tolist(), logits[sample].softmax(dim=0).tolist(), strict=True):
            if target > 0:
                divergence += target * math.log(target / probability)
        assert losses[sample].item() == pytest.approx(divergence, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("l1", 1.0, None), "loss='l1' is not known; choose one of 'huber', 'mse'"),
        (("mse", 1.0, "categorical"), "loss='mse' is not what distribution='categorical' is learnt by: leave it out"),
        (("huber", 1.0, "categorical"), "loss='huber' is not what distribution='categorical' is learnt by"),
        (("mse", 1.0, "quantile"), "loss='mse' is not what distribution='quantile' is learnt by: 'huber' or leave it out"),
        (("mse", 1.0, "implicit-quantile"), "loss='mse' is not what"),
        ((None, 2.0, "categorical"), "huber_delta=2.0 has no effect with distribution='categorical'"),
        (("mse", 2.0, None), "huber_delta=2.0 has no effect with loss='mse'"),
        ((None, True, None), "huber_delta=True must be a finite number above 0"),
    ],
)
def test_mixes_without_meaning_are_refused(arguments: tuple[str | None, float, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_objective(*arguments)
