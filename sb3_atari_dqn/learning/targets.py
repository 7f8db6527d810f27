"""Targets that Q-values are fitted to.

Pure functions of tensors. Every end of an episode reaches them as one number per transition,
``discounts = gamma**k * (1 - terminal)``: zero where nothing follows, and there is no other flag.
"""

import torch as th


def q_learning_targets(rewards: th.Tensor, discounts: th.Tensor, next_q_values: th.Tensor) -> th.Tensor:
    """
    One-step (or folded n-step) targets of Q-learning, ``y = r + discount * max_a Q(s', a)``.

    Mnih et al. 2015, "Human-level control through deep reinforcement learning", Algorithm 1.

    :param rewards: what was earned on the way to the next state, float (batch, 1)
    :param discounts: weight of the next state's value, float (batch, 1); 0 for a terminal state
    :param next_q_values: Q-values of the next state, float (batch, n_actions)
    :return: targets, float (batch, 1)
    """
    assert rewards.shape == discounts.shape == (len(next_q_values), 1), (rewards.shape, discounts.shape, next_q_values.shape)
    return rewards + discounts * next_q_values.max(dim=1, keepdim=True).values
