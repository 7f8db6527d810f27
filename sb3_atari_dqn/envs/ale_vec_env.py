"""ALE's own vector environment, in C++ threads, as a ``VecEnv`` of Stable-Baselines3.

It does what ``make_vec_env`` with ``AtariWrapper`` and ``VecFrameStack`` does, in one object: no-op start, frame skip with
the brighter of the last two frames, grey image, stack, end of an episode at a lost life, FIRE, Monitor's scores. How far
the two agree is in ``docs/native_environments.md``.

An *episode* is what ``dones`` ends: a life, or with ``terminal_on_life_loss=False`` a game. Scores, lengths and files are
those of whole *games*, of raw rewards and emulator frames, as Monitor inside the wrappers counts them.
"""

import copy
import difflib
import json
import os
import time
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

#: what can be set of ``AtariEnv``, with its default; the rest exists in Gymnasium's environments alone
SETTINGS = {
    "game": None,
    "frameskip": 4,
    "repeat_action_probability": 0.25,
    "full_action_space": False,
    "max_num_frames_per_episode": 108_000,
}

_GYMNASIUM = "make_vec_env with AtariWrapper, in YAML native_envs: false"


def find_game(env_id: str) -> EnvSpec:
    """
    :param env_id: an Atari game without frame skip of its own, ``*NoFrameskip-v4``
    :return: a copy of its specification, with all ``SETTINGS`` among its arguments
    :raises ValueError: for another one, naming the nearest game or the reason
    """
    spec = gym.registry.get(env_id)
    if spec is None:
        nearest = difflib.get_close_matches(str(env_id), plain_games(), n=1, cutoff=0)
        raise ValueError(f"env_id={env_id!r} is not known to Gymnasium; did you mean {nearest[0]!r}?")
    if not is_atari(spec):
        raise ValueError(f"env_id={env_id!r} is not one of ALE's games: native environments play '*NoFrameskip-v4' only")
    check_skips_no_frames(env_id, "native environments do so with frame_skip")
    settings = {**SETTINGS, **spec.kwargs}
    for name in settings.keys() - SETTINGS.keys():
        raise ValueError(f"env_id={env_id!r} sets {name}={settings[name]!r}, which native environments cannot")
    if spec.max_episode_steps is not None or spec.additional_wrappers:
        raise ValueError(f"env_id={env_id!r} is registered with wrappers or a limit of steps, which native environments lack")
    spec = copy.deepcopy(spec)
    spec.kwargs = settings
    return spec


def check_skips_no_frames(env_id: str, who_does: str, **kwargs: Any) -> None:
    """
    :param env_id: any environment
    :param who_does: who skips frames in its place
    :param kwargs: arguments that it is made with
    :raises ValueError: for an Atari game that skips frames by itself, naming the one that does not
    """
    spec = gym.registry.get(env_id)
    if spec is None or not is_atari(spec):
        return
    settings = {**SETTINGS, **spec.kwargs, **kwargs}
    if settings["frameskip"] != 1:
        plain = [name for name, other in plain_games().items() if other.kwargs["game"] == settings["game"]]
        instead = f"give {plain[0]!r}" if plain else "there is no '*NoFrameskip-v4' of this game"
        raise ValueError(
            f"env_id={env_id!r} skips frames by itself (frameskip={settings['frameskip']}), and {who_does}: {instead}"
        )


def plain_games() -> dict[str, EnvSpec]:
    return {name: spec for name, spec in gym.registry.items() if is_atari(spec) and name.endswith("NoFrameskip-v4")}


def is_atari(spec: EnvSpec) -> bool:
    return isinstance(spec.entry_point, str) and spec.entry_point.endswith(":AtariEnv")


