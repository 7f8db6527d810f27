"""Folding the rewards of n steps into one return, as pure functions of arrays.

Source: Sutton 1988; as used in Hessel et al. 2018, "Rainbow", eq. for the n-step return, page 3.
"""

from typing import NamedTuple

import numpy as np


class NStepReturn(NamedTuple):
    """
    What n steps come to.

    :param returns: discounted sum of rewards, float32 (batch, 1)
    :param discounts: weight of the value behind the last step, ``gamma**k`` for k steps, float32 (batch, 1)
    :param last: how many steps behind the first one the last one is, int (batch,): k - 1
    """

    returns: np.ndarray
    discounts: np.ndarray
    last: np.ndarray


def fold(rewards: np.ndarray, ends: np.ndarray, gamma: float) -> NStepReturn:
    """
    Add up rewards until an episode ends, or all n of them.

    :param rewards: of consecutive steps, float32 (batch, n_steps)
    :param ends: where an episode ended after the step, or nothing is known of what followed, bool (batch, n_steps)
    :param gamma: discount factor of one step
    :return: the n-step returns
    """
    assert rewards.shape == ends.shape, (rewards.shape, ends.shape)
    n_steps = rewards.shape[1]
    last = np.where(ends.any(axis=1), ends.argmax(axis=1), n_steps - 1)
    counts = np.arange(n_steps)[None] <= last[:, None]
    discounts = gamma ** counts.sum(axis=1, keepdims=True).astype(np.float32)
    weights = gamma ** np.arange(n_steps, dtype=np.float32)[None]
    return NStepReturn((rewards * weights * counts).sum(axis=1, keepdims=True), discounts, last)
