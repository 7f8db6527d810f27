"""Objectives: from predictions and what came of them to one loss per sample.

Conventions: B is the batch, N the numbers by which the return of one action is described: its Q-value (N = 1), logits of
atoms, or quantiles. A loss is returned for each sample; whoever calls weighs and averages. Targets are constants: whoever
computes them cuts the gradient.
"""

import functools
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import torch as th
from torch.nn import functional as F

from sb3_atari_dqn.learning.targets import bellman_targets, project_distribution

LOSSES = ("huber", "mse")


class Prediction(NamedTuple):
    """
    What the network says of the actions that were taken.

    :param outputs: float (B, N)
    :param positions: of the outputs: atoms (N,), or fractions of quantiles (N,) or (B, N); a Q-value has none
    """

    outputs: th.Tensor
    positions: th.Tensor | None


class Outcome(NamedTuple):
    """
    What came of them; constants.

    :param rewards: float (B, 1)
    :param discounts: float (B, 1)
    :param next_outputs: of the next state, as the predictions are, float (B, N')
    """

    rewards: th.Tensor
    discounts: th.Tensor
    next_outputs: th.Tensor


class SampleLosses(NamedTuple):
    """
    :param losses: to be averaged and differentiated, float (B,)
    :param priorities: how much is to be learnt from each sample, for prioritized replay, float (B,), at least 0
    """

    losses: th.Tensor
    priorities: th.Tensor


Objective = Callable[[Prediction, Outcome], SampleLosses]


def huber(q_values: th.Tensor, targets: th.Tensor, delta: float = 1.0) -> th.Tensor:
    """
    Huber loss of ``error = q_values - targets``: ``error**2 / 2`` up to ``|error| = delta``, linear beyond.

    Its gradient is ``error`` clipped to ``[-delta, delta]``, which is the error clipping of Mnih et al. 2015
    (Methods, "Training details"): the gradient is clipped, not the objective.

    :param q_values: predictions, float, any shape
    :param targets: constants, same shape
    :param delta: where the loss turns linear, in units of reward, above 0
    :return: losses, same shape
    """
    return F.huber_loss(q_values, targets, reduction="none", delta=delta)


def mse(q_values: th.Tensor, targets: th.Tensor) -> th.Tensor:
    """
    Squared error ``(q_values - targets)**2``, with gradient ``2 * error`` (Mnih et al. 2013, eq. 2).

    :param q_values: predictions, float, any shape
    :param targets: constants, same shape
    :return: losses, same shape
    """
    return F.mse_loss(q_values, targets, reduction="none")


def quantile_huber(quantiles: th.Tensor, fractions: th.Tensor, targets: th.Tensor, delta: float = 1.0) -> th.Tensor:
    """
    Quantile regression with Huber's loss: ``sum_i mean_j |fraction_i - [target_j < quantile_i]| * huber(target_j -
    quantile_i) / delta`` (Dabney et al. 2018b, https://arxiv.org/abs/1806.06923, eq. 3; with ``delta=1`` that of Dabney et
    al. 2018a, https://arxiv.org/abs/1710.10044, eq. 10).

    :param quantiles: predictions, float (B, N)
    :param fractions: of them, in (0, 1), float (N,) or (B, N)
    :param targets: constants, float (B, N')
    :param delta: where the loss turns linear, the papers' kappa, above 0
    :return: losses, float (B,)
    """
    assert quantiles.shape[-1] == fractions.shape[-1], (quantiles.shape, fractions.shape)
    quantiles, targets = th.broadcast_tensors(quantiles.unsqueeze(2), targets.unsqueeze(1))  # (B, N, N')
    weights = (fractions.unsqueeze(-1) - (targets < quantiles.detach()).to(fractions.dtype)).abs()
    return (weights * huber(quantiles, targets, delta) / delta).mean(dim=2).sum(dim=1)


def categorical_divergence(logits: th.Tensor, targets: th.Tensor) -> th.Tensor:
    """
    Kullback-Leibler divergence of target from predicted probabilities, whose gradient is that of the cross-entropy
    (Bellemare et al. 2017, https://arxiv.org/abs/1707.06887, Algorithm 1).

    :param logits: predictions, float (B, N)
    :param targets: probabilities, constants, float (B, N)
    :return: losses, float (B,), at least 0
    """
    return F.kl_div(logits.log_softmax(dim=1), targets, reduction="none").sum(dim=1)


