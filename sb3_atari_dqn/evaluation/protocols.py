"""Protocols: what has to be the same before two scores can be compared, each one entry of a table.

A protocol fixes the game (stickiness, frame skip, no-ops, limit of time), how the agent acts (epsilon) and how many games
count. What the agent sees stays what it was trained to see. A lost life never ends a game. Times are emulator frames, 60 a
second; an agent step is ``frame_skip`` of them.

Sources:

- ``nature``: Mnih et al. 2015, "Evaluation procedure" (https://www.nature.com/articles/nature14236)
- ``dqn-zoo``: https://github.com/google-deepmind/dqn_zoo, ``dqn/run_atari.py``, ``gym_atari.py``, ``parts.py``
- ``machado``: Machado et al. 2018 (https://arxiv.org/abs/1709.06009), its recommendations and benchmark
- ``tutorial``: Hvass Pedersen 2017, TensorFlow tutorial 16, on OpenAI Gym's ``Breakout-v0``
"""

from typing import NamedTuple


class Protocol(NamedTuple):
    """
    Rules of an evaluation.

    :param name: what ``--protocol`` takes
    :param epsilon: probability of a random action at an agent step
    :param n_episodes: whole games that count, if not told otherwise; None if ``n_frames`` says when to stop
    :param n_frames: emulator frames that are played, one game after another; a game that they do not suffice for does not
        count. None if ``n_episodes`` says when to stop.
    :param max_frames: emulator frames after which a game is cut short
    :param noop_max: most emulator frames without an action at the start of a game
    :param frame_skip: emulator frames for which an action is repeated, or (least, most + 1) to draw them at random from
    :param random_frame_skip: the same for random play
    :param action_repeat_probability: that an emulator frame repeats the action before instead (stickiness)
    :param shows_lost_lives: whether the environment may act on a lost life as it did in training, with an empty stack of
        frames and FIRE; the game goes on in any case
    :param full_action_space: whether a random policy has all 18 actions, not those alone that the game reacts to. A model
        has those that it was trained with.
    """

    name: str
    epsilon: float
    n_episodes: int | None
    n_frames: int | None
    max_frames: int
    noop_max: int
    frame_skip: int | tuple[int, int]
    random_frame_skip: int | tuple[int, int]
    action_repeat_probability: float
    shows_lost_lives: bool
    full_action_space: bool

    def with_episodes(self, n_episodes: int | None) -> "Protocol":
        """
        :param n_episodes: whole games to play; None for what the protocol says
        :return: the protocol with that many games
        """
        return self if n_episodes is None else self._replace(n_episodes=n_episodes, n_frames=None)


#: all protocols, by name
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="nature",
            epsilon=0.05,
            n_episodes=30,
            n_frames=None,
            max_frames=18_000,  # 5 minutes
            noop_max=30,
            frame_skip=4,
            random_frame_skip=6,  # 10 actions a second
            action_repeat_probability=0.0,
            shows_lost_lives=True,
            full_action_space=False,
        ),
        Protocol(
            name="dqn-zoo",
            epsilon=0.05,  # its DQN's; its C51 has 0.001
            n_episodes=None,
            n_frames=500_000,
            max_frames=108_000,  # 30 minutes
            noop_max=30,
            frame_skip=4,
            random_frame_skip=4,
            action_repeat_probability=0.0,
            shows_lost_lives=True,
            full_action_space=False,
        ),
        Protocol(
            name="machado",
            epsilon=0.01,  # of the last training games, which are what the paper reports
            n_episodes=100,
            n_frames=None,
            max_frames=18_000,
            noop_max=0,
            frame_skip=4,
            random_frame_skip=4,
            action_repeat_probability=0.25,
            shows_lost_lives=False,
            full_action_space=True,
        ),
        Protocol(
            name="tutorial",
            epsilon=0.01,
            n_episodes=30,
            n_frames=None,
            max_frames=108_000,
            noop_max=0,
            frame_skip=(2, 5),
            random_frame_skip=(2, 5),
            action_repeat_probability=0.25,
            shows_lost_lives=True,
            full_action_space=False,
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """
    :param name: of a protocol
    :return: the protocol
    :raises ValueError: if there is none of that name, listing those that there are
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r} is not known; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
