"""Pictures from games themselves.

python docs/figures.py docs/images/motion_tracer.png                                                  # the motion tracer
python docs/figures.py docs/images/pong.gif --run logs/dqn_custom/PongNoFrameskip-v4_1 --steps 5 255  # a trained agent
"""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
import matplotlib
from PIL import Image

from sb3_atari_dqn import MotionTracer
from sb3_atari_dqn.zoo.evaluate import make_env_as_trained
from sb3_atari_dqn.zoo.register import register
from sb3_atari_dqn.zoo.runs import find_run, load_model

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
    axes[0].imshow(env.render())
    axes[0].set_title("frame, 210x160", fontsize="medium")
    for channel, title in ((0, "image, 105x80"), (1, "trace, 105x80")):
        axes[1 + channel].imshow(state[..., channel], cmap="gray", vmin=0, vmax=255)
        axes[1 + channel].set_title(title, fontsize="medium")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(picture, dpi=110)


def game(run: Path, picture: Path, first: int, last: int) -> None:
    """
    A trained agent's play as a moving picture, at the speed of the game, every second agent step.

    :param run: folder of a training run
    :param picture: GIF to write
    :param first: agent step to begin at
    :param last: agent step to end before
    """
    register()
    saved = find_run(run)
    env = make_env_as_trained(saved, 1, 0, render_mode="rgb_array")
    model = load_model(saved.find_model()[0], saved.args["algo"], seed=0)
    observation = env.reset()
    frames = []
    for step in range(last):
        assert not isinstance(observation, tuple)
        observation, *_ = env.step(model.predict(observation, deterministic=True)[0])
        if step >= first and (step - first) % 2 == 0:
            picture_of_game = env.render()
            assert picture_of_game is not None
            screen = Image.fromarray(picture_of_game).resize((320, 420), Image.Resampling.NEAREST)
            frames.append(screen.quantize(16, dither=Image.Dither.NONE))
    frames[0].save(picture, save_all=True, append_images=frames[1:], duration=133, loop=0, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="file to write")
    parser.add_argument("--run", type=Path, help="folder of a training run, for its game")
    parser.add_argument("--steps", type=int, nargs=2, default=(0, 250), help="agent steps of the game (default: %(default)s)")
    args = parser.parse_args()
    if args.run is None:
        motion_tracer(args.picture)
    else:
        game(args.run, args.picture, *args.steps)
