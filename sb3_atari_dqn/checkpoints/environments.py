"""Environments as nested state: games, wrappers, stacks of frames, generators.

ALE's emulator gives its whole state as bytes, its generator included. What wrappers remember is in their attributes. An
environment that holds anything else cannot be written: its games are over when a run goes on, and new ones begin.
"""

import types
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers.utils import RunningMeanStd as GymnasiumRunningMeanStd
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_atari_dqn.checkpoints.plain_state import UnknownStateError, get_attributes, set_attributes
from sb3_atari_dqn.checkpoints.sticky import action_in_effect, put_in_effect, remember_actions

#: attributes of environments that are other environments, and written on their own
_INNER = {"env", "venv", "envs"}

#: attributes that are made new at each step, or only tell how an environment was made
_NO_STATE = {
    "buf_obs",
    "buf_dones",
    "buf_rews",
    "buf_infos",
    "actions",
    "reset_infos",
    "metadata",
    "spec",
    "_metadata",
    "_cached_spec",
    "class_attributes",
    "_saved_kwargs",  # arguments of Gymnasium's wrappers
}

#: of attributes that are not plain: what is known to be no state
_NO_STATE_TYPES = (
    EnvSpec,
    ResultsWriter,
    np.dtype,
    spaces.Space,
    type,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.ModuleType,
)

#: what wrappers of Stable-Baselines3 and Gymnasium keep their state in
_HOLDERS = (RunningMeanStd, StackedObservations, GymnasiumRunningMeanStd)


def prepare(env: VecEnv) -> None:
    """
    Let environments remember what their state leaves out; before they are played.

    :param env: environments
    """
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    if type(env) is DummyVecEnv:
        for game in env.envs:
            if isinstance(game.unwrapped, ale_py.AtariEnv):
                remember_actions(game.unwrapped)


def get_env_state(env: VecEnv) -> list[dict[str, Any]]:
    """
    :param env: environments
    :return: the state of each layer, the outermost first
    :raises UnknownStateError: if a layer's state cannot be had, naming it
    """
    layers = []
    while isinstance(env, VecEnvWrapper):
        layers.append(_get_layer(env))
        env = env.venv
    if type(env) is not DummyVecEnv:
        raise UnknownStateError(f"{type(env).__name__} does not give the state of its games")
    return [*layers, {**_get_layer(env), "envs": [_get_games(game) for game in env.envs]}]


def set_env_state(env: VecEnv, layers: list[dict[str, Any]]) -> None:
    """
    :param env: environments made as the others were, and reset
    :param layers: what ``get_env_state`` gave for these
    """
    prepare(env)
    for layer in layers[:-1]:
        assert isinstance(env, VecEnvWrapper)
        _set_layer(env, layer)
        env = env.venv
    assert isinstance(env, DummyVecEnv)
    _set_layer(env, layers[-1])
    for game, state in zip(env.envs, layers[-1]["envs"], strict=True):
        _set_games(game, state)


def _get_games(env: gym.Env) -> list[dict[str, Any]]:
    layers = []
    while isinstance(env, gym.Wrapper):
        layers.append(_get_layer(env))
        env = env.env
    layer = _get_layer(env)
    if isinstance(env, ale_py.AtariEnv):
        layer["emulator"] = env.clone_state(include_rng=True).serialize()
        layer["action_in_effect"] = action_in_effect(env, layer["emulator"])
    return [*layers, layer]


def _set_games(env: gym.Env, layers: list[dict[str, Any]]) -> None:
    for layer in layers[:-1]:
        assert isinstance(env, gym.Wrapper)
        _set_layer(env, layer)
        env = env.env
    _set_layer(env, layers[-1])
    if isinstance(env, ale_py.AtariEnv):
        put_in_effect(env, layers[-1]["action_in_effect"])
        env.restore_state(ale_py.ALEState(layers[-1]["emulator"]))


def _get_layer(layer: Any) -> dict[str, Any]:
    attributes = get_attributes(layer, lambda name, value: _is_no_state(layer, name, value))
    return {
        "class": type(layer).__qualname__,
        "attributes": {name: value for name, value in attributes.items() if name not in _NO_STATE},
        "holders": {
            name: get_attributes(value, lambda name, value: _is_no_state(None, name, value))
            for name, value in vars(layer).items()
            if isinstance(value, _HOLDERS)
        },
    }


def _set_layer(layer: Any, state: dict[str, Any]) -> None:
    if state["class"] != type(layer).__qualname__:
        raise ValueError(f"the environment has {type(layer).__qualname__} where that of the checkpoint has {state['class']}")
    set_attributes(layer, state["attributes"])
    for name, attributes in state["holders"].items():
        set_attributes(getattr(layer, name), attributes)


def _is_no_state(layer: Any, name: str, value: Any) -> bool:
    is_emulator = isinstance(layer, ale_py.AtariEnv) and name in ("ale", "_action_set", "_ezpickle_args", "_ezpickle_kwargs")
    return is_emulator or name in _INNER | _NO_STATE or isinstance(value, (*_NO_STATE_TYPES, *_HOLDERS))
