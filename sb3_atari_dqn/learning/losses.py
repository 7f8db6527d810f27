"""What an update makes smaller: a network's action values, held against what the batch says.

Sources: Mnih et al. 2015, Algorithm 1; van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461 (double Q-learning);
Vieillard et al. 2020, https://arxiv.org/abs/2007.14430 (Munchausen); Hvass Pedersen 2017, TensorFlow tutorial 16
(``fit_loss``).
"""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple, Protocol

import torch as th

from sb3_atari_dqn.learning import targets
from sb3_atari_dqn.learning.objectives import Objective, Outcome, Prediction


class ActionValues(Protocol):
    """What a network says of all actions, such as ``networks.heads.ActionValues``."""

    @property
    def q_values(self) -> th.Tensor:
        """
        :return: expected returns, float (B, A)
        """

    @property
    def outputs(self) -> th.Tensor:
        """
        :return: numbers by which each action's return is described, float (B, A, N)
        """

    @property
    def positions(self) -> th.Tensor | None:
        """
        :return: atoms or fractions of quantiles, float (N,) or (B, N); a Q-value has none
        """


#: observations, as the environment gives them, to action values
QFunction = Callable[[Any], ActionValues]


class LossResult(NamedTuple):
    """
    :param loss: to be differentiated, float ()
    :param q_values: of all actions, float (B, A)
    :param priorities: how much is to be learnt from each sample, float (B,), at least 0
    """

    loss: th.Tensor
    q_values: th.Tensor
    priorities: th.Tensor


#: network that learns, network for the next states, and batch, to the loss
Loss = Callable[[QFunction, QFunction, Any], LossResult]

#: the same, to what came of the actions taken
Backup = Callable[[QFunction, QFunction, Any], Outcome]


def greedy_backup(q_net: QFunction, q_net_target: QFunction, batch: Any) -> Outcome:
    """
    Q-learning: the next action is the target network's best.

    :param q_net: not used
    :param q_net_target: the network for the next states
    :param batch: rewards (B, 1), discounts (B, 1), next_observations
    :return: what came of the actions taken
    """
    following = q_net_target(batch.next_observations)
    next_actions = targets.greedy_actions(following.q_values)
    return Outcome(batch.rewards, batch.discounts, targets.take_actions(following.outputs, next_actions))


def double_backup(q_net: QFunction, q_net_target: QFunction, batch: Any) -> Outcome:
    """
    Double Q-learning: the next action is the best of the network that learns, its return is the target network's.

    :param q_net: the network that learns
    :param q_net_target: the network for the next states
    :param batch: see ``greedy_backup``
    :return: what came of the actions taken
    """
    next_actions = targets.greedy_actions(q_net(batch.next_observations).q_values)
    following = q_net_target(batch.next_observations)
    return Outcome(batch.rewards, batch.discounts, targets.take_actions(following.outputs, next_actions))


class MunchausenBackup:
    """
    Munchausen: the policy is a softmax of the target network's Q-values; its logarithm for the action taken adds to the
    reward, and the next state's return is its average, with its entropy.

    :param entropy_temperature: of the softmax, the paper's tau, above 0
    :param alpha: weight of what adds to the reward, in [0, 1]
    :param clip: the least that counts of ``entropy_temperature * log pi``, the paper's l_0, below 0
    """

    def __init__(self, entropy_temperature: float = 0.03, alpha: float = 0.9, clip: float = -1.0) -> None:
        self.entropy_temperature = entropy_temperature
        self.alpha = alpha
        self.clip = clip

    def __call__(self, q_net: QFunction, q_net_target: QFunction, batch: Any) -> Outcome:
        temperature = self.entropy_temperature
        log_policy = targets.scaled_log_policy(q_net_target(batch.observations).q_values, temperature)
        bonus = targets.munchausen_rewards(log_policy.gather(1, batch.actions), self.alpha, self.clip)
        following = q_net_target(batch.next_observations)
        next_log_policy = targets.scaled_log_policy(following.q_values, temperature)
        next_returns = targets.soft_returns(following.outputs, next_log_policy, temperature)
        return Outcome(batch.rewards + bonus, batch.discounts, next_returns)


class TDLoss:
    """
    Loss of temporal differences: what the network says of the actions taken, against what came of them.

    :param objective: of each sample
    :param backup: what came of the actions taken
    """

    def __init__(self, objective: Objective, backup: Backup = greedy_backup) -> None:
        self.objective = objective
        self.backup = backup

    def __call__(self, q_net: QFunction, q_net_target: QFunction, batch: Any) -> LossResult:
        """
        :param q_net: the network that learns
        :param q_net_target: the network for the next states
        :param batch: observations, actions (B, 1), rewards (B, 1), discounts (B, 1), next_observations, weights (B, 1)
        :return: the loss
        """
        with th.no_grad():
            outcome = self.backup(q_net, q_net_target, batch)
        values = q_net(batch.observations)
        prediction = Prediction(targets.take_actions(values.outputs, batch.actions), values.positions)
        losses, priorities = self.objective(prediction, outcome)
        return LossResult((batch.weights.squeeze(1) * losses).mean(), values.q_values, priorities)


def fit_loss(q_net: QFunction, q_net_target: QFunction, batch: Any) -> LossResult:
    """
    Squared error of all actions' Q-values, summed over the actions and averaged over the batch.

    :param q_net: the network that learns
    :param q_net_target: not used
    :param batch: observations, and the q_values that they should have, float (B, A)
    :return: the loss
    """
    q_values = q_net(batch.observations).q_values
    assert q_values.shape == batch.q_values.shape, (q_values.shape, batch.q_values.shape)
    losses = (q_values - batch.q_values).square().sum(dim=1)
    return LossResult(losses.mean(), q_values, losses.detach())


def make_backup(
    double_q: bool, munchausen: bool, munchausen_kwargs: Mapping[str, float] | None, distribution: str | None = None
) -> Backup:
    """
    The backup that the keywords of an algorithm name.

    :param double_q: the next action is the best of the network that learns, not of the target network
    :param munchausen: a softmax in place of a best action, and its logarithm in the rewards
    :param munchausen_kwargs: arguments of ``MunchausenBackup``
    :param distribution: what the network gives, see ``make_objective``
    :return: the backup
    :raises ValueError: for a value that is not allowed, or choices that do not go together
    :raises TypeError: for an argument that ``MunchausenBackup`` does not have
    """
    if not munchausen:
        if munchausen_kwargs:
            raise ValueError(f"munchausen_kwargs={dict(munchausen_kwargs)} have no effect without munchausen=True")
        return double_backup if double_q else greedy_backup
    if double_q:
        raise ValueError("double_q=True has no effect with munchausen=True, which takes no best action: leave one of them out")
    if distribution == "categorical":
        raise ValueError(
            'munchausen=True does not work with distribution="categorical": choose "quantile", "implicit-quantile" or None'
        )
    kwargs = dict(munchausen_kwargs or {})
    ranges = {"entropy_temperature": "above 0", "alpha": "in [0, 1]", "clip": "below 0"}
    for name, value in kwargs.items():
        if name not in ranges:
            raise TypeError(f"munchausen_kwargs has no argument {name!r}; it has {', '.join(ranges)}")
        is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        allowed = {"entropy_temperature": value > 0, "alpha": 0 <= value <= 1, "clip": value < 0} if is_number else {}
        if not allowed.get(name, False):
            raise ValueError(f"{name}={value!r} in munchausen_kwargs must be a number {ranges[name]}")
    return MunchausenBackup(**kwargs)
