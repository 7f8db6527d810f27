"""A native environment's naive twin: ALE's emulator stepped by hand, one frame after the other."""

from dataclasses import dataclass, field
from typing import Any

import ale_py
import cv2
import numpy as np
from ale_py import roms

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


@dataclass
class Emulator:
    """One game, without no-ops at its start. Does what ``AleVecEnv`` says of its arguments, and starts anew when done."""

    game: str
    seed: int = 0
    n_stack: int = 4
    frame_skip: int = 4
    screen_size: tuple[int, int] = (84, 84)
    terminal_on_life_loss: bool = True
    fire_reset: bool = False
    action_repeat_probability: float = 0.0
    max_episode_frames: int = 108_000
    lost_lives: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", self.seed)
        self.ale.setFloat("repeat_action_probability", self.action_repeat_probability)
        rom = roms.get_rom_path(self.game)
        assert rom is not None
        self.ale.loadROM(rom)
        self.actions = self.ale.getMinimalActionSet()

    def reset(self) -> np.ndarray:
        self.ale.reset_game()
        self.score, self.length, self.lives = 0, 0, self.ale.lives()
        self.picture = self.ale.getScreenGrayscale()
        return self.start(self.resized())

    def start(self, frame: np.ndarray) -> np.ndarray:
        self.stack = [np.zeros(self.screen_size, dtype=np.uint8)] * (self.n_stack - 1) + [frame]
        self.is_first_step = True
        return np.stack(self.stack)

    def resized(self) -> np.ndarray:
        height, width = self.screen_size
        return cv2.resize(self.picture, (width, height), interpolation=cv2.INTER_AREA)

    def step(self, index: int) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        action = self.actions[index]
        if self.fire_reset and self.is_first_step and ale_py.Action.FIRE in self.actions:
            action = ale_py.Action.FIRE
        self.is_first_step = False
        reward, screens = 0, []
        for _ in range(self.frame_skip):
            reward += self.ale.act(action)
            self.length += 1
            game_over, time_is_up = self.ale.game_over(), self.length >= self.max_episode_frames
            if game_over or time_is_up:
                break
            screens.append(self.ale.getScreenGrayscale())
        self.score += reward
        # a game's very last screen is never looked at
        if game_over or time_is_up:
            third = screens[self.frame_skip - 2 :] if self.frame_skip > 1 else []
            self.picture = np.max([self.picture, *third], axis=0)
        else:
            self.picture = np.max(screens[-2:], axis=0)
        frame = self.resized()
        self.stack = [*self.stack[1:], frame]
        observation = np.stack(self.stack)

        lost_life = 0 < self.ale.lives() < self.lives
        self.lives = self.ale.lives()
        infos: dict[str, Any] = {}
        terminated = game_over or (self.terminal_on_life_loss and lost_life)
        if terminated or time_is_up:
            infos = {"terminal_observation": observation, "TimeLimit.truncated": not terminated}
        if game_over or time_is_up:
            infos["episode"] = {"r": self.score, "l": self.length}
            observation = self.reset()
        elif terminated:
            self.lost_lives += 1
            observation = self.start(frame)
        return observation, reward, bool(infos), infos
