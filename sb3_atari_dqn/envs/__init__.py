"""Environments: wrappers over ALE's games."""
