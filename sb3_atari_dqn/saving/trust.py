"""What a file may name. Everything else is refused, unless whoever loads it says that it is to be trusted.

A name in a file becomes an import and, sooner or later, a call. Named can be the classes of Stable-Baselines3, sb3-contrib,
PyTorch and this package that models are put together from: they take numbers and spaces and make networks.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import torch as th
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

__all__ = ["HOW_TO_TRUST", "UntrustedFileError", "check_policy_names", "class_name", "find_class"]

#: what to do if a file is refused
HOW_TO_TRUST = "If you trust whoever made it, load it with --trust (in Python: trust=True), which runs what is in it"

#: modules that may be named, and what a class of theirs must be
MODULES: dict[str, type] = {
    "sb3_atari_dqn.networks.policy": BasePolicy,
    "sb3_atari_dqn.networks.extractors": BaseFeaturesExtractor,
    "sb3_atari_dqn.networks.optimizers": th.optim.Optimizer,
    "sb3_atari_dqn.replay.buffer": BaseBuffer,
    "stable_baselines3.common.policies": BasePolicy,
    "stable_baselines3.dqn.policies": BasePolicy,
    "stable_baselines3.sac.policies": BasePolicy,
    "stable_baselines3.td3.policies": BasePolicy,
    "sb3_contrib.ars.policies": BasePolicy,
    "sb3_contrib.common.recurrent.policies": BasePolicy,
    "sb3_contrib.crossq.policies": BasePolicy,
    "sb3_contrib.qrdqn.policies": BasePolicy,
    "sb3_contrib.tqc.policies": BasePolicy,
    "stable_baselines3.common.torch_layers": BaseFeaturesExtractor,
    "stable_baselines3.common.sb2_compat.rmsprop_tf_like": th.optim.Optimizer,
    "stable_baselines3.common.buffers": BaseBuffer,
    "stable_baselines3.her.her_replay_buffer": BaseBuffer,
    "sb3_contrib.common.recurrent.buffers": BaseBuffer,
    "torch.nn": nn.Module,
    "torch.nn.modules.activation": nn.Module,
    "torch.optim": th.optim.Optimizer,
} | {
    found.__module__: th.optim.Optimizer
    for found in vars(th.optim).values()
    if isinstance(found, type) and issubclass(found, th.optim.Optimizer)
}


class UntrustedFileError(ValueError):
    """A file names something that is not allowed."""


def find_class(name: str, trust: bool = False) -> type:
    """
    :param name: ``"package.module.Class"``, as a file has it
    :param trust: whether any class may be named; its module is imported
    :return: the class
    :raises UntrustedFileError: if it is not among those that may be named; nothing is imported then
    :raises ValueError: if it does not exist
    """
    module, _, attribute = name.rpartition(".")
    base = MODULES.get(module)
    if base is None and not trust:
        raise UntrustedFileError(
            f"it names {name!r}, which is none of the policies, networks, optimizers and buffers that models are made of, so "
            f"reading it could run any code. {HOW_TO_TRUST}"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"it names {name!r}, which is not there: {error}") from error
    if not isinstance(found, type) or (base is not None and not trust and not issubclass(found, base)):
        raise UntrustedFileError(f"it names {name!r}, which is not a class of the kind that a model has there. {HOW_TO_TRUST}")
    return found


def class_name(named: type) -> str:
    """
    :param named: a class
    :return: the name that ``find_class`` takes
    :raises ValueError: for a class that other programs cannot import by a name
    """
    if named.__module__ == "__main__" or "<locals>" in named.__qualname__ or "." in named.__qualname__:
        raise ValueError(
            f"{named!r} cannot be named in a file: put the class into a module of its own, where it can be imported"
        )
    return f"{named.__module__}.{named.__qualname__}"


def check_policy_names(policy_kwargs: Mapping[str, Any]) -> None:
    """
    :param policy_kwargs: a policy's arguments, as a file has them
    :raises UntrustedFileError: if a class in them is given as ``"package.module.Class"``, which the policy would import, and
        may not be named
    """
    for name in ("features_extractor_class", "optimizer_class", "activation_fn"):
        value = policy_kwargs.get(name)
        if isinstance(value, str) and "." in value:
            find_class(value)
