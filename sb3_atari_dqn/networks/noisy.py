"""Noisy layers: exploration by noise in the weights, learnt with them.

Source: Fortunato et al. 2018, "Noisy networks for exploration", https://arxiv.org/abs/1706.10295, factorised Gaussian noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th
from torch import nn
from torch.nn import functional as F


class NoisyLinear(nn.Linear):
    """
    A fully connected layer ``y = (weight + weight_sigma * noise) x + bias + bias_sigma * noise`` (eq. 9).

    Each forward pass draws noise of its own, one for the whole batch. ``weight`` and ``bias``, the paper's mu, start as
    ``nn.Linear``'s do, which is how the paper has it (section 3.2); the sigmas start at ``sigma / sqrt(in_features)``.

    :param in_features: inputs
    :param out_features: outputs
    :param sigma: the paper's sigma_0, 0.5 there
    """

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__(in_features, out_features)
        self.has_noise = True
        start = sigma / in_features**0.5
        self.weight_sigma = nn.Parameter(th.full_like(self.weight, start))
        self.bias_sigma = nn.Parameter(th.full_like(self.bias, start))

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: float (batch, in_features)
        :return: float (batch, out_features)
        """
        outputs = super().forward(inputs)
        if not self.has_noise:
            return outputs
        noise_in, noise_out = self._draw(self.in_features), self._draw(self.out_features)
        # (weight_sigma * outer(noise_out, noise_in)) inputs, without making that matrix
        return outputs + noise_out * F.linear(inputs * noise_in, self.weight_sigma, self.bias_sigma)

    def _draw(self, size: int) -> th.Tensor:
        """
        :param size: how many
        :return: ``sign(x) * sqrt(|x|)`` of normal x (eq. 11), float (size,)
        """
        normal = th.randn(size, device=self.weight.device)
        return (normal.sign() * normal.abs().sqrt()).to(self.weight.dtype)


@contextmanager
def without_noise(network: nn.Module) -> Iterator[None]:
    """
    :param network: its noisy layers compute with ``weight`` and ``bias`` alone meanwhile
    """
    noisy = [module for module in network.modules() if isinstance(module, NoisyLinear) and module.has_noise]
    for module in noisy:
        module.has_noise = False
    try:
        yield
    finally:
        for module in noisy:
            module.has_noise = True
