"""One update, followed by hand on a network of one weight per action."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from torch import nn

from sb3_atari_dqn.learning.learner import Learner, UpdateReport
from sb3_atari_dqn.learning.losses import TDLoss, fit_loss
from sb3_atari_dqn.learning.objectives import make_objective


def linear(weights: list[float]) -> nn.Linear:
    layer = nn.Linear(1, len(weights), bias=False)
    with th.no_grad():
        layer.weight.copy_(th.tensor(weights)[:, None])
    return layer


BATCH = SimpleNamespace(
    observations=th.tensor([[1.0], [2.0]]),
    actions=th.tensor([[0], [1]]),
    rewards=th.tensor([[1.0], [-1.0]]),
    discounts=th.tensor([[0.5], [0.0]]),
    next_observations=th.tensor([[2.0], [1.0]]),
    weights=th.ones(2, 1),
)


@pytest.mark.parametrize(
    ("loss", "max_grad_norm", "weights"),
    [
        # Q(s, a) = 1 and 4; the target network gives 2 * max(3, 1) = 6, so targets are 1 + 0.5 * 6 = 4 and -1.
        # Errors -3 and 5; mse: gradients of the weights (2 * -3 * 1) / 2 = -3 and (2 * 5 * 2) / 2 = 10
        ("mse", 1e9, [1.3, 1.0]),
        # huber: errors clipped to -1 and 1: -0.5 and 1
        ("huber", 1e9, [1.05, 1.9]),
        # the norm of (-0.5, 1) is sqrt(1.25); a tenth of it is allowed
        ("huber", math.sqrt(1.25) / 10, [1.005, 1.99]),
    ],
)
def test_update(loss: str, max_grad_norm: float, weights: list[float]) -> None:
    q_net, q_net_target = linear([1.0, 2.0]), linear([3.0, 1.0])
    learner = Learner(
        q_net, q_net_target, th.optim.SGD(q_net.parameters(), lr=0.1), TDLoss(make_objective(loss, 1.0)), max_grad_norm
    )
    reported, priorities = learner.update(BATCH)
    assert q_net.weight[:, 0].tolist() == pytest.approx(weights, rel=1e-5)
    assert q_net_target.weight[:, 0].tolist() == [3.0, 1.0]
    # all Q-values: 1, 2 and 2, 4
    mean_loss = {"mse": (9 + 25) / 2, "huber": (2.5 + 4.5) / 2}[loss]
    assert reported.tolist() == pytest.approx([mean_loss, 2.25, 1.0, 4.0, 1.1875])
    assert priorities.tolist() == pytest.approx([3.0, 5.0])
    assert not reported.requires_grad
    assert not priorities.requires_grad


def test_weights_count_in_the_mean() -> None:
    """The first case above, with weights 0.5 and 0.1: gradients 0.5 * -3 and 0.1 * 10, loss (0.5 * 9 + 0.1 * 25) / 2."""
    q_net = linear([1.0, 2.0])
    loss = TDLoss(make_objective("mse", 1.0))
    learner = Learner(q_net, linear([3.0, 1.0]), th.optim.SGD(q_net.parameters(), lr=0.1), loss, None)
    batch = SimpleNamespace(**{**vars(BATCH), "weights": th.tensor([[0.5], [0.1]])})
    reported, priorities = learner.update(batch)
    assert q_net.weight[:, 0].tolist() == pytest.approx([1.15, 1.9], rel=1e-5)
    assert reported[0].item() == pytest.approx(3.5)
    assert priorities.tolist() == pytest.approx([3.0, 5.0])


@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_fit_of_all_q_values_by_hand(max_grad_norm: float | None) -> None:
    """Two states, two actions: errors (1, -2) and (3, 0); loss 14 / 2, gradients the sums of error * input."""
    q_net = nn.Linear(1, 2, bias=False)
    with th.no_grad():
        q_net.weight.copy_(th.tensor([[2.0], [-1.0]]))
    batch = SimpleNamespace(observations=th.tensor([[1.0], [2.0]]), q_values=th.tensor([[1.0, 1.0], [1.0, -2.0]]))
    learner = Learner(q_net, q_net, th.optim.SGD(q_net.parameters(), lr=0.1), fit_loss, max_grad_norm)
    loss = learner.update(batch).report[0]
    assert loss.item() == 7.0
    gradient = np.array([1 * 1 + 3 * 2, -2.0 * 1])  # of norm 7.28
    if max_grad_norm is not None:
        gradient /= np.linalg.norm(gradient) + 1e-6
    assert q_net.weight.detach().ravel().numpy() == pytest.approx(np.array([2.0, -1.0]) - 0.1 * gradient, rel=1e-5)


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU: only CUDA can tell that the host waited")
def test_update_never_waits_for_a_gpu() -> None:
    q_net = linear([1.0, 2.0]).cuda()
    learner = Learner(q_net, q_net, th.optim.Adam(q_net.parameters()), TDLoss(make_objective("huber", 1.0)), 10.0)
    batch = SimpleNamespace(**{name: tensor.cuda() for name, tensor in vars(BATCH).items()})
    learner.update(batch)  # the first one makes Adam's moments
    th.cuda.set_sync_debug_mode("error")
    try:
        learner.update(batch)
    finally:
        th.cuda.set_sync_debug_mode("default")


def test_update_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*args: object, **kwargs: object) -> None:
        raise AssertionError("the host waits for the device")

    q_net = linear([1.0, 2.0])
    # not Adam: it counts its steps on the host, where reading them waits for nothing
    learner = Learner(q_net, q_net, th.optim.SGD(q_net.parameters(), lr=0.1), TDLoss(make_objective("huber", 1.0)), 10.0)
    report = UpdateReport()
    with monkeypatch.context() as patch:
        for name in ("item", "cpu", "numpy", "tolist", "__float__", "__int__", "__bool__", "__array__"):
            patch.setattr(th.Tensor, name, wait)
        report.add(learner.update(BATCH).report)
        with pytest.raises(AssertionError, match="waits"):
            report.read()
    assert report.read()["loss"] > 0


def test_report_summarises_all_updates_once() -> None:
    report = UpdateReport()
    assert report.read() == {}
    # two batches of Q-values: 1, 3 and 5, 9
    report.add(th.tensor([0.5, 2.0, 1.0, 3.0, 1.0]))
    report.add(th.tensor([1.5, 7.0, 5.0, 9.0, 4.0]))
    summary = report.read()
    assert summary == pytest.approx(
        {"loss": 1.0, "q_values_mean": 4.5, "q_values_min": 1.0, "q_values_max": 9.0, "q_values_std": math.sqrt(8.75)}
    )
    assert report.read() == {}


def test_report_forgets_no_update() -> None:
    report = UpdateReport()
    for number in range(2500):
        report.add(th.tensor([float(number), 0.0, float(number), float(number), 0.0]))
    summary = report.read()
    assert summary["loss"] == pytest.approx(1249.5)
    assert (summary["q_values_min"], summary["q_values_max"]) == (0.0, 2499.0)
