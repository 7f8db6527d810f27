"""DQN on Atari for Stable-Baselines3 and RL Zoo."""

from sb3_atari_dqn.dqn import CustomDQN
from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv
from sb3_atari_dqn.envs.motion_tracer import MotionTracer
from sb3_atari_dqn.envs.preprocessing import MotionTracerAtariWrapper
from sb3_atari_dqn.envs.vec_motion_tracer import VecMotionTracer
from sb3_atari_dqn.loading import load
from sb3_atari_dqn.networks.extractors import ImpalaCNN, NatureCNN, NipsCNN, TutorialCNN
from sb3_atari_dqn.replay.buffer import FrameReplayBuffer
from sb3_atari_dqn.sweep_dqn import SweepDQN

__all__ = [
    "AleVecEnv",
    "CustomDQN",
    "FrameReplayBuffer",
    "ImpalaCNN",
    "MotionTracer",
    "MotionTracerAtariWrapper",
    "NatureCNN",
    "NipsCNN",
    "SweepDQN",
    "TutorialCNN",
    "VecMotionTracer",
    "__version__",
    "load",
]
__version__ = "0.1.0"
