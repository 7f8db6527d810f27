"""Models in safetensors files: arrays, and in the file's header one JSON text that says what they are. Nothing in them runs.

``describe`` and ``build`` are the two halves for whoever writes arrays and JSON elsewhere.

Format 1, the JSON under ``sb3_atari_dqn`` in the header's metadata:

- ``format``: 1; ``versions``: of the packages that wrote it, for messages
- ``algorithm``: ``"CustomDQN"`` or ``"SweepDQN"``; ``policy``, ``observation_space``, ``action_space``, ``n_envs``
- ``settings``: arguments of the constructor (``values.to_json``); ``progress``: how far training has come
- ``optimizer``: its ``param_groups`` and those of its ``state`` that are numbers, or null

and the arrays ``policy.*``, those of the policy, and ``optimizer.<index>.<name>``. A target network that is the network itself
is not there twice.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces

from sb3_atari_dqn.atomic_files import check_output, written_whole
from sb3_atari_dqn.base import QLearningAlgorithm
from sb3_atari_dqn.checks import check_names, check_number
from sb3_atari_dqn.dqn import CustomDQN
from sb3_atari_dqn.saving.trust import UntrustedFileError, check_policy_names, class_name, find_class
from sb3_atari_dqn.saving.values import from_json, to_json
from sb3_atari_dqn.sweep_dqn import SweepDQN
from sb3_atari_dqn.versions import versions

__all__ = ["arrays_of", "build", "describe", "parse_description", "read_model", "save_model"]

FORMAT = 1

#: key of the JSON in a file's metadata
KEY = "sb3_atari_dqn"

ALGORITHMS: dict[str, type[QLearningAlgorithm]] = {"CustomDQN": CustomDQN, "SweepDQN": SweepDQN}

#: arguments of the constructor that are not the model's, but of who uses it
_NOT_SAVED = {"policy", "env", "device", "verbose", "tensorboard_log", "run_folder", "_init_setup_model"}

#: attributes that say how far training has come, of those that an algorithm has
_PROGRESS = (
    "num_timesteps",
    "_total_timesteps",
    "_exploration_timesteps",
    "_current_progress_remaining",
    "_episode_num",
    "_n_updates",
    "_n_calls",
    "exploration_rate",
    "n_states",
    "n_episodes",
    "n_fits",
)


def save_model(model: QLearningAlgorithm, path: Path, optimizer: bool = True) -> None:
    """
    Write a model, in one piece or not at all.

    :param model: a ``CustomDQN`` or ``SweepDQN``
    :param path: safetensors file to write
    :param optimizer: whether the state of its optimizer goes with it, to go on learning; for Adam twice the networks' size
    :raises ValueError: for another model, or one with settings that JSON has nothing for
    """
    check_output(path)
    description, arrays = describe(model, optimizer), arrays_of(model, optimizer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(save(arrays, {KEY: json.dumps(description, allow_nan=False)}))


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, th.Tensor]]:
    """
    :param path: a safetensors file
    :return: what ``describe`` and ``arrays_of`` said of the model in it
    :raises ValueError: for a file that is damaged, of another kind, or of another format
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    if text is None:
        raise ValueError(f"{str(path)!r} does not hold a model of this package: its metadata have no {KEY!r}")
    return parse_description(path, text), arrays


def parse_description(path: Path, text: str) -> dict[str, Any]:
    """
    :param path: of the file, for messages
    :param text: JSON of what ``describe`` said
    :return: what it said
    :raises ValueError: for another text, or one of another format
    """
    try:
        description = json.loads(text)
        found = description["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} does not describe a model of this package: {error!r}") from error
    if found != FORMAT:
        raise ValueError(
            f"{str(path)!r} has format {found!r}, and this version reads format {FORMAT}{_other_versions(description)}"
        )
    return description


