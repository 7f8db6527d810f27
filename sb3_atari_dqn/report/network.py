"""What a network sees and makes of it: Q-values, outputs and weights of its convolutions, saliency.

For any model with a Q-network: ``CustomDQN``, ``SweepDQN``, Stable-Baselines3's ``DQN``, sb3-contrib's ``QRDQN``.

Sources: Hvass Pedersen 2017, TensorFlow tutorial 16 (outputs and weights of layers); Simonyan et al. 2013, "Deep inside
convolutional networks", https://arxiv.org/abs/1312.6034, section 3 (saliency).
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_atari_dqn.networks.q_network import ActionValueNetwork


class ReturnDistribution(NamedTuple):
    """
    What a distributional network says of each action's return.

    :param returns: float32 (n_actions, N)
    :param probabilities: of each, float32 (n_actions, N), adding up to 1 for each action
    """

    returns: np.ndarray
    probabilities: np.ndarray


def find_q_network(model: BaseAlgorithm) -> nn.Module:
    """
    :param model: a model with Q-values
    :return: the network that it plays with
    :raises ValueError: if it has none
    """
    for name in ("q_net", "quantile_net"):
        network = getattr(model.policy, name, None)
        if isinstance(network, nn.Module):
            return network
    raise ValueError(f"{type(model).__name__} has no Q-network to look into")


def _find_policy(model: BaseAlgorithm) -> BasePolicy:
    assert isinstance(model.policy, BasePolicy)
    return model.policy


def _q_values(network: nn.Module, observations: Any) -> th.Tensor:
    """
    :return: float (batch, n_actions)
    """
    outputs = network(observations)
    return outputs.mean(dim=1) if outputs.dim() == 3 else outputs  # QR-DQN: (batch, n_quantiles, n_actions)


def q_values(model: BaseAlgorithm, observations: np.ndarray) -> np.ndarray:
    """
    :param model: see ``find_q_network``
    :param observations: one as the environment gives it, or a batch of them
    :return: Q-values to play with, float32 (batch, n_actions)
    :raises ValueError: if the model has no Q-network
    """
    network = find_q_network(model)
    network.train(False)
    with th.no_grad():
        return _q_values(network, _find_policy(model).obs_to_tensor(observations)[0]).cpu().numpy()


def return_distribution(model: BaseAlgorithm, observation: np.ndarray) -> ReturnDistribution | None:
    """
    :param model: see ``find_q_network``
    :param observation: one, as the environment gives it
    :return: returns and their probabilities; None for a network that knows expected returns only
    :raises ValueError: if the model has no Q-network
    """
    network = find_q_network(model)
    network.train(False)
    tensor = _find_policy(model).obs_to_tensor(observation)[0]
    with th.no_grad():
        if isinstance(network, ActionValueNetwork):
            values = network.play_values(tensor)
            if values.positions is None:
                return None
            returns = values.outputs[0]
            probabilities = th.full_like(returns, 1 / returns.shape[1])
            if network.distribution_name == "categorical":
                returns, probabilities = values.positions.expand_as(returns), returns.softmax(dim=1)
        else:
            outputs = network(tensor)
            if outputs.dim() != 3:
                return None
            returns = outputs[0].T
            probabilities = th.full_like(returns, 1 / returns.shape[1])
    return ReturnDistribution(returns.cpu().numpy(), probabilities.cpu().numpy())


def saliency(model: BaseAlgorithm, observation: np.ndarray, action: int | None = None) -> np.ndarray:
    """
    How much each pixel counts: the absolute gradient of an action's Q-value with respect to the input.

    :param model: see ``find_q_network``
    :param observation: one image or stack, as the environment gives it
    :param action: whose Q-value; None for the best one's
    :return: float32 (channels, height, width), at least 0
    :raises ValueError: if the model has no Q-network, or an action that the model does not have
    """
    network = find_q_network(model)
    network.train(False)
    tensor = _find_policy(model).obs_to_tensor(observation)[0]
    assert isinstance(tensor, th.Tensor)
    pixels = tensor.float().requires_grad_()
    values = _q_values(network, pixels)[0]
    if action is not None and not 0 <= action < len(values):
        raise ValueError(f"action={action} is not one of the {len(values)} actions, counted from 0")
    chosen = values.max() if action is None else values[action]
    return th.autograd.grad(chosen, pixels)[0][0].abs().cpu().numpy()


def _convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """
    :return: its convolutions from the input on, as ``conv1``, ``conv2`` and so on
    :raises ValueError: if there are none
    """
    found = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not found:
        raise ValueError("The network has no convolutions: its observations are not images")
    return {f"conv{number}": module for number, module in enumerate(found, start=1)}


def layer_outputs(model: BaseAlgorithm, observation: np.ndarray) -> dict[str, np.ndarray]:
    """
    :param model: see ``find_q_network``
    :param observation: one image or stack, as the environment gives it
    :return: what each convolution gives for it, negative values cut off as ReLU does, float32 (filters, height, width), by
        the layer's name, ``"conv1"`` and so on
    :raises ValueError: if the model has no Q-network, or that has no convolutions
    """
    network = find_q_network(model)
    network.train(False)
    outputs: dict[str, np.ndarray] = {}

    def remember(name: str) -> Any:
        def hook(_layer: nn.Module, _inputs: Any, output: th.Tensor) -> None:
            outputs[name] = output[0].clamp(min=0).cpu().numpy()

        return hook

    handles = [layer.register_forward_hook(remember(name)) for name, layer in _convolutions(network).items()]
    try:
        with th.no_grad():
            network(_find_policy(model).obs_to_tensor(observation)[0])
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def layer_weights(model: BaseAlgorithm) -> dict[str, np.ndarray]:
    """
    :param model: see ``find_q_network``
    :return: weights of each convolution, float32 (filters, input channels, height, width), by the layer's name
    :raises ValueError: if the model has no Q-network, or that has no convolutions
    """
    layers = _convolutions(find_q_network(model))
    return {name: layer.weight.detach().cpu().numpy() for name, layer in layers.items()}