class AleVecEnv(VecEnv):
    """
    Several copies of an Atari game, played by ALE's C++ threads.

    Observations are uint8 (n_envs, n_stack, height, width), the newest frame last; black frames stand for what was before
    the episode. Rewards are the game's, never clipped. An environment that is done starts anew at once: the last observation
    of the episode is ``infos[i]["terminal_observation"]``, ``infos[i]["TimeLimit.truncated"]`` tells whether time alone
    ended it, and where a whole game ended, ``infos[i]["episode"]`` holds its score "r", its length "l" in emulator frames
    and the seconds "t" since this object was made. All other infos are empty.

    Between ``step_async`` and ``step_wait`` the games are played while Python can do other things.

    :param env_id: a game without frame skip of its own, ``*NoFrameskip-v4``
    :param n_envs: copies of the game
    :param n_stack: frames in an observation
    :param noop_max: a game starts with 0 to ``noop_max - 1`` emulator frames without an action
    :param frame_skip: emulator frames for which an action is repeated; the last two are merged. 1 for no repetition.
    :param screen_size: rows and columns of a frame, or one number for both
    :param terminal_on_life_loss: whether a lost life ends the episode; the game goes on in the next one
    :param fire_reset: whether an episode's first action is FIRE, whatever ``step`` is given, in games that have it
    :param action_repeat_probability: that an emulator frame repeats the action before instead; None for what ``env_id`` has
    :param full_action_space: all 18 actions instead of those that the game reacts to; None for what ``env_id`` has
    :param max_episode_frames: emulator frames after which a game is cut short, no-ops not counted; None for what
        ``env_id`` has, 108,000
    :param n_threads: C++ threads; 0 for one for each environment, and no more than cores
    :param monitor_dir: folder for Monitor's files, ``<index>.monitor.csv``; None for no files
    :param override_existing: begin these files anew; otherwise those that are there go on
    :param seed: of the first environment, the next ones have the next numbers; None for one drawn by NumPy
    :raises ValueError: for a value that is not allowed or a game that native environments do not have
    """

    spec: EnvSpec
    render_mode: str | None = None

    def __init__(
        self,
        env_id: str,
        n_envs: int = 1,
        *,
        n_stack: int = 4,
        noop_max: int = 30,
        frame_skip: int = 4,
        screen_size: int | tuple[int, int] = 84,
        terminal_on_life_loss: bool = True,
        fire_reset: bool = True,
        action_repeat_probability: float | None = None,
        full_action_space: bool | None = None,
        max_episode_frames: int | None = None,
        n_threads: int = 0,
        monitor_dir: str | None = None,
        override_existing: bool = True,
        seed: int | None = None,
    ) -> None:
        self.check_values(
            env_id,
            n_envs,
            n_stack=n_stack,
            noop_max=noop_max,
            frame_skip=frame_skip,
            screen_size=screen_size,
            terminal_on_life_loss=terminal_on_life_loss,
            fire_reset=fire_reset,
            action_repeat_probability=action_repeat_probability,
            full_action_space=full_action_space,
            max_episode_frames=max_episode_frames,
            n_threads=n_threads,
        )
        self.spec = find_game(env_id)
        for name, value in (
            ("repeat_action_probability", action_repeat_probability),
            ("full_action_space", full_action_space),
            ("max_num_frames_per_episode", max_episode_frames),
        ):
            if value is not None:
                self.spec.kwargs[name] = value
        height, width = (int(side) for side in np.broadcast_to(screen_size, 2))
        self._native: AtariVectorEnv | None = AtariVectorEnv(
            **{name: self.spec.kwargs[name] for name in self.spec.kwargs.keys() - {"frameskip"}},
            num_envs=n_envs,
            num_threads=n_threads,
            img_height=height,
            img_width=width,
            stack_num=n_stack,
            frameskip=int(frame_skip),
            noop_max=noop_max,
            life_loss_info=terminal_on_life_loss,  # episodic_life would start a new game at each lost life
            reward_clipping=False,
            use_fire_reset=False,  # presses FIRE at new games only
            autoreset_mode="SameStep",
        )
        actions = self._native.ale.get_action_set()
        super().__init__(n_envs, spaces.Box(0, 255, (n_stack, height, width), np.uint8), spaces.Discrete(len(actions)))
        self._n_stack = n_stack
        self._n_actions = len(actions)
        self._fire = actions.index(ale_py.Action.FIRE) if fire_reset and ale_py.Action.FIRE in actions else None
        self._has_begun = False  # reset was called
        self._is_playing = False  # between step_async and step_wait
        self._ages = np.zeros(n_envs, dtype=np.int64)  # agent steps since the episode began
        self._scores = np.zeros(n_envs, dtype=np.int64)  # of the games
        self._births = np.zeros(n_envs, dtype=np.int64)  # emulator frames before the games
        self._born_at = time.time()
        self._writers = []
        if monitor_dir is not None:
            paths = [os.path.join(monitor_dir, f"{index}.{Monitor.EXT}") for index in range(n_envs)]
            goes_on = not override_existing and all(map(os.path.isfile, paths))
            if goes_on:  # seconds are counted from when the files were begun
                self._born_at = float(json.loads(Path(paths[0]).read_text().splitlines()[0].removeprefix("#"))["t_start"])
            header: dict[str, float | str] = {"t_start": self._born_at, "env_id": env_id}
            self._writers = [ResultsWriter(path, header, override_existing=not goes_on) for path in paths]
        self.seed(seed)

    @staticmethod
    def check_values(
        env_id: str,
        n_envs: int = 1,
        *,
        n_stack: int = 4,
        noop_max: int = 30,
        frame_skip: int = 4,
        screen_size: int | tuple[int, int] = 84,
        terminal_on_life_loss: bool = True,
        fire_reset: bool = True,
        action_repeat_probability: float | None = None,
        full_action_space: bool | None = None,
        max_episode_frames: int | None = None,
        n_threads: int = 0,
    ) -> None:
        """
        :param env_id: see above, like the others
        :param n_envs: see above
        :param n_stack: see above
        :param noop_max: see above
        :param frame_skip: see above
        :param screen_size: see above
        :param terminal_on_life_loss: see above
        :param fire_reset: see above
        :param action_repeat_probability: see above
        :param full_action_space: see above
        :param max_episode_frames: see above
        :param n_threads: see above
        :raises ValueError: for a value that is not allowed or a game that native environments do not have
        """
        find_game(env_id)
        for name, number, unit, minimum in (
            ("n_envs", n_envs, "environments", 1),
            ("n_stack", n_stack, "frames", 1),
            ("noop_max", noop_max, "emulator frames", 0),
            ("frame_skip", frame_skip, "emulator frames", 1),
            ("max_episode_frames", 1 if max_episode_frames is None else max_episode_frames, "emulator frames", 1),
            ("n_threads", n_threads, "threads", 0),
        ):
            if not _is_whole(number, minimum):
                raise ValueError(f"{name}={number!r} must be a whole number of {unit}, at least {minimum}")
        sides = screen_size if isinstance(screen_size, (tuple, list)) and len(screen_size) == 2 else (screen_size,)
        if not all(_is_whole(side, 1) for side in sides):
            raise ValueError(
                f"screen_size={screen_size!r} must be a whole number of pixels or two (rows, columns), at least 1"
            )
        for name, switch, others in (
            ("terminal_on_life_loss", terminal_on_life_loss, ""),
            ("fire_reset", fire_reset, ""),
            ("full_action_space", full_action_space or False, " or None"),
        ):
            if not isinstance(switch, (bool, np.bool_)):
                raise ValueError(f"{name}={switch!r} must be True or False{others}")
        probability = 0.0 if action_repeat_probability is None else action_repeat_probability
        if isinstance(probability, bool) or not isinstance(probability, Real) or not 0 <= probability <= 1:
            raise ValueError(f"action_repeat_probability={probability!r} must be a number in [0, 1]")

    def reset(self) -> np.ndarray:
        """
        Start new games, with the seeds of the last call of ``seed`` if there was one since the last ``reset``.

        :return: first observations, uint8 (n_envs, n_stack, height, width)
        """
        if self._is_playing:
            self.step_wait()
        seeds = None if None in self._seeds else np.array(self._seeds) % 2**31  # C++ takes 32 bits with a sign
        observations, info = self._open().reset(seed=seeds)
        self._reset_seeds()
        self._has_begun = True
        self._ages[:] = 0
        self._scores[:] = 0
        self._births[:] = info["frame_number"] - info["episode_frame_number"]
        self.reset_infos = [self._reset_info(info, index) for index in range(self.num_envs)]
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """
        Let the games begin their next step.

        :param actions: whole numbers (n_envs,), overruled where FIRE is due
        :raises ValueError: for an action that the game does not have
        :raises RuntimeError: before the first ``reset`` or while a step is going on
        """
        native = self._open()
        if not self._has_begun or self._is_playing:
            raise RuntimeError("call step_wait before the next step_async" if self._is_playing else "call reset before step")
        actions = np.asarray(actions, dtype=np.int64).reshape(self.num_envs)
        if ((actions < 0) | (actions >= self._n_actions)).any():  # C++ would never answer
            raise ValueError(f"actions={actions.tolist()} must be whole numbers from 0 to {self._n_actions - 1}")
        if self._fire is not None:
            actions = np.where(self._ages == 0, self._fire, actions)
        native.send(actions)
        self._is_playing = True

    def step_wait(self) -> VecEnvStepReturn:
        """
        :return: observations, uint8 (n_envs, n_stack, height, width), nobody else's; rewards, float32 (n_envs,); dones, bool
            (n_envs,); and infos, a dictionary for each environment
        :raises RuntimeError: without ``step_async``
        """
        if not self._is_playing:  # C++ would wait for ever
            raise RuntimeError("call step_async before step_wait")
        observations, rewards, terminated, truncated, info = self._open().recv()
        self._is_playing = False
        dones = terminated | truncated
        births = info["frame_number"] - info["episode_frame_number"]
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._scores += rewards
        self._ages += 1
        for index in np.flatnonzero(self._ages < self._n_stack - 1).tolist():
            self._blacken(observations[index], self._ages[index])
        for index in np.flatnonzero(dones).tolist():
            is_over = births[index] != self._births[index]
            # where only a life was lost, final_obs is whatever was in memory
            terminal_observation = (info["final_obs"] if is_over else observations)[index].copy()
            self._blacken(terminal_observation, self._ages[index])
            infos[index]["terminal_observation"] = terminal_observation
            infos[index]["TimeLimit.truncated"] = bool(truncated[index])  # never where terminated
            if is_over:
                infos[index]["episode"] = self._end_game(index, length=int(births[index] - self._births[index]))
            self._ages[index] = 0
            self._blacken(observations[index], age=0)
            self.reset_infos[index] = self._reset_info(info, index)
        self._births[:] = births
        return observations, rewards.astype(np.float32), dones, infos

    @staticmethod
    def _blacken(stack: np.ndarray, age: int) -> None:
        """
        Make what was before the episode black, as ``VecFrameStack`` does. ALE does so for new games alone.

        :param stack: frames, uint8 (n_stack, height, width)
        :param age: agent steps since the episode began
        """
        stack[: max(len(stack) - 1 - age, 0)] = 0

    @staticmethod
    def _reset_info(info: dict[str, np.ndarray], index: int) -> dict[str, Any]:
        """
        :param info: ALE's, arrays (n_envs,)
        :param index: environment
        :return: what ``AtariEnv`` says of the beginning of an episode
        """
        return {name: int(info[name][index]) for name in ("lives", "episode_frame_number", "frame_number")}

    def _end_game(self, index: int, length: int) -> dict[str, float]:
        """
        :param index: environment
        :param length: emulator frames of the game
        :return: what Monitor says at the end of a game
        """
        episode = {"r": float(self._scores[index]), "l": length, "t": round(time.time() - self._born_at, 6)}
        if self._writers:
            self._writers[index].write_row(episode)
        self._scores[index] = 0
        return episode

    def _open(self) -> AtariVectorEnv:
        if self._native is None:
            raise RuntimeError("these environments have been closed")
        return self._native

    def close(self) -> None:
        """Stop the threads and close the files; doing so again changes nothing."""
        if self._is_playing:
            self.step_wait()
        self._native = None
        for writer in self._writers:
            writer.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        :param attr_name: one of spec, action_space, observation_space, render_mode, metadata
        :param indices: environments, all of them by default
        :return: its value for each
        :raises AttributeError: for another one
        """
        if attr_name not in ("spec", "action_space", "observation_space", "render_mode", "metadata"):
            raise AttributeError(f"native environments have no {attr_name!r}; Gymnasium's have: {_GYMNASIUM}")
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """
        :param attr_name: see SB3
        :param value: see SB3
        :param indices: see SB3
        :raises AttributeError: always
        """
        raise AttributeError(f"{attr_name!r} cannot be set in native environments; it can in Gymnasium's: {_GYMNASIUM}")

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """
        :param method_name: see SB3
        :param method_args: see SB3
        :param indices: see SB3
        :param kwargs: see SB3
        :raises AttributeError: always
        """
        raise AttributeError(f"native environments have no method {method_name!r}; Gymnasium's have: {_GYMNASIUM}")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """
        :param wrapper_class: a wrapper of Gymnasium's
        :param indices: environments, all of them by default
        :return: True for Monitor, whose scores these environments report
        """
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """
        :raises NotImplementedError: always, there are no pictures in colour
        """
        raise NotImplementedError(f"native environments cannot be shown or recorded; Gymnasium's can: {_GYMNASIUM}")

    def render(self, mode: str | None = None) -> np.ndarray | None:
        """
        :param mode: see SB3
        :raises NotImplementedError: always, there are no pictures in colour
        """
        self.get_images()
        return None


def _is_whole(number: Any, minimum: int) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= minimum
