"""DQN with the mellowmax of the next state's values in place of their maximum.

Sources: Asadi and Littman 2017, "An alternative softmax operator for reinforcement learning", https://arxiv.org/abs/1612.05628,
eq. 7; in DQN Kim et al. 2019, "DeepMellow", https://www.ijcai.org/proceedings/2019/379.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch as th

from sb3_atari_dqn import CustomDQN
from sb3_atari_dqn.checks import check_number
from sb3_atari_dqn.learning.losses import Loss, QFunction, TDLoss
from sb3_atari_dqn.learning.objectives import Outcome, make_objective


def mellowmax(q_values: th.Tensor, omega: float) -> th.Tensor:
    """
    ``log(mean_a exp(omega * Q(a))) / omega``, between mean and maximum.

    :param q_values: float (B, A)
    :param omega: how near it is to the maximum, above 0
    :return: float (B, 1)
    """
    return ((omega * q_values).logsumexp(dim=1, keepdim=True) - math.log(q_values.shape[1])) / omega


class MellowmaxBackup:
    """
    What came of the actions taken: the next state is worth the mellowmax of the target network's values.

    :param omega: see ``mellowmax``
    """

    def __init__(self, omega: float) -> None:
        self.omega = omega

    def __call__(self, q_net: QFunction, q_net_target: QFunction, batch: Any) -> Outcome:
        following = q_net_target(batch.next_observations).q_values
        return Outcome(batch.rewards, batch.discounts, mellowmax(following, self.omega))


class MellowmaxDQN(CustomDQN):
    """
    ``CustomDQN`` with a mellowmax.

    :param omega: see ``mellowmax``
    :param args: ``CustomDQN``'s arguments by position
    :param kwargs: and by name
    :raises ValueError: for a value out of its range, or beside what would have no effect
    """

    def __init__(self, *args: Any, omega: float = 10.0, **kwargs: Any) -> None:
        self.omega = omega  # before the model is built
        super().__init__(*args, **kwargs)

    @classmethod
    def check_values(cls, settings: Mapping[str, Any]) -> None:
        super().check_values(settings)
        check_number(settings, "omega", 1e-6)
        if (settings.get("policy_kwargs") or {}).get("distribution") is not None:
            raise ValueError("a mellowmax is taken of Q-values: leave distribution out")
        for name in ("double_q", "munchausen"):
            if settings.get(name):
                raise ValueError(f"{name}=True has no effect beside a mellowmax: leave it out")

    def _make_loss(self) -> Loss:
        return TDLoss(make_objective(self.loss, self.huber_delta), MellowmaxBackup(self.omega))
