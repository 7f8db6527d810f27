"""Checkpoints: all that a training run is, in files that hold arrays and JSON only.

``files`` turns nested state into files and back, ``store`` keeps checkpoints in a folder, ``memory_log`` writes a replay
memory bit by bit, ``environments`` knows what games are made of, ``watcher`` does it all while a model learns.
"""
