"""Models from files of each kind that there is: safetensors, checkpoints of a run, and Stable-Baselines3's zip files."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import GymEnv

from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checkpoints import models as checkpoints
from sb3_atari_dqn.checkpoints.store import CheckpointStore
from sb3_atari_dqn.saving import model_files
from sb3_atari_dqn.saving.zip_files import best_algorithm, load_zip, read_data, safe_values

__all__ = ["kind_of", "load", "read_model"]


def load(
    path: str | Path, env: GymEnv | None = None, device: th.device | str = "auto", trust: bool = False
) -> QLearningAlgorithm:
    """
    Load a model without running anything that is in its file.

    :param path: a safetensors file that ``export`` wrote; a checkpoint of a run, ``"RUN/checkpoints/000012.json"``, or the
        folder with all of them, of which the newest that is whole is taken; or a zip file of ``CustomDQN.save`` or
        ``SweepDQN.save``
    :param env: environment to go on learning with; none is needed to play
    :param device: where the networks live
    :param trust: allow any class in a safetensors file or a checkpoint, and unpickle a zip file, as Stable-Baselines3 does:
        all of it runs code of whoever made the file
    :return: the model. It plays as the saved one did. It goes on learning with its settings, counters and, if the file has it,
        the state of its optimizer; without replay memory, environment and random generators. (``resume`` goes on with a
        checkpoint as it was.)
    :raises UntrustedFileError: a ``ValueError``, for a file that names something that a model does not need
    :raises ValueError: for a file that is missing, damaged, of another kind, or of a version whose settings differ, and for an
        environment whose observations or actions are not the model's
    """
    path = Path(path)
    if path.is_dir() and CheckpointStore(path).manifests():
        checkpoint, complaints = CheckpointStore(path).find_good()
        for note in checkpoint.notes(complaints):
            warnings.warn(note, stacklevel=2)
        path = checkpoint.path
    if kind_of(path) != "zip":
        return model_files.build(path, *read_model(path), env, device, trust)
    data = read_data(path)
    if not trust:
        safe_values(path, data)  # first of all, it says what is wrong with a file
    algorithms = best_algorithm(data, model_files.ALGORITHMS)
    if len(algorithms) != 1:
        raise ValueError(
            f"{str(path)!r} is not a model of {' or '.join(model_files.ALGORITHMS)}: load it with its own algorithm"
        )
    algorithm = model_files.ALGORITHMS[algorithms[0]]
    try:
        return load_zip(path, algorithm, env, device, trust)
    except ValueError:
        raise
    except Exception as error:  # whatever a constructor makes of values that are none
        raise ValueError(f"{str(path)!r} cannot be loaded as {algorithm.__name__}: {error!r}") from error


def kind_of(path: Path) -> str:
    """
    :param path: a model's file
    :return: ``"safetensors"``, ``"checkpoint"`` or ``"zip"``, by what is in it
    :raises ValueError: if it is missing, or none of these
    """
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder, not a model's file")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist")
    with path.open("rb") as file:
        start = file.read(9)
    if start[:2] == b"PK":
        return "zip"
    if start[8:] == b"{":  # after the header's length
        return "safetensors"
    if path.suffix == ".json" and path.stem.isdigit():
        return "checkpoint"
    raise ValueError(
        f"{str(path)!r} is not a model that Stable-Baselines3 saved, a zip file, nor one that `export --safetensors` wrote, "
        "nor a checkpoint of a run, such as 000012.json; other files are not read"
    )


def read_model(path: Path) -> tuple[Mapping[str, Any], Mapping[str, th.Tensor]]:
    """
    :param path: a safetensors file, or a checkpoint
    :return: what ``model_files.describe`` and ``model_files.arrays_of`` said of the model in it
    :raises ValueError: if it is damaged, or of another format
    """
    return checkpoints.read_model(path) if kind_of(path) == "checkpoint" else model_files.read_model(path)