class ExpectationObjective:
    """
    Objective for Q-values; a sample's priority is its absolute error.

    :param loss: of Q-values and targets, such as ``huber``
    """

    def __init__(self, loss: Callable[[th.Tensor, th.Tensor], th.Tensor]) -> None:
        self.loss = loss

    def __call__(self, prediction: Prediction, outcome: Outcome) -> SampleLosses:
        targets = bellman_targets(*outcome)
        losses = self.loss(prediction.outputs, targets).squeeze(1)
        return SampleLosses(losses, (prediction.outputs.detach() - targets).abs().squeeze(1))


class QuantileObjective:
    """
    Objective for quantiles; a sample's priority is the mean absolute error of all pairs.

    :param delta: see ``quantile_huber``
    :param has_priorities: whether somebody wants priorities, which take a while; otherwise the losses stand in for them
    """

    def __init__(self, delta: float, has_priorities: bool) -> None:
        self.delta = delta
        self.has_priorities = has_priorities

    def __call__(self, prediction: Prediction, outcome: Outcome) -> SampleLosses:
        targets = bellman_targets(*outcome)
        assert prediction.positions is not None
        losses = quantile_huber(prediction.outputs, prediction.positions, targets, self.delta)
        if not self.has_priorities:
            return SampleLosses(losses, losses.detach())
        errors = targets.unsqueeze(1) - prediction.outputs.detach().unsqueeze(2)
        return SampleLosses(losses, errors.abs().mean(dim=(1, 2)))


def categorical_objective(prediction: Prediction, outcome: Outcome) -> SampleLosses:
    """
    Objective for probabilities of atoms; a sample's priority is its loss (Hessel et al. 2018,
    https://arxiv.org/abs/1710.02298, "The integrated agent").

    :param prediction: logits of atoms
    :param outcome: rewards, discounts, and logits of the same atoms in the next state
    :return: losses and priorities
    """
    atoms = prediction.positions
    assert atoms is not None
    returns = bellman_targets(outcome.rewards, outcome.discounts, atoms.expand(len(outcome.rewards), -1))
    targets = project_distribution(returns, outcome.next_outputs.softmax(dim=1), atoms)
    losses = categorical_divergence(prediction.outputs, targets)
    return SampleLosses(losses, losses.detach().clamp(min=0))


def make_objective(
    loss: str | None, huber_delta: float, distribution: str | None = None, has_priorities: bool = True
) -> Objective:
    """
    The objective that the keywords of an algorithm name.

    :param loss: ``"huber"``, ``"mse"``, or ``None`` for what the distribution is learnt by: Huber's loss, or the divergence
        of probabilities
    :param huber_delta: where Huber turns linear, above 0; must be left at 1.0 where there is no Huber's loss
    :param distribution: what the network gives: ``None`` for Q-values, ``"categorical"``, ``"quantile"`` or
        ``"implicit-quantile"``
    :param has_priorities: whether somebody wants priorities
    :return: the objective
    :raises ValueError: for an unknown loss, one that the distribution is not learnt by, a delta that is not above 0, or a
        delta that would have no effect
    """
    if loss is not None and loss not in LOSSES:
        raise ValueError(f"loss={loss!r} is not known; choose one of {', '.join(map(repr, LOSSES))}")
    if isinstance(huber_delta, bool) or not isinstance(huber_delta, Real) or not 0 < huber_delta < float("inf"):
        raise ValueError(f"huber_delta={huber_delta!r} must be a finite number above 0")
    allowed: tuple[str, ...] = {None: LOSSES, "categorical": ()}.get(distribution, ("huber",))
    if loss is not None and loss not in allowed:
        instead = " or ".join([*map(repr, allowed), "leave it out"])
        raise ValueError(f"loss={loss!r} is not what distribution={distribution!r} is learnt by: {instead}")
    if huber_delta != 1.0 and (loss == "mse" or distribution == "categorical"):
        what = f"loss={loss!r}" if loss == "mse" else f"distribution={distribution!r}"
        raise ValueError(f'huber_delta={huber_delta} has no effect with {what}; leave it out, or use loss="huber"')

    if distribution == "categorical":
        return categorical_objective
    if distribution is not None:
        return QuantileObjective(huber_delta, has_priorities)
    if loss == "mse":
        return ExpectationObjective(mse)
    return ExpectationObjective(functools.partial(huber, delta=huber_delta))
