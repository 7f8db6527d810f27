"""One gradient step, eager and plain to read; and what it reports, which never waits for the device.

Source: Mnih et al. 2015, Algorithm 1.
"""

from collections import deque
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_atari_dqn.learning.objectives import Objective
from sb3_atari_dqn.learning.targets import q_learning_targets

#: what one update reports, in the order of ``Learner.update``'s tensor
REPORTED = ("loss", "q_values_mean", "q_values_min", "q_values_max", "q_values_variance")


class Learner:
    """
    Fits ``q_net`` to the targets that ``q_net_target`` gives.

    :param q_net: observations to Q-values (batch, n_actions), learnt
    :param q_net_target: the same for the next states, not learnt here; may be ``q_net`` itself
    :param optimizer: of ``q_net``'s parameters
    :param objective: Q-values and targets, float (batch, 1), to losses (batch, 1)
    :param max_grad_norm: the gradient's norm is clipped to this
    """

    def __init__(
        self,
        q_net: nn.Module,
        q_net_target: nn.Module,
        optimizer: th.optim.Optimizer,
        objective: Objective,
        max_grad_norm: float,
    ) -> None:
        self.q_net = q_net
        self.q_net_target = q_net_target
        self.optimizer = optimizer
        self.objective = objective
        self.max_grad_norm = max_grad_norm

    def update(self, batch: Any) -> th.Tensor:
        """
        One gradient step.

        :param batch: observations, actions (batch, 1), rewards (batch, 1), discounts (batch, 1), next_observations
        :return: what ``REPORTED`` names, float (5,), on the device and not waited for; Q-values are those of all
            actions before the step
        """
        with th.no_grad():
            next_q_values = self.q_net_target(batch.next_observations)
            targets = q_learning_targets(batch.rewards, batch.discounts, next_q_values)

        all_q_values = self.q_net(batch.observations)
        q_values = th.gather(all_q_values, dim=1, index=batch.actions)
        loss = self.objective(q_values, targets).mean()

        self.optimizer.zero_grad()
        loss.backward()
        th.nn.utils.clip_grad_norm_(self.q_net.parameters(), self.max_grad_norm)
        self.optimizer.step()

        with th.no_grad():
            q_values_variance, q_values_mean = th.var_mean(all_q_values, correction=0)
            return th.stack([loss, q_values_mean, all_q_values.min(), all_q_values.max(), q_values_variance])


class UpdateReport:
    """
    Collects what updates report, on their device, until somebody wants to read it.

    :param maxlen: updates kept; older ones are forgotten if nobody reads
    """

    def __init__(self, maxlen: int = 10_000) -> None:
        self._updates: deque[th.Tensor] = deque(maxlen=maxlen)

    def add(self, update: th.Tensor) -> None:
        """
        :param update: what ``Learner.update`` returned
        """
        self._updates.append(update)

    def read(self) -> dict[str, float]:
        """
        Wait for the device, summarise all updates since the last call, and forget them.

        :return: mean loss; mean, minimum, maximum and standard deviation of all Q-values. Empty without updates.
        """
        if not self._updates:
            return {}
        losses, means, minima, maxima, variances = th.stack(tuple(self._updates)).double().cpu().numpy().T
        self._updates.clear()
        return {
            "loss": float(losses.mean()),
            "q_values_mean": float(means.mean()),
            "q_values_min": float(minima.min()),
            "q_values_max": float(maxima.max()),
            # batches are of one size: the variance of all is the mean variance plus the variance of the means
            "q_values_std": float(np.sqrt(variances.mean() + means.var())),
        }
