"""Targets against numbers worked out by hand, and against slow twins."""

import math

import pytest
import torch as th

from sb3_atari_dqn.learning.targets import (
    bellman_targets,
    greedy_actions,
    munchausen_rewards,
    project_distribution,
    scaled_log_policy,
    soft_returns,
    take_actions,
)


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
    values = th.tensor([next_q_values])
    result = bellman_targets(
        th.tensor([[reward]]), th.tensor([[discount]]), take_actions(values.unsqueeze(2), greedy_actions(values))
    )
    assert result.shape == (1, 1)
    assert result.item() == pytest.approx(target, abs=1e-6)


def test_each_sample_and_each_number_has_its_own_target() -> None:
    rewards, discounts = th.tensor([[1.0], [2.0]]), th.tensor([[0.5], [0.0]])
    targets = bellman_targets(rewards, discounts, th.tensor([[1.0, 4.0], [100.0, 200.0]]))
    assert targets.tolist() == [[1.5, 3.0], [2.0, 2.0]]


def test_take_actions_takes_all_numbers_of_an_action() -> None:
    outputs = th.arange(12.0).view(2, 3, 2)
    assert take_actions(outputs, th.tensor([[2], [0]])).tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(AssertionError):
        bellman_targets(th.zeros(3), th.zeros(3, 1), th.zeros(3, 2))
    with pytest.raises(AssertionError):
        take_actions(th.zeros(3, 2, 1), th.zeros(3, dtype=th.int64))


@pytest.mark.parametrize(
    ("returns", "probabilities", "projected"),
    [
        ([0.25], [1.0], [0.0, 0.75, 0.25]),  # a quarter of the way from 0 to 1
        ([-1.0], [1.0], [1.0, 0.0, 0.0]),  # on an atom
        ([5.0, -7.0], [0.6, 0.4], [0.4, 0.0, 0.6]),  # beyond the last ones
        ([-0.5, 0.5], [0.5, 0.5], [0.25, 0.5, 0.25]),
    ],
)
def test_projection(returns: list[float], probabilities: list[float], projected: list[float]) -> None:
    atoms = th.tensor([-1.0, 0.0, 1.0])
    result = project_distribution(th.tensor([returns]), th.tensor([probabilities]), atoms)
    assert result[0].tolist() == pytest.approx(projected, abs=1e-6)


def slow_projection(returns: th.Tensor, probabilities: th.Tensor, atoms: th.Tensor) -> th.Tensor:
    """Algorithm 1 of Bellemare et al. 2017, return by return."""
    spacing = float(atoms[1] - atoms[0])
    projected = th.zeros(len(returns), len(atoms), dtype=th.float64)
    for row in range(len(returns)):
        for value, probability in zip(returns[row].tolist(), probabilities[row].tolist(), strict=True):
            place = (min(max(value, float(atoms[0])), float(atoms[-1])) - float(atoms[0])) / spacing
            place = min(max(place, 0.0), len(atoms) - 1.0)
            low, high = math.floor(place), math.ceil(place)
            if low == high:
                projected[row, low] += probability
            else:
                projected[row, low] += probability * (high - place)
                projected[row, high] += probability * (place - low)
    return projected


@pytest.mark.parametrize("n_atoms", [2, 51])
def test_projection_equals_its_slow_twin(n_atoms: int) -> None:
    generator = th.Generator().manual_seed(n_atoms)
    atoms = th.linspace(-10, 10, n_atoms, dtype=th.float64)
    probabilities = th.rand(64, n_atoms, generator=generator, dtype=th.float64).softmax(dim=1)
    rewards = th.randn(64, 1, generator=generator, dtype=th.float64) * 4
    returns = bellman_targets(rewards, th.rand(64, 1, generator=generator, dtype=th.float64).round(), atoms.expand(64, -1))
    projected = project_distribution(returns, probabilities, atoms)
    assert th.allclose(projected, slow_projection(returns, probabilities, atoms), atol=1e-6)
    assert th.allclose(projected.sum(dim=1), th.ones(64, dtype=th.float64))


def test_projection_keeps_the_mean_of_returns_within_the_atoms() -> None:
    atoms = th.linspace(-10, 10, 51, dtype=th.float64)
    returns, probabilities = th.rand(16, 51, dtype=th.float64) * 18 - 9, th.rand(16, 51, dtype=th.float64).softmax(dim=1)
    projected = project_distribution(returns, probabilities, atoms)
    assert th.allclose((projected * atoms).sum(dim=1), (returns * probabilities).sum(dim=1))


def test_munchausen_policy_and_rewards() -> None:
    # softmax((0, ln 3) / 1) = (1/4, 3/4)
    q_values = th.tensor([[0.0, math.log(3)]])
    log_policy = scaled_log_policy(q_values, temperature=1.0)
    assert log_policy[0].tolist() == pytest.approx([math.log(1 / 4), math.log(3 / 4)])
    # half as warm: softmax((0, ln 9)) = (1/10, 9/10), and the logarithm is halved
    assert scaled_log_policy(q_values, 0.5)[0].tolist() == pytest.approx([0.5 * math.log(0.1), 0.5 * math.log(0.9)])
    # 0.9 * ln(3/4) as it is, 0.9 * ln(1/4) clipped at -1
    assert munchausen_rewards(log_policy[:, 1:], 0.9, -1.0).item() == pytest.approx(0.9 * math.log(3 / 4))
    assert munchausen_rewards(log_policy[:, :1], 0.9, -1.0).item() == pytest.approx(-0.9)


def test_soft_returns() -> None:
    q_values = th.tensor([[0.0, math.log(3)]])
    log_policy = scaled_log_policy(q_values, 1.0)
    # for Q-values themselves it is the soft maximum: ln(1 + 3)
    assert soft_returns(q_values.unsqueeze(2), log_policy, 1.0).item() == pytest.approx(math.log(4))
    # two quantiles of each action: 1/4 * z_1 + 3/4 * z_2 + entropy
    entropy = -(1 / 4 * math.log(1 / 4) + 3 / 4 * math.log(3 / 4))
    quantiles = th.tensor([[[-1.0, 1.0], [2.0, 6.0]]])
    assert soft_returns(quantiles, log_policy, 1.0)[0].tolist() == pytest.approx([1.25 + entropy, 4.75 + entropy])


def test_soft_returns_go_to_the_best_action_as_it_gets_cold() -> None:
    q_values = th.tensor([[1.0, 2.0, 0.0]])
    for temperature, tolerance in ((0.1, 1e-4), (0.001, 1e-6)):
        soft = soft_returns(q_values.unsqueeze(2), scaled_log_policy(q_values, temperature), temperature)
        assert soft.item() == pytest.approx(2.0, abs=tolerance)
