"""Optimizers by name, and TensorFlow's RMSprop for large layers."""

from collections.abc import Callable

import torch as th
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn

from sb3_atari_dqn.checks import find_by_name

__all__ = ["CachedRMSpropTFLike", "resolve_optimizer"]

#: numbers of a parameter that are worked on at a time: they, their gradients and their running squares stay in the cache
CHUNK = 2**18


class CachedRMSpropTFLike(RMSpropTFLike):
    """
    Stable-Baselines3's ``RMSpropTFLike``, bit for bit, with a step that goes through a large layer once and not five times.

    TensorFlow's RMSprop: ``square = alpha * square + (1 - alpha) * gradient**2``, which starts at one, and
    ``weight -= lr * gradient / sqrt(square + eps)``.
    """

    @th.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # as SB3's
        """
        :param closure: see ``torch.optim.Optimizer.step``
        :return: what it returned
        """
        if any(group["centered"] or group["momentum"] > 0 for group in self.param_groups):
            return super().step(closure)
        loss = None
        if closure is not None:
            with th.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group["lr"], group["alpha"], group["eps"], group["weight_decay"])
        return loss

    def _step(self, parameter: nn.Parameter, lr: float, alpha: float, eps: float, weight_decay: float) -> None:
        """
        :param parameter: with a gradient
        :param lr: learning rate
        :param alpha: decay of the running square
        :param eps: inside the root
        :param weight_decay: L2 penalty
        """
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["square_avg"] = th.ones_like(parameter, memory_format=th.contiguous_format)
        state["step"] += 1
        size = CHUNK if parameter.device.type == "cpu" else parameter.numel()
        weights = parameter.view(-1)
        chunks = (tensor.split(size) for tensor in (weights, parameter.grad.reshape(-1), state["square_avg"].view(-1)))
        for weight, gradient, square in zip(*chunks, strict=True):
            if weight_decay != 0:
                gradient = gradient.add(weight, alpha=weight_decay)
            square.mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
            weight.addcdiv_(gradient, square.add(eps).sqrt_(), value=-lr)


def resolve_optimizer(optimizer: str | type[th.optim.Optimizer]) -> type[th.optim.Optimizer]:
    """
    :param optimizer: an optimizer, the name of one of PyTorch's or ``"RMSpropTFLike"``, or ``"package.module.Class"``
    :return: the class
    :raises ValueError: for a name that is none of these, or LBFGS, whose steps are of another kind
    """
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer == "RMSpropTFLike":
        return CachedRMSpropTFLike
    found = find_by_name(optimizer, "torch.optim")
    if not (isinstance(found, type) and issubclass(found, th.optim.Optimizer)) or found is th.optim.LBFGS:
        raise ValueError(
            f"optimizer_class={optimizer!r} is not known; choose RMSpropTFLike or one of torch.optim's, such as Adam, or give "
            "'package.module.Class'"
        )
    return found
