"""The model in a checkpoint, without its run: to play, or to learn on elsewhere.

A checkpoint carries what an exported model carries (``saving.model_files``): a description as JSON, and arrays, which are
those of its state.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.saving.model_files import describe, parse_description


def describe_model(model: QLearningAlgorithm) -> str | None:
    """
    :param model: any
    :return: what a checkpoint says of it; None for a model with settings that JSON has nothing for, such as functions, which
        can only be resumed
    """
    try:
        return json.dumps(describe(model), allow_nan=False, sort_keys=True)
    except ValueError:
        return None


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, th.Tensor]]:
    """
    :param path: a checkpoint's manifest
    :return: description and arrays of its model, as an exported file has them
    :raises ValueError: if a file is not what was written, naming it; if it is of another format, or says nothing of its model
    """
    store = CheckpointStore(path.parent)
    try:
        state = store.read_state(store.read_manifest(path))
        text = state.get("description")  # checkpoints of earlier versions have none
        arrays = {f"policy.{name}": th.tensor(array) for name, array in state["model"]["policy"].items()}
        for index, values in state["model"]["optimizer"].items():
            for name, value in values.items():
                if isinstance(value, np.ndarray):
                    arrays[f"optimizer.{index}.{name}"] = th.tensor(value)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a checkpoint that this version writes: {error!r}") from error
    if text is None:
        raise ValueError(
            f"{str(path)!r} does not describe its model: settings of it are functions, or an earlier version wrote it. It can "
            "only be resumed"
        )
    return parse_description(path, text), arrays
