"""The tutorial's pictures of a network, as matplotlib figures for notebooks; ``network`` has the numbers behind them.

Source: Hvass Pedersen 2017, TensorFlow tutorial 16, "Reinforcement Learning".
"""

from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from gymnasium import spaces
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_atari_dqn.report.network import layer_outputs, layer_weights, q_values, return_distribution, saliency


def channels_of(model: BaseAlgorithm, observation: np.ndarray) -> np.ndarray:
    """
    :param model: see ``sb3_atari_dqn.report.network.find_q_network``, like everywhere in this module
    :param observation: one image or stack, as the environment gives it
    :return: its channels, oldest frame of a stack first, (channels, height, width)
    :raises ValueError: if it is not an image
    """
    space = model.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        raise ValueError(f"observations in {space} are not images")
    if observation.shape == space.shape:
        return observation  # a model's space has channels first
    if observation.shape == (*space.shape[1:], space.shape[0]):
        return observation.transpose(2, 0, 1)
    raise ValueError(f"an observation of shape {observation.shape} is not one image in {space}")


def plot_observation(model: BaseAlgorithm, observation: np.ndarray, show_saliency: bool = False) -> Figure:
    """
    What the network sees: each frame of the stack, or image and motion trace.

    :param model: see above
    :param observation: one image or stack, as the environment gives it
    :param show_saliency: lay over each channel how much its pixels count for the best action's Q-value
    :return: the picture
    :raises ValueError: if the observation is not an image
    """
    channels = channels_of(model, observation)
    figure = matplotlib.figure.Figure(figsize=(3 * len(channels), 3.4), layout="constrained")
    maps = saliency(model, observation) if show_saliency else None
    for index, (axes, channel) in enumerate(zip(_grid(figure, 1, len(channels)), channels, strict=True)):
        axes.imshow(channel, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(f"channel {index}")
        if maps is not None:
            axes.imshow(maps[index], cmap="hot", vmin=0, vmax=max(maps.max(), 1e-12), alpha=0.6, interpolation="nearest")
    return figure


def plot_q_values(
    model: BaseAlgorithm, observation: np.ndarray, action: int | None = None, action_names: Sequence[str] | None = None
) -> Figure:
    """
    A bar for each action; for a distributional network each action's distribution beside it.

    :param model: see above
    :param observation: one, as the environment gives it
    :param action: that was taken; None for the best one
    :param action_names: such as ``env.unwrapped.get_action_meanings()``; None for numbers
    :return: the picture
    :raises ValueError: for an action that the model does not have, or as many names as it does not have actions
    """
    values = q_values(model, observation)[0]
    names = [str(number) for number in range(len(values))] if action_names is None else list(action_names)
    if len(names) != len(values):
        raise ValueError(f"action_names={names} must name each of the {len(values)} actions")
    taken = int(values.argmax()) if action is None else action
    if not 0 <= taken < len(values):
        raise ValueError(f"action={action} is not one of the {len(values)} actions, counted from 0")
    distribution = return_distribution(model, observation)
    figure = matplotlib.figure.Figure(figsize=(5 if distribution is None else 10, 3.4), layout="constrained")
    first, *others = figure.subplots(1, 1 if distribution is None else 2, squeeze=False)[0]
    labels = [f"{name} (taken)" if number == taken else name for number, name in enumerate(names)]
    bars = first.barh(labels, values, color=["C1" if number == taken else "C0" for number in range(len(values))])
    first.bar_label(bars, fmt="%.3f", padding=2)
    first.invert_yaxis()
    first.margins(x=0.2)
    first.set_xlabel("Q-value")
    if distribution is not None:
        for number, name in enumerate(labels):
            order = np.argsort(distribution.returns[number])
            shares = np.cumsum(distribution.probabilities[number][order])
            others[0].step(distribution.returns[number][order], shares, where="post", label=name)
        others[0].set(xlabel="return", ylabel="probability of this or less")
        others[0].legend(fontsize="small")
    return figure


def plot_layer_outputs(model: BaseAlgorithm, observation: np.ndarray, layer: str = "conv1", inverted: bool = False) -> Figure:
    """
    What a convolution gives for an observation, a picture for each filter.

    :param model: see above
    :param observation: one image or stack, as the environment gives it
    :param layer: ``"conv1"``, ``"conv2"`` and so on, from the input on
    :param inverted: show large values dark
    :return: the picture
    :raises ValueError: for a layer that the network does not have
    """
    outputs = _find_layer(layer_outputs(model, observation), layer)
    figure = matplotlib.figure.Figure(figsize=(8, 8), layout="constrained")
    n_columns = int(np.ceil(np.sqrt(len(outputs))))
    cmap = "gray_r" if inverted else "gray"
    for axes, output in zip(_grid(figure, -(-len(outputs) // n_columns), n_columns), outputs, strict=False):
        axes.imshow(output, cmap=cmap, vmin=0, vmax=max(outputs.max(), 1e-12), interpolation="nearest")
    figure.suptitle(f"{layer}: {len(outputs)} filters, {outputs.shape[1]}x{outputs.shape[2]}, up to {outputs.max():.3g}")
    return figure


def plot_layer_weights(model: BaseAlgorithm, layer: str = "conv1", channel: int = 0) -> Figure:
    """
    A convolution's weights for one of its input channels, red above and blue below zero.

    :param model: see above
    :param layer: ``"conv1"``, ``"conv2"`` and so on, from the input on
    :param channel: input channel, counted from 0
    :return: the picture
    :raises ValueError: for a layer or channel that the network does not have
    """
    weights = _find_layer(layer_weights(model), layer)
    if not 0 <= channel < weights.shape[1]:
        raise ValueError(f"channel={channel} is not one of the {weights.shape[1]} input channels of {layer}, counted from 0")
    of_channel = weights[:, channel]
    limit = np.abs(of_channel).max()
    figure = matplotlib.figure.Figure(figsize=(8, 8), layout="constrained")
    n_columns = int(np.ceil(np.sqrt(len(of_channel))))
    image = None
    all_axes = _grid(figure, -(-len(of_channel) // n_columns), n_columns)
    for axes, weight in zip(all_axes, of_channel, strict=False):
        image = axes.imshow(weight, cmap="seismic", vmin=-limit, vmax=limit, interpolation="nearest")
    assert image is not None
    figure.colorbar(image, ax=all_axes, shrink=0.6)
    figure.suptitle(
        f"{layer}, channel {channel}\nminimum {of_channel.min():.5f}, maximum {of_channel.max():.5f}, "
        f"mean {of_channel.mean():.5f}, standard deviation {of_channel.std():.5f}"
    )
    return figure


def _find_layer(layers: dict[str, np.ndarray], layer: str) -> np.ndarray:
    if layer not in layers:
        raise ValueError(f"layer={layer!r} is not one of the network's convolutions, {', '.join(layers)}")
    return layers[layer]


def _grid(figure: Figure, n_rows: int, n_columns: int) -> list[Axes]:
    """
    :return: axes without ticks and frames, row by row
    """
    all_axes = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for axes in all_axes:
        axes.set_axis_off()
    return all_axes
