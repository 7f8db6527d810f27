"""Pictures of training runs, and of what a network sees and makes of it."""

from sb3_atari_dqn.report.network import layer_outputs, layer_weights, q_values, return_distribution, saliency
from sb3_atari_dqn.report.pictures import plot_layer_outputs, plot_layer_weights, plot_observation, plot_q_values

__all__ = [
    "layer_outputs",
    "layer_weights",
    "plot_layer_outputs",
    "plot_layer_weights",
    "plot_observation",
    "plot_q_values",
    "q_values",
    "return_distribution",
    "saliency",
]
