"""Processes of their own, forked from one that has imported what they need."""

import multiprocessing

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["rl_zoo3.train", "sb3_atari_dqn.zoo.commands", "sb3_atari_dqn.zoo.resume", "tests.checkpoints.runs"]
)
