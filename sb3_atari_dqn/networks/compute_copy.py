"""Copies of a Q-network to compute with, laid out as processors like them.

The parameters of the policy stay float32; a copy holds them in another number format and memory layout
(Micikevicius et al. 2018, "Mixed precision training", section 3.1: a master copy of the weights).
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn
from torch.nn import functional as F

from sb3_atari_dqn.networks.extractors import ImpalaCNN, NatureCNN, NipsCNN, TutorialCNN
from sb3_atari_dqn.networks.heads import ActionValues, streams_of
from sb3_atari_dqn.networks.q_network import ActionValueNetwork

#: how extractors begin whose first layer is the first of ``cnn``; one of a user's own may do something before
_STARTS_WITH_CNN = (NatureCNN.forward, NipsCNN.forward, ImpalaCNN.forward, TutorialCNN.forward)

#: buffers of spectral normalisation, which go on with each forward pass that learns
_SINGULAR_VECTORS = ("._u", "._v")

_USE_THE_SLOW_ONE = 'use precision="float32" and accelerate="none"'

#: numbers of a parameter, about, that are compared to notice that it was changed
_SAMPLE_SIZE = 1024

#: sides of the patches that a first convolution is computed over: its stride, and the bytes of the words they are moved in
PATCH = 4


def pixels_to_patches(observations: th.Tensor) -> th.Tensor:
    """
    Space to depth: all pixels of a 4x4 patch as channels of one position.

    :param observations: uint8 (batch, channels, height, width), both a multiple of 4
    :return: uint8 (batch, channels * 16, height / 4, width / 4) in channels-last memory; channels in the order
        (channel, row in the patch, column in the patch)
    """
    batch, channels, height, width = observations.shape
    words = observations.contiguous().view(th.int32).reshape(batch, channels, height // PATCH, PATCH, width // PATCH)
    patches = words.permute(0, 2, 4, 1, 3).contiguous().view(th.uint8)
    return patches.view(batch, height // PATCH, width // PATCH, channels * PATCH**2).permute(0, 3, 1, 2)


class PatchConv2d(nn.Module):
    """
    A convolution with stride 4 as one with stride 1 over ``pixels_to_patches``: the same sums, on more channels at a time.

    :param conv: the convolution, its kernel a multiple of 4
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.kernel = conv.kernel_size[0] // PATCH, conv.kernel_size[1] // PATCH
        self.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, conv.in_channels * PATCH**2, *self.kernel))
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    def forward(self, patches: th.Tensor) -> th.Tensor:
        """
        :param patches: what ``pixels_to_patches`` gives, in the weights' number format
        :return: what the convolution gives for the pixels
        """
        return F.conv2d(patches, self.weight, self.bias)

    @staticmethod
    def can_replace(conv: nn.Conv2d, image_shape: tuple[int, ...]) -> bool:
        """
        :param conv: a convolution
        :param image_shape: what it is given, (channels, height, width)
        :return: whether this can be computed in its place
        """
        return (
            conv.stride == (PATCH, PATCH)
            and conv.padding == (0, 0)
            and conv.dilation == (1, 1)
            and conv.groups == 1
            and all(size % PATCH == 0 for size in (*conv.kernel_size, *image_shape[1:]))
        )


