"""A configuration's wrappers in the words of native environments, for ``native_envs: true``."""

from typing import Any

from rl_zoo3.utils import get_class_by_name
from stable_baselines3.common.atari_wrappers import AtariWrapper

from sb3_atari_dqn.envs.ale_vec_env import AleVecEnv, find_game
from sb3_atari_dqn.envs.preprocessing import MotionTracerAtariWrapper

#: arguments of Gymnasium's environments that native ones have, by the name that they have there
ENV_KWARGS = {
    "repeat_action_probability": "action_repeat_probability",
    "full_action_space": "full_action_space",
    "max_num_frames_per_episode": "max_episode_frames",
}

#: keys that are about Gymnasium's pipeline, and why native environments do not have them
NOT_NATIVE = {
    "monitor_kwargs": "their scores are counted in one way only",
    "normalize": "frames are bytes, and the network scales them",
    "vec_env_wrapper": "RL Zoo puts it between environments and frame stack, which are one here",
}

#: arguments of ``AleVecEnv``, and those of ``VecMotionTracer`` around it, None for no tracer
NativeArguments = tuple[dict[str, Any], dict[str, Any] | None]

#: what to do about an error
OTHERWISE = "Set native_envs: false for Gymnasium's environments."


def find_wrappers(hyperparams: dict[str, Any]) -> list[tuple[type, dict[str, Any]]]:
    """
    :param hyperparams: what a configuration holds for one environment
    :return: each class in ``env_wrapper``, and its arguments
    :raises ValueError: for a name that is not of a class in its module
    :raises ImportError: for a module that cannot be imported
    """
    wrappers = hyperparams.get("env_wrapper") or []
    found = []
    for wrapper in wrappers if isinstance(wrappers, list) else [wrappers]:
        for name, kwargs in wrapper.items() if isinstance(wrapper, dict) else [(wrapper, None)]:
            try:
                found.append((get_class_by_name(name) if isinstance(name, str) else name, kwargs or {}))
            except AttributeError as error:
                raise ValueError(f"env_wrapper {name!r} is not known: {error}") from error
    return found


def native_arguments(hyperparams: dict[str, Any], env_kwargs: dict[str, Any] | None) -> NativeArguments:
    """
    :param hyperparams: what a configuration holds for one environment
    :param env_kwargs: arguments of Gymnasium's environments
    :return: see above
    :raises ValueError: for what native environments do not have, naming it and what they have
    """
    for key, reason in NOT_NATIVE.items():
        if hyperparams.get(key):
            raise ValueError(f"{key}={hyperparams[key]!r} does not go with native_envs=True: {reason}. {OTHERWISE}")
    arguments = {}
    for name, value in (env_kwargs or {}).items():
        if name not in ENV_KWARGS or value is None:
            raise ValueError(
                f"env_kwargs: {name}={value!r} does not go with native_envs=True, which takes values of "
                f"{', '.join(ENV_KWARGS)}. {OTHERWISE}"
            )
        arguments[ENV_KWARGS[name]] = value

    wrappers = find_wrappers(hyperparams)
    if len(wrappers) != 1 or wrappers[0][0] not in (AtariWrapper, MotionTracerAtariWrapper):
        raise ValueError(
            f"env_wrapper={hyperparams.get('env_wrapper')!r} does not go with native_envs=True, which knows one wrapper: "
            f"Stable-Baselines3's AtariWrapper or MotionTracerAtariWrapper. {OTHERWISE}"
        )
    wrapper, kwargs = wrappers[0]
    kwargs = dict(kwargs)
    n_stack = hyperparams.get("frame_stack")
    if wrapper is MotionTracerAtariWrapper:
        if n_stack not in (None, 1):
            raise ValueError(f"frame_stack={n_stack!r} does not go with native_envs=True and a motion tracer. {OTHERWISE}")
        tracer: dict[str, Any] = {name: kwargs.pop(name) for name in ("decay", "threshold") if name in kwargs}
        screen_size = (kwargs.pop("height", 105), kwargs.pop("width", 80))
        return {**arguments, **kwargs, "screen_size": screen_size, "n_stack": 1}, tracer

    if kwargs.pop("clip_reward", True) is not False:
        raise ValueError(
            "AtariWrapper: clip_reward must be false with native_envs=True, and is true if it is not given: rewards stay raw, "
            "so that logs show the game's score, and are clipped where they are learnt from with clip_rewards: true"
        )
    probability = kwargs.pop("action_repeat_probability", 0)
    if probability and arguments.setdefault("action_repeat_probability", probability) != probability:
        raise ValueError(
            f"AtariWrapper: action_repeat_probability={probability!r} and env_kwargs: repeat_action_probability="
            f"{arguments['action_repeat_probability']!r} are the same thing here: with native_envs=True, give one of them"
        )
    return {**arguments, **kwargs, "n_stack": 1 if n_stack is None else n_stack}, None


def check_native_envs(env_id: str, hyperparams: dict[str, Any]) -> NativeArguments:
    """
    :param env_id: the environment
    :param hyperparams: what a configuration holds for it, with ``n_envs`` and ``env_kwargs``
    :return: what native environments are made from
    :raises ValueError: if they cannot be made
    """
    try:
        find_game(env_id)
    except ValueError as error:
        raise ValueError(f"{error}. {OTHERWISE}") from None
    arguments, tracer = native_arguments(hyperparams, hyperparams.get("env_kwargs"))
    AleVecEnv.check_values(env_id, hyperparams.get("n_envs", 1), **arguments)
    return arguments, tracer
