"""The pictures of these pages, from real runs.

python docs/figures.py learning-curve docs/images/freeway.png logs/dqn_custom/FreewayNoFrameskip-v4_*
python docs/figures.py motion-tracer docs/images/motion_tracer.png
"""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
import matplotlib
import numpy as np
import pandas as pd
import yaml

from sb3_atari_dqn import MotionTracer

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def learning_curve(picture: Path, runs: list[Path]) -> None:
    """
    Training episodes and evaluations of runs of one game.

    :param picture: file to write
    :param runs: folders of runs
    """
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for run, color in zip(runs, ("tab:blue", "tab:orange", "tab:green", "tab:red"), strict=False):
        (args_file,) = run.glob("*/args.yml")
        seed = yaml.unsafe_load(args_file.read_text())["seed"]
        episodes = pd.read_csv(run / "0.monitor.csv", skiprows=1)
        agent_steps = episodes["l"].cumsum() / 4
        axes.plot(agent_steps, episodes["r"], ".", color=color, alpha=0.3, markersize=4)
        axes.plot(agent_steps, episodes["r"].rolling(10, min_periods=1).mean(), color=color, label=f"training, seed {seed}")
        evaluations = np.load(run / "evaluations.npz")
        axes.plot(
            evaluations["timesteps"], evaluations["results"].mean(axis=1), "D", color=color, label=f"evaluations, seed {seed}"
        )
    axes.set(xlabel="agent steps (4 frames each)", ylabel="score of a game", title=runs[0].name.partition("_")[0])
    axes.legend(loc="lower right", fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=130)


def motion_tracer(picture: Path) -> None:
    """
    A frame of Breakout and the two channels that the motion tracer makes of it.

    :param picture: file to write
    """
    gym.register_envs(ale_py)
    env = MotionTracer(gym.make("Breakout-v0", render_mode="rgb_array"))
    env.reset(seed=0)
    env.action_space.seed(1)
    for step in range(26):
        state, *_ = env.step(1 if step == 0 else env.action_space.sample())
    figure, axes = plt.subplots(1, 3, figsize=(7, 3.6), layout="constrained")
    axes[0].imshow(env.unwrapped.ale.getScreenRGB())
    axes[0].set_title("frame, 210x160", fontsize="medium")
    for channel, title in ((0, "image, 105x80"), (1, "trace, 105x80")):
        axes[1 + channel].imshow(state[..., channel], cmap="gray", vmin=0, vmax=255)
        axes[1 + channel].set_title(title, fontsize="medium")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["learning-curve", "motion-tracer"])
    parser.add_argument("picture", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    arguments = parser.parse_args()
    if arguments.figure == "learning-curve":
        learning_curve(arguments.picture, arguments.runs)
    else:
        motion_tracer(arguments.picture)
