"""Stable-Baselines3's ``VecNormalize``, loaded without unpickling its running averages."""

from pathlib import Path

from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_atari_dqn.saving.inert_pickle import Record, decode
from sb3_atari_dqn.saving.trust import HOW_TO_TRUST, UntrustedFileError
from sb3_atari_dqn.saving.zip_files import revive

__all__ = ["load_normalization"]

_NAME = f"{VecNormalize.__module__}.{VecNormalize.__name__}"

#: arguments of ``VecNormalize``, which has attributes of the same names
_NUMBERS = ("training", "norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")


def load_normalization(path: Path, env: VecEnv, trust: bool = False) -> VecNormalize:
    """
    :param path: file that ``VecNormalize.save`` wrote
    :param env: environments to wrap
    :param trust: load it as Stable-Baselines3 does, which unpickles, and so runs, what is in it
    :return: the environments, normalised as they were
    :raises UntrustedFileError: for a file that names something that ``VecNormalize`` does not need, if it is not trusted
    :raises ValueError: for a file that is missing, damaged, or of other environments
    """
    if not path.is_file():
        raise ValueError(f"{str(path)!r}, which holds the running averages of normalised environments, does not exist")
    if trust:
        return VecNormalize.load(str(path), env)
    try:
        record = decode(path.read_bytes())
        if not isinstance(record, Record) or record.name != _NAME or not isinstance(record.state, dict):
            named = record.name if isinstance(record, Record) else type(record).__name__
            raise UntrustedFileError(f"it is a pickle of {named!r}, not of VecNormalize. {HOW_TO_TRUST}")
        return _make(record.state, env)
    except UntrustedFileError as error:
        raise UntrustedFileError(f"{str(path)!r} is refused: {error}") from None
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


def _make(state: dict[str, object], env: VecEnv) -> VecNormalize:
    """
    :param state: attributes of a ``VecNormalize``, as its pickle describes them
    :param env: environments to wrap
    :return: another one of the same settings and averages
    :raises ValueError: if they are not those of a ``VecNormalize`` of such environments
    """
    numbers = {name: revive(state[name]) for name in _NUMBERS}
    for name, value in numbers.items():
        if not isinstance(value, bool | int | float):
            raise ValueError(f"{name}={value!r} must be a number")
    keys = revive(state.get("norm_obs_keys"))
    if keys is not None and not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise ValueError(f"norm_obs_keys={keys!r} must be names of observations")
    made = VecNormalize(env, norm_obs_keys=keys, **numbers)
    made.ret_rms = _same_kind(made.ret_rms, revive(state["ret_rms"]), "returns")
    if not made.norm_obs:
        return made
    averages = revive(state["obs_rms"])
    own: RunningMeanStd | dict[str, RunningMeanStd] = made.obs_rms
    if isinstance(own, dict):
        made.obs_rms = {key: _same_kind(of_key, averages[key], f"observations {key!r}") for key, of_key in own.items()}
    else:
        made.obs_rms = _same_kind(own, averages, "observations")  # type: ignore[assignment]  # Stable-Baselines3 has both
    return made


def _same_kind(own: RunningMeanStd, averages: object, what: str) -> RunningMeanStd:
    """
    :param own: averages as they are at the start
    :param averages: those of the file
    :param what: is averaged
    :return: those of the file
    :raises ValueError: if they are of another shape
    """
    if not isinstance(averages, RunningMeanStd) or averages.mean.shape != own.mean.shape:
        raise ValueError(f"it holds no averages of {what} of shape {own.mean.shape}")
    return averages