def describe(model: QLearningAlgorithm, optimizer: bool = True) -> dict[str, Any]:
    """
    :param model: a ``CustomDQN`` or ``SweepDQN``
    :param optimizer: whether its optimizer is to be described
    :return: all but its arrays, as JSON
    :raises ValueError: for another model, or one with settings that JSON has nothing for
    """
    algorithm = type(model).__name__
    if ALGORITHMS.get(algorithm) is not type(model):
        raise ValueError(f"{algorithm} cannot be written as safetensors; what can is {' and '.join(ALGORITHMS)}")
    settings = {name: _setting(model, name) for name in sorted(model.keywords() - _NOT_SAVED)}
    if settings.get("update_period") is not None:
        del settings["train_freq"], settings["gradient_steps"]  # which it stands for
    try:
        return {
            "format": FORMAT,
            "versions": versions(),
            "algorithm": algorithm,
            "policy": class_name(model.policy_class),
            "observation_space": to_json(model.observation_space),
            "action_space": to_json(model.action_space),
            "n_envs": model.n_envs,
            "settings": {name: _named(name, value) for name, value in settings.items()},
            "progress": {name: to_json(getattr(model, name)) for name in _PROGRESS if name in vars(model)},
            "optimizer": _describe_optimizer(model) if optimizer else None,
        }
    except ValueError as error:
        raise ValueError(f"the model cannot be written as safetensors: {error}") from error


def _setting(model: QLearningAlgorithm, name: str) -> Any:
    return getattr(model, "_stats_window_size" if name == "stats_window_size" else name)


def _named(name: str, value: Any) -> Any:
    try:
        return to_json(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _other_versions(description: Mapping[str, Any]) -> str:
    """
    :return: what differs between the versions that wrote a file and those at hand, as the end of a sentence
    """
    written, here = description.get("versions"), versions()
    if not isinstance(written, dict):
        return ""
    differing = [f"{name} {written[name]} (here {here.get(name)})" for name in written if written[name] != here.get(name)]
    return f". It was written by {', '.join(differing)}" if differing else ". It was written by the versions that are here"


def _describe_optimizer(model: QLearningAlgorithm) -> dict[str, Any]:
    state = model.policy.optimizer.state_dict()
    groups = [  # fast updates have the learning rate as a tensor
        {name: value.item() if isinstance(value, th.Tensor) else value for name, value in group.items()}
        for group in state["param_groups"]
    ]
    return {
        "param_groups": to_json(groups),
        "state": {
            str(index): {name: to_json(value) for name, value in of_one.items() if not isinstance(value, th.Tensor)}
            for index, of_one in state["state"].items()
        },
    }


def arrays_of(model: QLearningAlgorithm, optimizer: bool = True) -> dict[str, th.Tensor]:
    """
    :param model: a ``CustomDQN`` or ``SweepDQN``
    :param optimizer: whether the state of its optimizer is wanted
    :return: its arrays by name, on the CPU, each in memory of its own
    """
    arrays = {}
    for name, value in model.policy.state_dict().items():
        if not (name.startswith("q_net_target.") and model.policy.q_net_target is model.policy.q_net):
            arrays[f"policy.{name}"] = value
    if optimizer:
        for index, of_one in model.policy.optimizer.state_dict()["state"].items():
            arrays.update(
                {f"optimizer.{index}.{name}": value for name, value in of_one.items() if isinstance(value, th.Tensor)}
            )
    return {name: value.detach().cpu().clone(memory_format=th.contiguous_format) for name, value in arrays.items()}


def build(
    path: Path,
    description: Mapping[str, Any],
    arrays: Mapping[str, th.Tensor],
    env: GymEnv | None = None,
    device: th.device | str = "auto",
    trust: bool = False,
) -> QLearningAlgorithm:
    """
    :param path: of the file that they are from, for messages
    :param description: what ``describe`` said
    :param arrays: what ``arrays_of`` gave
    :param env: see ``loading.load``, like the others
    :param device: see there
    :param trust: see there
    :return: the model
    :raises ValueError: see there
    """
    try:
        return _build(description, arrays, env, device, trust)
    except UntrustedFileError as error:
        raise UntrustedFileError(f"{str(path)!r} is refused: {error}") from None
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from error


def _build(
    description: Mapping[str, Any],
    arrays: Mapping[str, th.Tensor],
    env: GymEnv | None,
    device: th.device | str,
    trust: bool,
) -> QLearningAlgorithm:
    try:
        algorithm = ALGORITHMS[description["algorithm"]]
        policy = find_class(description["policy"], trust)
        observation_space, action_space = (from_json(description[f"{what}_space"]) for what in ("observation", "action"))
        settings = {name: from_json(value, trust) for name, value in description["settings"].items()}
        progress, n_envs = from_json(description["progress"]), int(description["n_envs"])
        progress.pop("_num_timesteps_at_start", None)  # which earlier versions wrote; each call of ``learn`` sets it
        for space in (observation_space, action_space):
            if not isinstance(space, spaces.Space):
                raise TypeError(f"{space!r} is not a space")
        check_names("the file's progress", progress, _PROGRESS)
        for name, value in progress.items():
            check_number({name: value}, name, -math.inf)
    except UntrustedFileError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"what it says of the model is not what this version writes ({error!r}){_other_versions(description)}"
        ) from error
    if not trust:
        check_policy_names(settings.get("policy_kwargs") or {})
    if env is not None:
        env = algorithm._wrap_env(env)
        check_for_correct_spaces(env, observation_space, action_space)
        n_envs = env.num_envs
    try:
        check_names(algorithm.__name__, settings, algorithm.keywords() - _NOT_SAVED)
        model: QLearningAlgorithm = algorithm(policy, env, device=device, **settings, _init_setup_model=False)  # type: ignore[call-arg]  # both have it
        model.observation_space, model.action_space, model.n_envs = observation_space, action_space, n_envs
        model._setup_model()
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its settings are not those of this version: {error}{_other_versions(description)}") from error
    vars(model).update(progress)
    _set_arrays(model, description, arrays)
    return model


