"""One picture of several runs: learning curves, aggregate scores, performance profiles, probabilities of improvement."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from sb3_atari_dqn.evaluation.statistics import Estimate

#: points of a line and its band, and where they are
Band = tuple[np.ndarray, Estimate]


def plot_comparison(
    curves: Mapping[str, Mapping[str, Band]],
    aggregates: Mapping[str, Mapping[str, Estimate]],
    profiles: Mapping[str, Band],
    improvements: Mapping[str, Estimate],
) -> Figure:
    """
    :param curves: of each game, scores against agent steps, by label; none for no picture of them
    :param aggregates: of each statistic, its value by label
    :param profiles: share of runs above a human-normalised score, by label
    :param improvements: probability by what is better than what; none for no picture of them
    :return: the picture
    """
    colors = {label: f"C{number}" for number, label in enumerate(profiles)}
    panels = [*curves, *aggregates, "profile", *(["improvement"] if improvements else [])]
    n_columns = min(len(panels), 3)
    n_rows = -(-len(panels) // n_columns)
    figure = matplotlib.figure.Figure(figsize=(5 * n_columns, 3.2 * n_rows), layout="constrained")
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    for panel, axes in zip(panels, all_axes, strict=False):
        if panel in curves:
            _draw_bands(axes, curves[panel], colors)
            axes.set(title=panel, xlabel="agent steps", ylabel="score")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
        elif panel in aggregates:
            _draw_intervals(axes, aggregates[panel], colors)
            axes.set(title=panel, xlabel="human-normalised score")
        elif panel == "profile":
            _draw_bands(axes, profiles, colors)
            axes.set(title="performance profile", xlabel="human-normalised score", ylabel="share of runs above")
        else:
            _draw_intervals(axes, improvements, {})
            axes.axvline(0.5, color="grey", linestyle="--", linewidth=1)
            axes.set(title="probability of improvement", xlim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
    handles = [Line2D([], [], color=color) for color in colors.values()]
    figure.legend(handles, list(colors), loc="outside upper center", ncols=min(len(colors), 4))
    return figure


def _draw_bands(axes: Axes, bands: Mapping[str, Band], colors: Mapping[str, str]) -> None:
    for label, (points, estimate) in bands.items():
        axes.plot(points, estimate.value, color=colors[label], label=label)
        axes.fill_between(points, estimate.low, estimate.high, color=colors[label], alpha=0.2, linewidth=0)


def _draw_intervals(axes: Axes, estimates: Mapping[str, Estimate], colors: Mapping[str, str]) -> None:
    for row, (label, estimate) in enumerate(estimates.items()):
        color = colors.get(label, "C7")
        axes.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=8, alpha=0.3, solid_capstyle="butt")
        axes.plot([estimate.value], [row], "|", color=color, markersize=14, markeredgewidth=2)
        if label not in colors:  # the legend has the others
            axes.text(0.02, row - 0.2, label, transform=axes.get_yaxis_transform(), fontsize="small", va="bottom")
    axes.set_yticks([])
    axes.set_ylim(len(estimates) - 0.5, -0.5)
