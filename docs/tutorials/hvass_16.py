"""
A memory swept backwards
========================

Magnus Erik Hvass Pedersen's TensorFlow tutorial 16 (2017) teaches an agent to play Breakout by an algorithm of its own. This
page goes its way with :class:`~sb3_atari_dqn.SweepDQN`: what the agent sees, how a reward reaches the states that led to it,
what the network is, one round of playing and fitting, and the pictures that the tutorial lives from. Everything here is run
at a small size; :doc:`the page of the algorithm </dqn_sweep>` has the run of full length.
"""

import gymnasium as gym
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv
from stable_baselines3.common.env_util import make_vec_env

from sb3_atari_dqn import MotionTracer, SweepDQN, report
from sb3_atari_dqn.replay.sweep_memory import balanced_counts, sweep_backwards

# %%
# The game, and what the agent sees of it
# ---------------------------------------
#
# ``Breakout-v0`` repeats each action for two to four frames at random. The :class:`~sb3_atari_dqn.MotionTracer` turns the
# picture into two: the picture in grey, half as large, and the trace of what moved, which fades. A lost life ends the
# agent's sequence of rewards, not the game; that wrapper sits outside, so that the trace goes on. Breakout has four actions
# today, as in the tutorial's notebook of 2020; in that of 2017, which its text is about, it also has RIGHTFIRE and LEFTFIRE.


def as_the_tutorial_has_it(env: gym.Env) -> gym.Env:
    """
    :param env: the game
    :return: what the agent plays
    """
    return EpisodicLifeEnv(MotionTracer(env))


env = make_vec_env("Breakout-v0", n_envs=4, seed=0, wrapper_class=as_the_tutorial_has_it)
names = env.envs[0].unwrapped.get_action_meanings()
print(env.observation_space)
print(names)

# %%
# All that belongs to the algorithm has the tutorial's numbers if it is not given. Here the memory has room for 2,000
# states, not for 200,000; the network is fitted when two fifths of it are full, with batches of 32 and for one epoch.

model = SweepDQN(
    "CnnPolicy",
    env,
    buffer_size=2_000,
    replay_fraction=0.4,
    batch_size=32,
    max_epochs=1,
    seed=0,
)

observation = env.reset()
for step in range(30):  # FIRE, then chance
    actions = np.array([1 if step == 0 else env.action_space.sample() for _ in range(env.num_envs)])
    observation, _, _, _ = env.step(actions)
report.plot_observation(model, observation[0])

# %%
# On the left a moment, on the right its past: which way the ball flies, and where the paddle comes from.
#
# How a reward travels
# --------------------
#
# The value of an action is the reward that follows plus what the next state is worth, discounted:
#
# .. math:: Q(s_t, a_t) \leftarrow r_t + \gamma \max_a Q(s_{t+1}, a)
#
# The tutorial's example: a network says 2.900 for an action. One point is scored, and the next state's best action is worth
# 1.830.

sweep = sweep_backwards(
    q_values=np.array([[[2.900, 2.5], [1.0, 1.830]]], dtype=np.float32),
    actions=np.array([[0, 0]]),
    rewards=np.array([[1.0, 0.0]], dtype=np.float32),
    ends=np.array([[False, False]]),
    cuts=np.array([[False, False]]),
    gamma=0.97,
)
print(f"{sweep.q_values[0, 0, 0]:.3f}, an error of {sweep.errors[0, 0]:.3f}")

# %%
# Done from the last state to the first, one sweep carries the reward to *all* states before it. Six states, and a seventh of
# which nothing is known yet; one action; all estimates zero at first; the sixth state's action scores a point:

n_states = 7
sweep = sweep_backwards(
    q_values=np.zeros((1, n_states, 1), dtype=np.float32),
    actions=np.zeros((1, n_states), dtype=int),
    rewards=np.array([[0, 0, 0, 0, 0, 1, 0]], dtype=np.float32),
    ends=np.zeros((1, n_states), dtype=bool),
    cuts=np.zeros((1, n_states), dtype=bool),
    gamma=0.97,
)
pd.DataFrame(
    {"reward": [0, 0, 0, 0, 0, 1], "Q after the sweep": sweep.q_values[0, :-1, 0].round(3)},
    index=[f"state {number}" for number in range(n_states - 1)],
).T

# %%
# Four states before the point it is 0.97 to the power of four, 0.885. DQN without a sweep carries a reward one state
# further with each update that happens to draw the right transition.
#
# States whose estimate was wrong by 0.1 or more are rare, and there is most to learn from them: at least half of each batch
# is drawn from them. Of 100 states with a large error and 1,900 others, a batch of 128 has

print("large and small errors:", balanced_counts(100, 1_900, batch_size=128, least_share=0.5))

# %%
# The network
# -----------
#
# Three convolutions with small filters and four fully connected layers, :class:`~sb3_atari_dqn.TutorialCNN`:

print(model.policy.q_net.features_extractor)
n_parameters = sum(parameter.numel() for parameter in model.policy.q_net.parameters())
print(f"{n_parameters:,} parameters")

# %%
# A round of playing and fitting
# ------------------------------
#
# 1,500 states: after 800 of them the memory is full enough; it is swept, the network is fitted, the memory is emptied, and the
# agent plays on. So early, almost all actions are random.

model.learn(1_500)
print(f"{model.n_states} states, {model.n_episodes} games, {model.n_fits} fit; {model.replay_memory.n_used} states in memory")
print(f"epsilon {model.exploration_rate:.4f}")
print(model.signals)

