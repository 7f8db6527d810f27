"""The one thing that ALE's saved state leaves out: the action that a sticky emulator would repeat.

With ``repeat_action_probability`` ALE draws at each frame whether the action given takes effect or the one before it goes on.
Which one that is, is not in its state. But its generator is: a Mersenne Twister, whose draws can be read backwards. So from
the last actions given, and the draws at their frames, it follows what the last one was that took effect.

A frame takes two draws, one for each player. Source: ALE 0.12.1, ``stella_environment.cpp``, ``act``.
"""

import collections
import re
from typing import Any

import ale_py
import numpy as np

#: actions that are remembered; that none of so many took effect is as good as impossible
_REMEMBERED = 64

#: frames that an action is given for, so that it takes effect
_INSISTING = 256

_ATTRIBUTE = "_given_actions"

_WORDS = 624
_TWIST = 0x9908B0DF
_DRAWS_PER_FRAME = 2


def probability(env: ale_py.AtariEnv) -> float:
    """
    :param env: a game
    :return: that a frame repeats the action before
    """
    return 0.0 if env.continuous else float(env.ale.getFloat("repeat_action_probability"))


def remember_actions(env: ale_py.AtariEnv) -> None:
    """
    Let a sticky game remember the actions that it is given; doing so again changes nothing.

    :param env: the game
    """
    if probability(env) == 0 or hasattr(env, _ATTRIBUTE):
        return
    given: collections.deque[list[int]] = collections.deque(maxlen=_REMEMBERED)
    setattr(env, _ATTRIBUTE, given)
    step = env.step

    def remembering_step(action: Any) -> Any:
        before = env.ale.getFrameNumber()
        result = step(action)
        getattr(env, _ATTRIBUTE).append([env._action_set[action].value, env.ale.getFrameNumber() - before])
        return result

    env.step = remembering_step


def action_in_effect(env: ale_py.AtariEnv, state: bytes) -> int | None:
    """
    :param env: a game that remembers its actions
    :param state: its emulator's, with the generator
    :return: the last action that took effect, as ALE numbers them; None for a game that is not sticky, or if none was given
    """
    given = getattr(env, _ATTRIBUTE, None)
    if not given:
        return None
    last_draws = iter(_draws_backwards(state))
    limit = probability(env) * 2.0**32
    for action, n_frames in reversed(given):
        for _ in range(n_frames):
            next(last_draws)  # of the second player
            if next(last_draws) >= limit:
                return int(action)
    return int(given[0][0])


def put_in_effect(env: ale_py.AtariEnv, action: int | None) -> None:
    """
    :param env: a game, whose state is set after this
    :param action: what its emulator is to repeat, as ALE numbers them
    """
    if action is not None:
        for _ in range(_INSISTING):
            env.ale.act(ale_py.Action(action))


def _draws_backwards(state: bytes) -> list[int]:
    """
    :param state: an emulator's, with its generator as text: 624 words and a position
    :return: what the generator gave, the last one first, for at least 390 draws
    """
    texts = re.findall(rb"(?:\d+ ){624}\d+", state)
    *numbers, position = (int(word) for word in texts[-1].split())  # the first one is the console's own
    words = np.array(numbers, dtype=np.int64)
    before = _words_before(words)
    outputs = [_temper(int(word)) for word in words[:position][::-1]]
    return outputs + [_temper(int(word)) for word in before[::-1]]


def _words_before(words: np.ndarray) -> np.ndarray:
    """
    :param words: the generator's, (624,)
    :return: the last of those that they were made from, all that these tell
    """
    twisted = words[227:] ^ words[:-227]
    is_odd = twisted >> 31
    mixed = ((twisted ^ (is_odd * _TWIST)) << 1) | is_odd  # highest bit of one word, the others of the next
    return (mixed[1:] & 0x80000000) | (mixed[:-1] & 0x7FFFFFFF)


def _temper(word: int) -> int:
    word ^= word >> 11
    word ^= (word << 7) & 0x9D2C5680
    word ^= (word << 15) & 0xEFC60000
    return word ^ (word >> 18)
