"""Targets that Q-values, or distributions of returns, are fitted to.

Pure functions of tensors. Every end of an episode reaches them as one number per transition,
``discounts = gamma**k * (1 - terminal)``: zero where nothing follows, and there is no other flag.

Conventions: B is the batch, A the actions, N the numbers by which the return of one action is described; 1 for a Q-value.
"""

import torch as th


def take_actions(outputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """
    :param outputs: of all actions, (B, A, N)
    :param actions: one for each state, int64 (B, 1)
    :return: of these actions, (B, N)
    """
    assert actions.shape == (len(outputs), 1), (actions.shape, outputs.shape)
    return outputs.gather(1, actions.unsqueeze(2).expand(-1, -1, outputs.shape[2])).squeeze(1)


def greedy_actions(q_values: th.Tensor) -> th.Tensor:
    """
    Of the target network for Q-learning (Mnih et al. 2015, "Human-level control through deep reinforcement learning",
    Algorithm 1); of the network that learns for double Q-learning (van Hasselt et al. 2016,
    https://arxiv.org/abs/1509.06461, eq. 4).

    :param q_values: float (B, A)
    :return: actions with the highest value, int64 (B, 1)
    """
    return q_values.argmax(dim=1, keepdim=True)


def bellman_targets(rewards: th.Tensor, discounts: th.Tensor, next_returns: th.Tensor) -> th.Tensor:
    """
    ``reward + discount * next return``, for Q-values and for each number of a distribution.

    :param rewards: what was earned on the way to the next state, float (B, 1)
    :param discounts: weight of the next state's value, float (B, 1); 0 for a terminal state
    :param next_returns: of the next state, float (B, N)
    :return: targets, float (B, N)
    """
    assert rewards.shape == discounts.shape == (len(next_returns), 1), (rewards.shape, discounts.shape, next_returns.shape)
    return rewards + discounts * next_returns


def project_distribution(returns: th.Tensor, probabilities: th.Tensor, atoms: th.Tensor) -> th.Tensor:
    """
    A distribution of arbitrary returns as one of fixed atoms: each return's probability goes to its two neighbours, in
    proportion to how near it is; returns beyond the atoms go to the last one (Bellemare et al. 2017,
    https://arxiv.org/abs/1707.06887, eq. 7).

    :param returns: float (B, N)
    :param probabilities: of each, float (B, N)
    :param atoms: equally spaced, ascending, float (M,)
    :return: probabilities of the atoms, float (B, M)
    """
    assert returns.shape == probabilities.shape, (returns.shape, probabilities.shape)
    spacing = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    clipped = th.minimum(th.maximum(returns, atoms[0]), atoms[-1])
    distances = (clipped.unsqueeze(1) - atoms.unsqueeze(1)).abs() / spacing  # (B, M, N)
    return ((1 - distances).clamp(min=0) * probabilities.unsqueeze(1)).sum(dim=2)


def scaled_log_policy(q_values: th.Tensor, temperature: float) -> th.Tensor:
    """
    ``temperature * log softmax(q_values / temperature)``, Munchausen's policy (Vieillard et al. 2020,
    https://arxiv.org/abs/2007.14430, appendix B.1).

    :param q_values: float (B, A)
    :param temperature: the paper's tau
    :return: float (B, A), at most 0
    """
    return temperature * (q_values / temperature).log_softmax(dim=1)


def munchausen_rewards(scaled_log_probabilities: th.Tensor, alpha: float, clip: float) -> th.Tensor:
    """
    What Munchausen adds to a reward: ``alpha * clip(temperature * log pi(action))`` (Vieillard et al. 2020, eq. 1).

    :param scaled_log_probabilities: ``temperature * log pi`` of the actions taken, float (B, 1)
    :param alpha: weight
    :param clip: the least that counts, the paper's l_0, below 0
    :return: float (B, 1), at most 0
    """
    return alpha * scaled_log_probabilities.clamp(min=clip, max=0)


def soft_returns(outputs: th.Tensor, scaled_log_policy: th.Tensor, temperature: float) -> th.Tensor:
    """
    ``sum_a pi(a) * (return(a) - temperature * log pi(a))``: the next state's return in place of the best action's (Vieillard
    et al. 2020, eq. 1; for quantiles appendix B.1, "Munchausen-IQN").

    :param outputs: returns of all actions, Q-values or quantiles, float (B, A, N)
    :param scaled_log_policy: ``temperature * log pi`` of all actions, float (B, A)
    :param temperature: the paper's tau
    :return: float (B, N)
    """
    scaled_log_policy = scaled_log_policy.unsqueeze(2)
    return ((scaled_log_policy / temperature).exp() * (outputs - scaled_log_policy)).sum(dim=1)
