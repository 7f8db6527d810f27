"""The picture of the motion tracer, from the game itself.

python docs/figures.py docs/images/motion_tracer.png
"""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
import matplotlib

from sb3_atari_dqn import MotionTracer

matplotlib.use("Agg")
from matplotlib import pyplot as plt


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
    parser.add_argument("picture", type=Path, help="file to write")
    motion_tracer(parser.parse_args().picture)
