"""One gradient step, eager and plain to read; and what it reports, which never waits for the device."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch as th
from torch import nn

from sb3_atari_dqn.learning.losses import ActionValues, Loss, LossResult, QFunction

#: what one update reports, in the order of ``Learner.update``'s tensor
REPORTED = ("loss", "q_values_mean", "q_values_min", "q_values_max", "q_values_variance")

#: arguments of PyTorch's optimizers that say how a step is computed, not what comes out
_WAYS = ("fused", "foreach", "capturable")


class Update(NamedTuple):
    """
    What an update gives back, on the device and not waited for.

    :param report: what ``REPORTED`` names, float (5,)
    :param priorities: of the batch's samples, float (B,)
    """

    report: th.Tensor
    priorities: th.Tensor


class _QValuesOnly(NamedTuple):
    q_values: th.Tensor

    @property
    def outputs(self) -> th.Tensor:
        return self.q_values.unsqueeze(2)

    @property
    def positions(self) -> None:
        return None


def q_function(q_net: nn.Module) -> QFunction:
    """
    :param q_net: a network of ours, with ``action_values``, or any that gives Q-values (B, A); a class that gives these in a
        way of its own, by a ``forward`` below ``action_values``, is taken at its word
    :return: observations to action values
    """
    order = [base for base in type(q_net).__mro__ if {"action_values", "forward"} & vars(base).keys()]
    if "action_values" in vars(order[0]):
        return q_net.action_values  # type: ignore[return-value]  # a method
    return lambda observations: _QValuesOnly(q_net(observations))


def in_its_mode(network: nn.Module, values: QFunction) -> QFunction:
    """
    Dropout and batch statistics are for what is differentiated; targets, next actions and actions to explore with are
    computed in evaluation mode, as Stable-Baselines3's target network is.

    :param network: the network whose mode is set
    :param values: its observations to action values
    :return: the same, in training mode where gradients are enabled and in evaluation mode elsewhere
    """
    network.train(network.training)  # the mode of the whole is that of each layer, those that were replaced too

    def values_in_mode(observations: Any) -> ActionValues:
        if network.training != th.is_grad_enabled():
            network.train(th.is_grad_enabled())
        return values(observations)

    return values_in_mode


def summarize(result: LossResult) -> Update:
    """
    :param result: of an update
    :return: what is reported of it
    """
    with th.no_grad():
        q_values = result.q_values
        variance, mean = th.var_mean(q_values, correction=0)
        report = th.stack([result.loss, mean, q_values.min(), q_values.max(), variance])
    return Update(report.detach(), result.priorities)


class Learner:
    """
    Makes a loss smaller, step by step.

    :param q_net: see ``q_function``, learnt
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
        self._q_function = in_its_mode(q_net, q_function(q_net))
        self._target_q_function = in_its_mode(q_net_target, q_function(q_net_target))
        self._take_over_optimizer()

    def update(self, batch: Any) -> Update:
        """
        One gradient step.

        :param batch: what the loss takes
        :return: what is reported of it; Q-values are those of all actions before the step
        """
        result = self.loss(self._q_function, self._target_q_function, batch)
        self.optimizer.zero_grad()
        result.loss.backward()
        if self.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(self.q_net.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return summarize(result)

    def q_values(self, observations: Any) -> th.Tensor:
        """
        :param observations: as the environment gives them, (batch, *observation)
        :return: Q-values to explore with, float32 (batch, n_actions)
        """
        with th.no_grad():
            return self._q_function(observations).q_values

    def refresh(self) -> None:
        """Take over the parameters of both networks, after a copy to the target network; nothing to do here."""

    def _take_over_optimizer(self) -> None:
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

    def add(self, report: th.Tensor) -> None:
        """
        :param report: of an update; batches are of one size
        """
        self._updates.append(report)
        if len(self._updates) == self._FETCHED_TOGETHER:
            self._fetch()

    def _fetch(self) -> None:
        losses, means, minima, maxima, variances = th.stack(self._updates).cpu().numpy().astype(np.float64).T
        self._updates.clear()
        self._count += len(losses)
        self._sums += [losses.sum(), means.sum(), (variances + means**2).sum()]
        self._minimum, self._maximum = min(self._minimum, minima.min()), max(self._maximum, maxima.max())

    def get_state(self) -> dict[str, Any]:
        """
        :return: what has come since the last ``read``
        """
        fetched = th.stack(self._updates).cpu().numpy() if self._updates else np.zeros((0, len(REPORTED)), dtype=np.float32)
        extremes = [float(self._minimum), float(self._maximum)]
        return {"updates": fetched, "count": self._count, "sums": self._sums.copy(), "extremes": extremes}

    def set_state(self, state: Mapping[str, Any], device: th.device) -> None:
        """
        :param state: what ``get_state`` gave
        :param device: where updates are made
        """
        self._updates = list(th.tensor(state["updates"], device=device))
        self._count, self._sums = state["count"], state["sums"].copy()
        self._minimum, self._maximum = state["extremes"]

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
