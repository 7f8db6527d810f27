r"""
DQN's improvements, one by one
==============================

Adrien Lucas Ecoffet's "Beat Atari with Deep Reinforcement Learning! (Part 2: DQN improvements)" (2017) starts from the DQN
of 2013 and adds a target network, Huber loss, raw rewards and a bigger network. Each of them is a keyword of
:class:`~sb3_atari_dqn.CustomDQN`. This page looks at what each one changes, with Space Invaders at a small size.
"""

import gymnasium as gym
import numpy as np
import pandas as pd
import torch as th
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import BaseCallback

from sb3_atari_dqn import AleVecEnv, CustomDQN, report
from sb3_atari_dqn.learning.objectives import huber, mse

env = AleVecEnv("SpaceInvadersNoFrameskip-v4", n_envs=4)
env.seed(0)


def make_model(**changes: object) -> CustomDQN:
    """
    :param changes: arguments other than those of the tutorial's first step
    :return: the network of 2013, squared error, clipped rewards, no target network; small in all else
    """
    first_step = {
        "target_update_interval": None,
        "loss": "mse",
        "clip_rewards": True,
        "policy_kwargs": {"features_extractor_class": "NipsCNN"},
    }
    small = {
        "replay_buffer_class": "FrameReplayBuffer",
        "buffer_size": 5_000,
        "learning_starts": 200,
        "update_period": 4,
        "exploration_fraction": 0.5,
        "learning_rate": 2.5e-4,
    }
    return CustomDQN("CnnPolicy", env, seed=0, **{**first_step, **small, **changes})


# %%
# Target network
# --------------
#
# Q-learning fits a network to
#
# .. math:: y = r + \gamma \max_{a'} Q(s', a')
#
# which the network itself says: each update moves what it aims at. A copy of the network, renewed every so often, holds
# still in between. To see it, let an agent learn and write down what both networks think of the same few pictures.


