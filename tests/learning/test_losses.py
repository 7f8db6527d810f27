"""Backups and the loss made of them, on tables of Q-values, by hand."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch as th

from sb3_atari_dqn.learning.losses import MunchausenBackup, TDLoss, double_backup, greedy_backup, make_backup
from sb3_atari_dqn.learning.objectives import make_objective
from sb3_atari_dqn.networks.heads import ActionValues


class Table:
    """Action values of states 0 and 1, two actions."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows = th.tensor(rows, requires_grad=True)

    def __call__(self, states: th.Tensor) -> ActionValues:
        q_values = self.rows[states]
        return ActionValues(q_values, q_values.unsqueeze(2))

    def gradient(self) -> list[list[float]]:
        assert self.rows.grad is not None
        return self.rows.grad.tolist()


def batch(discount: float = 0.5, weight: float = 1.0) -> Any:
    """From state 0 by action 1 to state 1, reward 1."""
    return SimpleNamespace(
        observations=th.tensor([0]),
        actions=th.tensor([[1]]),
        rewards=th.tensor([[1.0]]),
        discounts=th.tensor([[discount]]),
        next_observations=th.tensor([1]),
        weights=th.tensor([[weight]]),
    )


ONLINE, TARGET = [[0.0, 2.0], [1.0, 2.0]], [[0.0, math.log(3)], [5.0, 3.0]]


@pytest.mark.parametrize(
    ("backup", "target"),
    [
        (greedy_backup, 1 + 0.5 * 5),  # the target network's best
        (double_backup, 1 + 0.5 * 3),  # the online network prefers action 1, worth 3 to the target network
        # policy of state 0 (1/4, 3/4); soft value of state 1: 5 + ln(1 + e^-2)
        (MunchausenBackup(1.0, 0.9, -1.0), 1 + 0.9 * math.log(3 / 4) + 0.5 * (5 + math.log(1 + math.exp(-2)))),
        # the logarithm, -0.2877, is clipped
        (MunchausenBackup(1.0, 0.9, -0.1), 1 - 0.9 * 0.1 + 0.5 * (5 + math.log(1 + math.exp(-2)))),
    ],
)
def test_targets_and_gradient(backup: Any, target: float) -> None:
    online, target_table = Table(ONLINE), Table(TARGET)
    result = TDLoss(make_objective("mse", 1.0), backup)(online, target_table, batch())
    assert result.loss.item() == pytest.approx((2 - target) ** 2, rel=1e-5)
    assert result.priorities.item() == pytest.approx(abs(2 - target), rel=1e-5)
    assert result.q_values.tolist() == [[0.0, 2.0]]
    result.loss.backward()
    assert online.gradient()[0] == pytest.approx([0.0, 2 * (2 - target)], rel=1e-5)
    assert online.gradient()[1] == [0.0, 0.0]  # what selects is not learnt from
    assert target_table.rows.grad is None


def test_nothing_follows_a_terminal_state() -> None:
    for backup, target in ((greedy_backup, 1.0), (double_backup, 1.0), (MunchausenBackup(1.0), 1 + 0.9 * math.log(3 / 4))):
        result = TDLoss(make_objective("mse", 1.0), backup)(Table(ONLINE), Table(TARGET), batch(discount=0.0))
        assert result.priorities.item() == pytest.approx(2 - target)


def test_weights_scale_loss_and_gradient_and_not_priorities() -> None:
    for loss in ("mse", "huber"):
        online, weighted = Table(ONLINE), Table(ONLINE)
        plain_result = TDLoss(make_objective(loss, 1.0))(online, Table(TARGET), batch())
        result = TDLoss(make_objective(loss, 1.0))(weighted, Table(TARGET), batch(weight=0.25))
        plain_result.loss.backward()
        result.loss.backward()
        assert result.loss.item() == pytest.approx(plain_result.loss.item() / 4)
        assert result.priorities.item() == plain_result.priorities.item()
        assert weighted.gradient()[0][1] == pytest.approx(online.gradient()[0][1] / 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((True, True, None, None), ValueError, "double_q=True has no effect with munchausen=True"),
        ((False, True, None, "categorical"), ValueError, "munchausen=True does not work with distribution='categorical'"),
        ((False, False, {"alpha": 0.9}, None), ValueError, "munchausen_kwargs={'alpha': 0.9} have no effect without"),
        ((False, True, {"tau": 0.03}, None), TypeError, "munchausen_kwargs has no argument 'tau'; it has entropy_temperature"),
        ((False, True, {"entropy_temperature": 0}, None), ValueError, "entropy_temperature=0 in munchausen_kwargs must be a"),
        ((False, True, {"alpha": 1.5}, None), ValueError, r"alpha=1.5 in munchausen_kwargs must be a number in \[0, 1\]"),
        ((False, True, {"clip": 0.0}, None), ValueError, "clip=0.0 in munchausen_kwargs must be a number below 0"),
        ((False, True, {"clip": "-1"}, None), ValueError, "clip='-1' in munchausen_kwargs must be"),
    ],
)
def test_bad_backups(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("'categorical'", "[\"']categorical[\"']")):
        make_backup(*arguments)
