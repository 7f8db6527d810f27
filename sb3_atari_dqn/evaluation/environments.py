"""Games as a protocol wants them, seen as a model was trained to see them.

The rules come from the protocol, the picture from the model's training. Each environment says in ``infos[i]["episode"]`` when
a whole game has ended: its score "r", and "l", the emulator frames of it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv, FireResetEnv, MaxAndSkipEnv, NoopResetEnv, WarpFrame
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecFrameStack, VecTransposeImage
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv, is_atari, plain_games
from sb3_atari_dqn.envs.motion_tracer import MotionTracer
from sb3_atari_dqn.envs.vec_motion_tracer import VecMotionTracer
from sb3_atari_dqn.evaluation.protocols import Protocol


class Preprocessing(NamedTuple):
    """
    What a model was trained to see, and where the environment helped it. The defaults are ``AtariWrapper``'s.

    :param screen_size: rows and columns of a frame
    :param n_stack: frames in an observation
    :param tracer: the motion tracer's ``decay`` and ``threshold``, where given, in place of a stack; None for no tracer
    :param fire_reset: whether FIRE is pressed at the start of a game, and of a life with ``episodic_life``
    :param episodic_life: whether a lost life ended an episode in training, so that the stack starts empty after it
    :param native: whether frames come from ALE's native environments, whose pixels differ a little
    """

    screen_size: tuple[int, int] = (84, 84)
    n_stack: int = 4
    tracer: Mapping[str, Any] | None = None
    fire_reset: bool = True
    episodic_life: bool = True
    native: bool = False


#: for a policy that does not look: nothing was trained, so nothing helps
UNSEEN = Preprocessing(n_stack=1, fire_reset=False, episodic_life=False, native=True)


def find_rom(env_id: str) -> str:
    """
    :param env_id: an Atari game
    :return: the name of its ROM, ``"space_invaders"``
    :raises ValueError: for another environment
    """
    spec = gym.registry.get(env_id)
    if spec is None or not is_atari(spec):
        raise ValueError(f"{env_id!r} is not one of ALE's games, such as 'BreakoutNoFrameskip-v4'; protocols are for these")
    return spec.kwargs["game"]


def guess_preprocessing(env_id: str, space: spaces.Space) -> Preprocessing:
    """
    For a model that comes without the configuration of its training.

    :param env_id: the game
    :param space: the model's observations
    :return: what such observations usually are: two images of 105x80 the motion tracer's, others a stack of frames
    :raises ValueError: for observations that are no images of bytes
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        raise ValueError(f"the model's observations are {space}, not images of bytes (frames, height, width)")
    n_frames, *size = space.shape
    skips_by_itself = gym.spec(env_id).kwargs.get("frameskip", 4) != 1  # then there was no AtariWrapper around it
    height, width = size
    is_tracer = space.shape == (2, 105, 80)
    return Preprocessing((height, width), 1 if is_tracer else n_frames, {} if is_tracer else None, not skips_by_itself)


def make_env(
    protocol: Protocol, preprocessing: Preprocessing, env_id: str, n_envs: int, full_action_space: bool, seed: int
) -> VecEnv:
    """
    :param protocol: the rules
    :param preprocessing: what the model sees
    :param env_id: the game; how it skips frames and how sticky it is by itself does not matter
    :param n_envs: copies of the game
    :param full_action_space: all 18 actions instead of those that the game reacts to
    :param seed: of the first copy, the next ones have the next numbers
    :return: the environments; ``infos[i]["episode"]`` is there at the end of whole games only
    :raises ValueError: for an environment that is no Atari game
    """
    rom = find_rom(env_id)
    if not protocol.shows_lost_lives:
        preprocessing = preprocessing._replace(episodic_life=False)
    plain = [name for name, spec in plain_games().items() if spec.kwargs["game"] == rom]
    if preprocessing.native and plain and isinstance(protocol.frame_skip, int):
        return _make_native(protocol, preprocessing, plain[0], n_envs, full_action_space, seed)

    def make() -> gym.Env:
        return _make_game(protocol, preprocessing, env_id, full_action_space)

    env: VecEnv = _WholeGames(DummyVecEnv([make] * n_envs))
    if preprocessing.tracer is None and preprocessing.n_stack > 1:
        env = VecFrameStack(env, preprocessing.n_stack)
    env = VecTransposeImage(env)
    env.seed(seed)
    return env


