"""Scores that can be compared: protocols, whole games, reference scores, statistics. Knows Stable-Baselines3, not RL Zoo."""