def _split_patches(weight: th.Tensor, kernel: tuple[int, int]) -> th.Tensor:
    """
    :param weight: of the convolution (out, in, 4 * rows, 4 * columns), or of its ``PatchConv2d`` (out, 16 * in, rows, columns)
    :param kernel: rows and columns
    :return: the same numbers (out, in, rows, 4, columns, 4); a view, of channels-last memory in the second case
    """
    rows, columns = kernel
    if weight.shape[2:] == kernel:
        channels_last = weight.permute(0, 2, 3, 1)
        return channels_last.reshape(len(weight), rows, columns, -1, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return weight.view(len(weight), -1, rows, PATCH, columns, PATCH)


class _Parameter(NamedTuple):
    """
    A parameter of the policy and its copy, ``own = scale * master``.

    :param kernel: of a ``PatchConv2d``, whose weights lie in another order; ``None`` for all others
    :param is_shared: whether both are one and the same memory
    """

    master: nn.Parameter
    own: nn.Parameter
    scale: float = 1.0
    kernel: tuple[int, int] | None = None
    is_shared: bool = False

    def views(self, own: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param own: the copy, or its gradient
        :return: master and ``own`` as views of one shape
        """
        if self.kernel is None:
            return self.master.detach(), own
        return _split_patches(self.master.detach(), self.kernel), _split_patches(own, self.kernel)


class _InFloat32(nn.Module):
    """
    A layer that computes in float32, whatever comes in.

    :param layer: the layer
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.to(th.float32)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: in any number format
        :return: what the layer gives, float32
        """
        return self.layer(inputs.float())


class ComputeCopy(nn.Module):
    """
    A copy of a Q-network in another number format and channels-last memory, given pixels as they are.

    Pixels are whole numbers up to 255, which bfloat16 holds exactly: they are not scaled, the weights of the first
    convolution are. The output layers stay float32: bfloat16 tells a Q-value of 1 from 1.008 and not from 1.004, which is as
    much as often lies between two actions.

    :param q_net: an ``ActionValueNetwork``
    :param dtype: number format to compute in
    :raises ValueError: for a network that is put together in another way, or that keeps running statistics
    """

    def __init__(self, q_net: nn.Module, dtype: th.dtype) -> None:
        super().__init__()
        if not isinstance(q_net, ActionValueNetwork) or any(
            getattr(type(q_net), name) is not getattr(ActionValueNetwork, name)
            for name in ("forward", "action_values", "extract_features")
        ):
            raise ValueError(
                f"{type(q_net).__name__} cannot be accelerated: it is not a features extractor with this package's layers "
                f"behind it; {_USE_THE_SLOW_ONE}"
            )
        if len(list(q_net.named_parameters(remove_duplicate=False))) != len(list(q_net.parameters())):
            raise ValueError(f"{type(q_net).__name__} cannot be accelerated: its layers share parameters; {_USE_THE_SLOW_ONE}")
        space: spaces.Space[Any] = q_net.observation_space
        if not isinstance(space, spaces.Box):
            raise ValueError(f"Observations in {space} cannot be accelerated: they are not one array; {_USE_THE_SLOW_ONE}")
        for name, _ in q_net.named_buffers():
            if not name.endswith(_SINGULAR_VECTORS):
                raise ValueError(
                    f"{type(q_net).__name__} cannot be accelerated: it keeps running statistics ({name}); {_USE_THE_SLOW_ONE}"
                )
        self.dtype = dtype
        self.features_extractor = copy.deepcopy(q_net.features_extractor)
        self.q_net = copy.deepcopy(q_net.q_net)
        self.distribution = copy.deepcopy(q_net.distribution)
        self.n_actions = q_net.n_actions
        scale = 1 / 255 if q_net.normalize_images and is_image_space(space) else 1.0

        self._input_scale = scale
        self._takes_patches = False
        first: nn.Conv2d | PatchConv2d | None = None
        if type(self.features_extractor).forward in _STARTS_WITH_CNN:
            layers = self.features_extractor.cnn
            assert isinstance(layers, nn.Sequential)
            if isinstance(layers[0], nn.Conv2d):
                self._input_scale = 1.0
                self._takes_patches = space.dtype == np.uint8 and PatchConv2d.can_replace(layers[0], space.shape or ())
                first = PatchConv2d(layers[0]) if self._takes_patches else layers[0]
                layers[0] = first
        self.to(dtype=dtype, memory_format=th.channels_last)  # type: ignore[call-overload]
        for stream in streams_of(self.q_net):
            stream[-1] = _InFloat32(stream[-1])

        self._parameters_of_both: list[_Parameter] = []
        for part in ("features_extractor", "q_net", "distribution"):
            masters: list[nn.Parameter] = list(getattr(q_net, part).parameters())
            for master, own in zip(masters, getattr(self, part).parameters(), strict=True):
                is_shared = own.dim() < 4 and own.dtype == master.dtype  # it lies as it should
                parameter = _Parameter(master, own, is_shared=is_shared)
                if first is not None and own is first.weight:
                    kernel = first.kernel if isinstance(first, PatchConv2d) else None
                    parameter = parameter._replace(scale=scale, kernel=kernel)
                self._parameters_of_both.append(parameter)
        self._singular_vectors = list(self.buffers())
        self._singular_vectors_of_master = list(q_net.buffers())
        self._attached_to: list[tuple[int, bool]] = []
        self.follow()

    def forward(self, observations: th.Tensor) -> ActionValues:
        """
        :param observations: as the environment gives them, (batch, *observation)
        :return: action values, float32, with noise and random quantiles as ``ActionValueNetwork.action_values``
        """
        if self._takes_patches:
            inputs = pixels_to_patches(observations.to(th.uint8)).to(self.dtype)  # an environment may give another dtype
        elif observations.dim() == 4:
            inputs = observations.to(self.dtype, memory_format=th.channels_last)
        else:
            inputs = observations.to(self.dtype)
        if self._input_scale != 1.0:
            inputs = inputs * self._input_scale
        return self.distribution(self.features_extractor(inputs), self.q_net, self.n_actions)

    def follow(self) -> bool:
        """
        Take over what has been done to the parameters of the policy since ``remember``: other values, other memory, frozen.

        Other values are noticed by PyTorch's version counters. Writing through ``.data`` does not count there; on the CPU a
        thousand numbers of each parameter are compared as well, which a layer, row or column that was set anew does not pass.

        :return: whether it was more than other values
        """
        attached_to = [(parameter.master.data_ptr(), parameter.master.requires_grad) for parameter in self._parameters_of_both]
        has_other_memory = attached_to != self._attached_to
        if has_other_memory:
            self._attach()
            self._attached_to = attached_to
        elif self._versions == self._versions_of_master() and th.equal(self._sample, self._sample_of_master()):
            return False
        self.refresh()
        self.remember()
        return has_other_memory

    def _attach(self) -> None:
        """Share memory with the parameters of the policy that need no other layout, and choose numbers to compare."""
        self._samples_of_master: list[th.Tensor] = []
        for parameter in self._parameters_of_both:
            parameter.own.requires_grad_(parameter.master.requires_grad)
            if parameter.is_shared:
                parameter.own.data = parameter.master.data
            elif parameter.master.device.type == "cpu":  # elsewhere the comparison would wait for the device
                master = parameter.master.detach()
                step = (master.numel() // _SAMPLE_SIZE) | 1  # odd: no column of a matrix is passed over each time
                self._samples_of_master.append(master.as_strided((-(-master.numel() // step),), (step,)))

    def remember(self) -> None:
        """Take the parameters of the policy for those that the copy has."""
        self._versions = self._versions_of_master()
        self._sample = self._sample_of_master()

    def _versions_of_master(self) -> list[int]:
        copied = [parameter.master for parameter in self._parameters_of_both if not parameter.is_shared]
        return [tensor._version for tensor in (*copied, *self._singular_vectors_of_master)]

    def _sample_of_master(self) -> th.Tensor:
        return th.cat(self._samples_of_master) if self._samples_of_master else th.zeros(0)

    @th.no_grad()
    def refresh(self) -> None:
        """Copy the parameters of the policy."""
        if self._singular_vectors:
            th._foreach_copy_(self._singular_vectors, self._singular_vectors_of_master)
        views = [parameter.views(parameter.own.detach()) for parameter in self._parameters_of_both if not parameter.is_shared]
        if views:
            th._foreach_copy_([own for _, own in views], [master for master, _ in views])
        for parameter in self._parameters_of_both:
            if parameter.scale != 1.0:
                parameter.own.mul_(parameter.scale)

    @th.no_grad()
    def set_gradients(self, gradients: Sequence[th.Tensor | None]) -> None:
        """
        Hand over what an update has found out: gradients, and the singular vectors of spectral normalisation.

        :param gradients: of those of the copy's parameters that are learnt, in their order, None for one that was not used;
            the policy's are set to them
        """
        targets, sources = list(self._singular_vectors_of_master), list(self._singular_vectors)
        learnt = [parameter for parameter in self._parameters_of_both if parameter.own.requires_grad]
        for parameter in self._parameters_of_both:
            if not parameter.own.requires_grad:
                parameter.master.grad = None
        for parameter, gradient in zip(learnt, gradients, strict=True):
            master = parameter.master
            if gradient is None or parameter.is_shared:
                master.grad = gradient
                continue
            if master.grad is None:
                master.grad = th.empty_like(master)
            if parameter.kernel is None:
                targets.append(master.grad)
                sources.append(gradient)
            else:
                targets.append(_split_patches(master.grad, parameter.kernel))
                sources.append(_split_patches(gradient, parameter.kernel))
        if targets:
            th._foreach_copy_(targets, sources)
        for parameter in learnt:
            if parameter.scale != 1.0 and parameter.master.grad is not None:
                parameter.master.grad.mul_(parameter.scale)