def _make_native(
    protocol: Protocol, preprocessing: Preprocessing, env_id: str, n_envs: int, full_action_space: bool, seed: int
) -> VecEnv:
    assert isinstance(protocol.frame_skip, int)
    env: VecEnv = AleVecEnv(
        env_id,
        n_envs,
        n_stack=1 if preprocessing.tracer is not None else preprocessing.n_stack,
        noop_max=protocol.noop_max,
        frame_skip=protocol.frame_skip,
        screen_size=preprocessing.screen_size,
        terminal_on_life_loss=preprocessing.episodic_life,
        fire_reset=preprocessing.fire_reset,
        action_repeat_probability=protocol.action_repeat_probability,
        full_action_space=full_action_space,
        max_episode_frames=protocol.max_frames,
        seed=seed,
    )
    return env if preprocessing.tracer is None else VecMotionTracer(env, **preprocessing.tracer)


def _make_game(protocol: Protocol, preprocessing: Preprocessing, env_id: str, full_action_space: bool) -> gym.Env:
    """From the emulator to what the model sees, in the order of ``AtariWrapper`` and ``MotionTracerAtariWrapper``."""
    repeats_by_itself = not isinstance(protocol.frame_skip, int)
    env: gym.Env = gym.make(
        env_id,
        frameskip=protocol.frame_skip if repeats_by_itself else 1,
        repeat_action_probability=protocol.action_repeat_probability,
        max_num_frames_per_episode=protocol.max_frames,
        full_action_space=full_action_space,
    )
    env = _GameRecorder(env)
    if protocol.noop_max > 0:
        env = NoopResetEnv(env, protocol.noop_max)
    if isinstance(protocol.frame_skip, int) and protocol.frame_skip > 1:
        env = MaxAndSkipEnv(env, protocol.frame_skip)
    height, width = preprocessing.screen_size
    if preprocessing.tracer is not None:
        env = MotionTracer(env, height, width, **preprocessing.tracer)
    else:
        env = WarpFrame(env, width, height)
    if preprocessing.episodic_life:
        env = EpisodicLifeEnv(env)
    if preprocessing.fire_reset and "FIRE" in env.unwrapped.get_action_meanings():  # type: ignore[union-attr]  # ALE's have it
        env = FireResetEnv(env)
    return env


class _GameRecorder(gym.Wrapper):
    """
    Keeps the games that have ended, until somebody takes them.

    Stable-Baselines3's wrappers press buttons between two lives; a game that ends there shows in no ``info``.

    :param env: one of ALE's environments
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.ended: list[dict[str, Any]] = []
        self._score = 0.0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self._score = 0.0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._score += float(reward)
        if terminated or truncated:
            frames = self.unwrapped.ale.getEpisodeFrameNumber()  # type: ignore[attr-defined]  # ALE's environments have it
            self.ended.append({"r": self._score, "l": frames})
        return observation, reward, terminated, truncated, info


class _WholeGames(VecEnvWrapper):
    """
    Tells of games that have ended, wherever in a step that was.

    :param venv: environments with a ``_GameRecorder`` in each
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._ended: list[list[dict[str, Any]]] = venv.get_attr("ended")

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        for ended, info in zip(self._ended, infos, strict=True):
            if ended:
                info["episode"] = ended.pop(0)
                info["episode_frame_number"] = info["episode"]["l"]
        return observations, rewards, dones, infos