# %%
# Learning rate, loss limit, epochs and the share of the memory move slowly to their final values, over five million states.
# In the run of full length it looks like this (:ref:`the command <sweep-command>` is below):
#
# .. image:: ../images/sweep.png
#    :alt: Training scores against states and hours, Q-values after each sweep, histogram of test games
#
# A look into the memory
# ----------------------
#
# The memory has each state once, with the Q-values that the network gave while it played.

memory = model.replay_memory
indices = memory.indices()
states, q_values = memory.read(indices)
rewards, actions, end_lives = (values.reshape(-1)[indices] for values in (memory.rewards, memory.actions, memory.end_lives))
differences = q_values.max(axis=1) - q_values.min(axis=1)
print(f"rewards {rewards.sum():.0f}, lives lost {end_lives.sum()}, Q-values {q_values.min():.3f} to {q_values.max():.3f}")


def show(position: int) -> list[Figure]:
    """
    :param position: of a state in the memory
    :return: the state, and what the network says of each action there
    """
    return [
        report.plot_observation(model, states[position]),
        report.plot_q_values(model, states[position], action=int(actions[position]), action_names=names),
    ]


# %%
# The state before the highest reward, where the ball hits the wall:

show(int(rewards.argmax()))

# %%
# The highest Q-value:

show(int(q_values.max(axis=1).argmax()))

# %%
# The loss of a life:

show(int(end_lives.argmax()))

# %%
# The largest difference between two actions, where a choice matters most in the network's opinion:

show(int(differences.argmax()))

# %%
# The smallest difference:

show(int(differences.argmin()))

# %%
# After one fit these are opinions and no knowledge. :doc:`The page of a run </report>` has the same moments of a whole game
# of any trained agent, to step through.
#
# Inside the network
# ------------------
#
# What each of the three convolutions makes of the state with the highest Q-value:

shown = states[int(q_values.max(axis=1).argmax())]
report.plot_layer_outputs(model, shown, "conv1", inverted=True)

# %%

report.plot_layer_outputs(model, shown, "conv2", inverted=True)

# %%

report.plot_layer_outputs(model, shown, "conv3", inverted=True)

# %%
# The weights of the first convolution for the picture and for the trace, red above and blue below zero:

[report.plot_layer_weights(model, "conv1", channel=channel) for channel in range(2)]

# %%
# So early they are what they were drawn as, from a normal distribution cut off at two deviations; in the tutorial's trained
# network the negative ones weigh more in this layer.
#
# .. _sweep-command:
#
# At full length
# --------------
#
# .. code-block:: bash
#
#    python -m rl_zoo3.train --algo dqn_sweep --env Breakout-v0 --seed 1 -n 1176048 --num-threads 1 --eval-freq -1 -f logs
#    python -m sb3_atari_dqn evaluate logs/dqn_sweep/Breakout-v0_1 --protocol tutorial
#    python -m sb3_atari_dqn report logs/dqn_sweep/Breakout-v0_1
#
# What the tutorial says, and what was measured
# ---------------------------------------------
#
# .. list-table::
#    :header-rows: 1
#    :widths: 50 50
#
#    * - the tutorial
#      - here
#    * - Breakout, 30 evaluation episodes after 1,176,704 states (notebook of 2020): minimum 8, mean 20.87, maximum 40,
#        standard deviation 8.16
#      - 9, 21.23, 40, 8.29 after 1,176,048 states, one seed (:doc:`results </dqn_sweep>`)
#    * - Breakout, 30 evaluation episodes after 127,639,721 states, almost 90,000 episodes (notebook of 2017): minimum 40,
#        mean 145.17, maximum 386, standard deviation 105.13
#      - not measured here: the run above is 0.9 % of that
#    * - almost 150 hours of training, for these 127.6 million states
#      - 1 hour 56 minutes on one core for the 1.18 million above
#    * - one game says little; 30 or 50 are needed
#      - agreed: a game's standard deviation of 8 leaves 1.5 points of doubt in the mean of 30 (8.29 / √30)
#    * - the memory takes more than 3 GB
#      - 200,000 states of 105x80x2 bytes are 3.36 GB; the preset packs them (``compression: lz4``)
#    * - mean Q-values rise fast at first, then steadily for 40 million states
#      - the first 1.25 million of them are in the picture above, from one run; it has the mean over the states in the replay
#        buffer, the tutorial that over its whole array, unused zeros included
#    * - the sweep is one reason for the fast start
#      - on four doors in a row the agent learns with it and does not without it (``tests/test_sweep_dqn.py``); on Breakout,
#        DQN with the same input and network, and a sixteenth of its preset's updates, came to 6.00 in as many states, in
#        one run (:doc:`results </dqn_sweep>`)
#    * - so are the small memory at the start and the balanced batches
#      - not measured here
#    * - the motion tracer serves in place of several frames
#      - the score above is reached with it; DQN in Space Invaders has 289 with it and 260 with four frames, in
#        200,000 steps, means of two seeds: not to be told apart (:doc:`/ablation`)
#    * - DeepMind's large filters and single layer distort Q-values
#      - not measured here
#    * - the first convolution's weights are more negative than positive
#      - not measured here; ``report`` prints minimum, maximum, mean and deviation for your run
#    * - Q-values fall once a point is scored
#      - not measured here; ``report`` shows it step by step
#
# The tutorial's exercises, and how to do each of them: :doc:`/dqn_sweep`.