class Watch(BaseCallback):
    """
    What both networks expect of the best action, on average over the pictures.

    :param observations: the pictures
    """

    def __init__(self, observations: np.ndarray) -> None:
        super().__init__()
        self.pictures = th.as_tensor(observations)
        self.rows: list[tuple[int, float, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % 40 == 0:
            with th.no_grad():
                learns, target = (
                    float(network(self.pictures).max(dim=1).values.mean())
                    for network in (self.model.q_net, self.model.q_net_target)
                )
            self.rows.append((self.num_timesteps, learns, target))
        return True


def watch(**changes: object) -> tuple[CustomDQN, pd.DataFrame]:
    """
    :param changes: see ``make_model``
    :return: the model, and what was written down
    """
    model, watching = make_model(**changes), Watch(pictures)
    model.learn(1_600, callback=watching)
    return model, pd.DataFrame(watching.rows, columns=["agent steps", "learns", "target"])


observation = env.reset()
kept = []
for _ in range(60):
    observation, _, _, _ = env.step(np.array([env.action_space.sample() for _ in range(env.num_envs)]))
    kept.append(observation)
pictures = np.concatenate(kept[::20])

without, curve_without = watch()
with_target, curve_with = watch(target_update_interval=400)

figure = Figure(figsize=(10, 3.5), layout="constrained")
for axes, curve, title in zip(
    figure.subplots(1, 2),
    (curve_without, curve_with),
    ("target_update_interval=None", "target_update_interval=400"),
    strict=True,
):
    axes.plot(curve["agent steps"], curve["learns"], label="network that learns")
    axes.plot(curve["agent steps"], curve["target"], "--", label="network for the targets")
    axes.set(title=title, xlabel="agent steps", ylabel="mean Q-value of the best action")
    axes.legend()
figure

# %%
# Without a target network there is one network, and with one there are two. On the right, the targets' values move by
# steps, 400 agent steps apart. On the left, nothing holds them. The highest values, in a game whose clipped rewards are 0
# and 1 here:

print("one network: ", without.q_net_target is without.q_net, with_target.q_net_target is with_target.q_net)
print(f"highest mean: {curve_without['learns'].max():.2f}, {curve_with['learns'].max():.2f}")

# %%
# The tutorial copies every 10,000 updates. ``target_update_interval`` counts agent steps, four for each update here, so the
# preset ``target-network`` has 40,000.
#
# Huber loss
# ----------
#
# The tutorial's example: the network says 8, and 11 would have been right. The squared error is 9. One step towards the
# truth takes off 5 of it, the next one only 3: large errors count for more. But the target is the network's own, and a
# large change of the network changes it, too. Huber's loss turns linear where the error is larger than ``huber_delta``, 1:

predictions = th.tensor([8.0, 9.0, 10.0, 11.0], requires_grad=True)
truth = th.full_like(predictions, 11.0)
rows = {"prediction": predictions.tolist()}
for name, loss in (("mse", mse), ("huber", huber)):
    losses = loss(predictions, truth)
    (gradient,) = th.autograd.grad(losses.sum(), predictions)
    rows |= {name: losses.tolist(), f"gradient of {name}": gradient.tolist()}
pd.DataFrame(rows)

# %%
# "Clipping the error term to [-1, 1]", as the paper has it, can be read in two ways. Clipping the *loss* leaves no gradient
# where the error is large, so nothing is learnt from it; clipping the *gradient* is Huber's loss:

errors = th.linspace(-3, 3, 121, requires_grad=True)
zeros = th.zeros_like(errors)
figure = Figure(figsize=(10, 3.5), layout="constrained")
of_loss, of_gradient = figure.subplots(1, 2)
for name, losses in (
    ("mse", mse(errors, zeros)),
    ("huber, delta 1", huber(errors, zeros)),
    ("squared error, clipped", mse(errors.clamp(-1, 1), zeros)),
):
    (gradient,) = th.autograd.grad(losses.sum(), errors, retain_graph=True)
    of_loss.plot(errors.detach(), losses.detach(), label=name)
    of_gradient.plot(errors.detach(), gradient, label=name)
of_loss.set(xlabel="error", ylabel="loss", ylim=(0, 5))
of_gradient.set(xlabel="error", ylabel="gradient")
of_loss.legend()
figure

# %%
# Raw rewards
# -----------
#
# DeepMind learns from rewards clipped to -1, 0 and 1, so that one learning rate suits all games. Then the mothership of
# Space Invaders, which scores far more than any invader, is worth no more than the nearest one. What the agent above has
# met, and what it has learnt from:

rewards, counts = np.unique(with_target.replay_buffer.rewards[: with_target.replay_buffer.pos], return_counts=True)
pd.DataFrame({"reward": rewards, "learnt from": np.sign(rewards), "agent steps": counts})

# %%
# ``clip_rewards=False`` learns from the rewards as they are. Huber's loss makes that bearable: however large the error, the
# gradient of a sample stays within ``huber_delta``. The replay memory, logs and scores hold raw rewards either way.

raw, _ = watch(target_update_interval=400, loss="huber", clip_rewards=False)
for name, model in (("clipped", with_target), ("raw", raw)):
    values = report.q_values(model, pictures)
    print(f"{name:8} Q-values from {values.min():7.3f} to {values.max():7.3f}")

# %%
# A bigger network
# ----------------
#
# The network of 2015 has twice as many filters and units as that of 2013, and one convolution more:

bigger = make_model(policy_kwargs={"features_extractor_class": "NatureCNN"})
sizes = {
    name: sum(parameter.numel() for parameter in model.q_net.parameters())
    for name, model in (("NipsCNN", without), ("NatureCNN", bigger))
}
print({name: f"{size:,}" for name, size in sizes.items()}, f"{sizes['NatureCNN'] / sizes['NipsCNN']:.2f} times")

# %%
# What it sees
# ------------
#
# Four frames, the newest on the right, and how much each pixel counts for the Q-value of the best action:

names = gym.make("SpaceInvadersNoFrameskip-v4").unwrapped.get_action_meanings()
[report.plot_observation(raw, pictures[-1], show_saliency=True), report.plot_q_values(raw, pictures[-1], action_names=names)]

# %%

report.plot_layer_outputs(raw, pictures[-1], "conv1", inverted=True)

# %%

report.plot_layer_weights(raw, "conv1", channel=3)

# %%
# At full length
# --------------
#
# Each step of the tutorial is a preset. Against the one before, ``target-network`` changes one thing, ``huber-raw-rewards``
# the loss and the rewards, ``bigger-network`` the network and the number of steps:
#
# .. code-block:: bash
#
#    python -m rl_zoo3.train --algo dqn_custom --env SpaceInvadersNoFrameskip-v4 --conf-file nips
#    python -m rl_zoo3.train --algo dqn_custom --env SpaceInvadersNoFrameskip-v4 --conf-file target-network
#    python -m rl_zoo3.train --algo dqn_custom --env SpaceInvadersNoFrameskip-v4 --conf-file huber-raw-rewards
#    python -m rl_zoo3.train --algo dqn_custom --env SpaceInvadersNoFrameskip-v4 --conf-file bigger-network
#
#    # all four, three seeds each, played and compared
#    python -m sb3_atari_dqn ablation ladder --env SpaceInvadersNoFrameskip-v4
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
#    * - a target network takes Breakout from 251 to 404
#      - not measured here
#    * - and Space Invaders from 365 to 490
#      - from 132 to 260 in 200,000 steps, means of two seeds each (:doc:`/ablation`)
#    * - without one, learning is much slower
#      - in those 200,000 steps, in both of two runs, its evaluation episodes are not better than a random policy (148) without
#        one, its last training episodes are (165 and 214); what Q-values do at first is in the picture above
#    * - clipping the objective would make the gradient of large errors zero; Huber's loss clips the gradient
#      - so it is: the picture above, and ``tests/learning/test_objectives.py``
#    * - Huber loss and raw rewards: 1,205 in Space Invaders, in the episode that it shows
#      - 281 for 260 without in 200,000 steps, means of two seeds: not to be told apart (:doc:`/ablation`)
#    * - with raw rewards the agent goes for the mothership
#      - not measured here
#    * - the network of 2015 is more than twice as big
#      - 2.49 times as many parameters, printed above
#    * - it reaches 1,500 in Space Invaders after 50 million frames and ten days; DeepMind's reached 1,976
#      - 316 in 200,000 steps, one seed, for 281 with the smaller one, and in more than twice the time (:doc:`/ablation`)
#
# 200,000 steps are a twelfth of the tutorial's shortest run: ``python -m sb3_atari_dqn ablation tutorials`` is its ladder at a
# small size, in hours on a CPU. What would measure the rest is ready: ``ablation ladder`` above, and ``python
# docs/gpu_results.py results`` on a machine with a GPU. All that has been measured: :doc:`/results`, :doc:`/ablation`.
