"""Objectives: from predicted and target Q-values to one loss per sample.

Conventions: ``q_values`` and ``targets`` are float (batch, 1); a loss is returned for each sample, and the
learner averages. Targets are constants: whoever computes them cuts the gradient.
"""

from collections.abc import Callable
from numbers import Real

import torch as th
from torch.nn import functional as F

Objective = Callable[[th.Tensor, th.Tensor], th.Tensor]

LOSSES = ("huber", "mse")


def huber(q_values: th.Tensor, targets: th.Tensor, delta: float = 1.0) -> th.Tensor:
    """
    Huber loss of ``error = q_values - targets``: ``error**2 / 2`` up to ``|error| = delta``, linear beyond.

    Its gradient is ``error`` clipped to ``[-delta, delta]``, which is the error clipping of Mnih et al. 2015
    (Methods, "Training details"): the gradient is clipped, not the objective.

    :param q_values: predictions, float (batch, 1)
    :param targets: constants, float (batch, 1)
    :param delta: where the loss turns linear, in units of reward, above 0
    :return: losses, float (batch, 1)
    """
    return F.huber_loss(q_values, targets, reduction="none", delta=delta)


def mse(q_values: th.Tensor, targets: th.Tensor) -> th.Tensor:
    """
    Squared error ``(q_values - targets)**2``, with gradient ``2 * error`` (Mnih et al. 2013, eq. 2).

    :param q_values: predictions, float (batch, 1)
    :param targets: constants, float (batch, 1)
    :return: losses, float (batch, 1)
    """
    return F.mse_loss(q_values, targets, reduction="none")


def make_objective(loss: str, huber_delta: float) -> Objective:
    """
    The objective that the keywords of an algorithm name.

    :param loss: ``"huber"`` or ``"mse"``
    :param huber_delta: where Huber turns linear, above 0; must be left at 1.0 with ``loss="mse"``
    :return: a function of (q_values, targets), both float (batch, 1), to losses, float (batch, 1)
    :raises ValueError: for an unknown loss, a delta that is not above 0, or a delta that would have no effect
    """
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r} is not known; choose one of {', '.join(map(repr, LOSSES))}")
    if not isinstance(huber_delta, Real) or not 0 < huber_delta < float("inf"):
        raise ValueError(f"huber_delta={huber_delta!r} must be a finite number above 0")
    if loss == "mse":
        if huber_delta != 1.0:
            raise ValueError(f'huber_delta={huber_delta} has no effect with loss="mse"; leave it out, or use loss="huber"')
        return mse
    return lambda q_values, targets: huber(q_values, targets, delta=huber_delta)
