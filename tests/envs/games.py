"""Games that tests play."""

GAMES = ("Pong", "Breakout", "SpaceInvaders", "Seaquest")