def _set_arrays(model: QLearningAlgorithm, description: Mapping[str, Any], arrays: Mapping[str, th.Tensor]) -> None:
    """
    :param model: whose weights, and state of the optimizer if there is one, are to be set
    :param description: of it
    :param arrays: of it
    :raises ValueError: if they are not those of this model
    """
    weights = {name.removeprefix("policy."): array for name, array in arrays.items() if name.startswith("policy.")}
    if model.policy.q_net_target is model.policy.q_net:
        online = {name: array for name, array in weights.items() if name.startswith("q_net.")}
        weights |= {name.replace("q_net.", "q_net_target.", 1): array for name, array in online.items()}
    expected = {name: tuple(array.shape) for name, array in model.policy.state_dict().items()}
    found = {name: tuple(array.shape) for name, array in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"array 'policy.{name}' has shape {found.get(name)} in the file, and {expected.get(name)} in the "
                f"network that its settings make{_other_versions(description)}"
            )
    parameters = {**model.get_parameters(), "policy": weights}
    if description.get("optimizer") is not None:
        parameters["policy.optimizer"] = _optimizer_state(description, arrays)
    try:
        model.set_parameters(parameters, exact_match=True, device=model.device)  # type: ignore[arg-type]  # nested dictionaries
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"its optimizer's state is not that of this model: {error!r}") from error


def _optimizer_state(description: Mapping[str, Any], arrays: Mapping[str, th.Tensor]) -> dict[str, Any]:
    try:
        described = description["optimizer"]
        state = {int(index): from_json(of_one) for index, of_one in described["state"].items()}
        for full_name, array in arrays.items():
            if full_name.startswith("optimizer."):
                _, index, name = full_name.split(".", 2)
                state[int(index)][name] = array
        return {"param_groups": from_json(described["param_groups"]), "state": state}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"what it says of the optimizer makes no sense: {error!r}") from error
