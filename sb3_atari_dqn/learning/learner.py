"""One gradient step, eager and plain to read; and what it reports, which never waits for the device.

Sources: Mnih et al. 2015, Algorithm 1 (``TDLoss``); Hvass Pedersen 2017, TensorFlow tutorial 16 (``fit_loss``).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_atari_dqn.learning.objectives import Objective
from sb3_atari_dqn.learning.targets import q_learning_targets

#: what one update reports, in the order of ``Learner.update``'s tensor
REPORTED = ("loss", "q_values_mean", "q_values_min", "q_values_max", "q_values_variance")

#: arguments of PyTorch's optimizers that say how a step is computed, not what comes out
_WAYS = ("fused", "foreach", "capturable")


#: observations to Q-values, float (batch, n_actions)
QFunction = Callable[[Any], th.Tensor]

#: network that learns, network for the next states, and batch, to the mean loss, to be differentiated, and the Q-values of all
#: actions, float (batch, n_actions)
Loss = Callable[[QFunction, QFunction, Any], tuple[th.Tensor, th.Tensor]]


class TDLoss:
    """
    Loss of temporal differences: what the network gives for the actions taken, against Q-learning's targets.

    :param objective: Q-values and targets, float (batch, 1), to losses (batch, 1)
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def __call__(self, q_net: QFunction, q_net_target: QFunction, batch: Any) -> tuple[th.Tensor, th.Tensor]:
        """
        :param q_net: the network that learns
        :param q_net_target: the network for the next states
        :param batch: observations, actions (batch, 1), rewards (batch, 1), discounts (batch, 1), next_observations
        :return: see ``Loss``
        """
        with th.no_grad():
            next_q_values = q_net_target(batch.next_observations)
            targets = q_learning_targets(batch.rewards, batch.discounts, next_q_values)
        all_q_values = q_net(batch.observations)
        q_values = th.gather(all_q_values, dim=1, index=batch.actions)
        return self.objective(q_values, targets).mean(), all_q_values


def fit_loss(q_net: QFunction, q_net_target: QFunction, batch: Any) -> tuple[th.Tensor, th.Tensor]:
    """
    Squared error of all actions' Q-values, summed over the actions and averaged over the batch.

    :param q_net: the network that learns
    :param q_net_target: not used
    :param batch: observations, and the q_values that they should have, float (batch, n_actions)
    :return: see ``Loss``
    """
    all_q_values = q_net(batch.observations)
    assert all_q_values.shape == batch.q_values.shape, (all_q_values.shape, batch.q_values.shape)
    return (all_q_values - batch.q_values).square().sum(dim=1).mean(), all_q_values


def report(loss: th.Tensor, all_q_values: th.Tensor) -> th.Tensor:
    """
    :param loss: of an update
    :param all_q_values: float (batch, n_actions)
    :return: what ``REPORTED`` names, float (5,)
    """
    with th.no_grad():
        q_values_variance, q_values_mean = th.var_mean(all_q_values, correction=0)
        return th.stack([loss, q_values_mean, all_q_values.min(), all_q_values.max(), q_values_variance])


class Learner:
    """
    Makes a loss smaller, step by step.

    :param q_net: observations to Q-values (batch, n_actions), learnt
    :param q_net_target: the same for the next states, copied now and then; may be ``q_net`` itself
    :param optimizer: of ``q_net``'s parameters
    :param loss: what to make smaller
    :param max_grad_norm: the gradient's norm is clipped to this; ``None`` for no clipping
    """

    def __init__(
        self,
        q_net: nn.Module,
        q_net_target: nn.Module,
        optimizer: th.optim.Optimizer,
        loss: Loss,
        max_grad_norm: float | None,
    ) -> None:
        self.q_net = q_net
        self.q_net_target = q_net_target
        self.optimizer = optimizer
        self.loss = loss
        self.max_grad_norm = max_grad_norm

    def update(self, batch: Any) -> th.Tensor:
        """
        One gradient step.

        :param batch: what the loss takes
        :return: what ``REPORTED`` names, float (5,), on the device and not waited for; Q-values are those of all
            actions before the step
        """
        self.q_net.train(True)
        loss, all_q_values = self.loss(self.q_net, self.q_net_target, batch)
        self.optimizer.zero_grad()
        loss.backward()
        if self.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(self.q_net.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return report(loss.detach(), all_q_values)

    def q_values(self, observations: Any) -> th.Tensor:
        """
        :param observations: as the environment gives them, (batch, *observation)
        :return: Q-values to play with, float32 (batch, n_actions)
        """
        self.q_net.train(False)
        with th.no_grad():
            return self.q_net(observations)

    def refresh(self) -> None:
        """Take over parameters of either network that somebody else has changed; nothing to do here."""

    def take_over_optimizer(self) -> None:
        """Compute the optimizer's steps in this learner's way, whatever the one did that its state was loaded from."""
        ways = self._optimizer_ways()
        for group in self.optimizer.param_groups:
            group.update(ways)
        for parameter, state in self.optimizer.state.items():
            if isinstance(state.get("step"), th.Tensor):  # these count where they compute
                on_device = ways.get("fused") or ways.get("capturable")
                state["step"] = state["step"].to(parameter.device if on_device else "cpu")

    def _optimizer_ways(self) -> dict[str, bool | None]:
        """
        :return: values of ``_WAYS``, those that the optimizer has
        """
        return {name: self.optimizer.defaults[name] for name in _WAYS if name in self.optimizer.defaults}


class UpdateReport:
    """
    Summarises what updates report. Their tensors stay on the device; they are fetched when somebody reads, or when a
    thousand have come together.
    """

    _FETCHED_TOGETHER = 1000

    def __init__(self) -> None:
        self._updates: list[th.Tensor] = []
        self._forget()

    def _forget(self) -> None:
        self._count = 0
        self._sums = np.zeros(3)  # of losses, means of Q-values, and means of their squares
        self._minimum, self._maximum = np.inf, -np.inf

    def add(self, update: th.Tensor) -> None:
        """
        :param update: what ``Learner.update`` returned; batches are of one size
        """
        self._updates.append(update)
        if len(self._updates) == self._FETCHED_TOGETHER:
            self._fetch()

    def _fetch(self) -> None:
        losses, means, minima, maxima, variances = th.stack(self._updates).cpu().numpy().astype(np.float64).T
        self._updates.clear()
        self._count += len(losses)
        self._sums += [losses.sum(), means.sum(), (variances + means**2).sum()]
        self._minimum, self._maximum = min(self._minimum, minima.min()), max(self._maximum, maxima.max())

    def read(self) -> dict[str, float]:
        """
        Wait for the device, summarise all updates since the last call, and forget them.

        :return: mean loss; mean, minimum, maximum and standard deviation of all Q-values. Empty without updates.
        """
        if self._updates:
            self._fetch()
        if self._count == 0:
            return {}
        loss, mean, mean_square = self._sums / self._count
        summary = {
            "loss": float(loss),
            "q_values_mean": float(mean),
            "q_values_min": float(self._minimum),
            "q_values_max": float(self._maximum),
            "q_values_std": float(np.sqrt(max(mean_square - mean**2, 0.0))),
        }
        self._forget()
        return summary
