"""What RL Zoo wrote into the folder of a run, read without running it.

RL Zoo reads its own YAML with a loader that calls whatever function a file names, evaluates text in it, imports the wrappers
and packages that it names, and unpickles running averages (which ``saving.normalization`` reads). Here a file may hold data,
the dictionaries and tuples that RL Zoo's files have, and names from lists; anything else needs ``trust``.
"""

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sb3_atari_dqn.replay.buffer import REPLAY_BUFFERS
from sb3_atari_dqn.saving.trust import HOW_TO_TRUST, UntrustedFileError, check_policy_names, find_class

__all__ = [
    "check_links",
    "check_resumable",
    "check_wrappers",
    "not_a_run",
    "packages_to_import",
    "read_args",
    "read_hyperparams",
    "read_yaml",
    "without_texts",
]

_TAG = "tag:yaml.org,2002:"

#: keys whose value RL Zoo evaluates if it is a text
_TEXTS = ("policy_kwargs", "replay_buffer_kwargs", "monitor_kwargs", "normalize")

#: wrappers that a configuration may name: they change observations, rewards and time, and write nothing
WRAPPERS = {
    *(
        f"stable_baselines3.common.atari_wrappers.{name}"
        for name in (
            "AtariWrapper",
            "ClipRewardEnv",
            "EpisodicLifeEnv",
            "FireResetEnv",
            "MaxAndSkipEnv",
            "NoopResetEnv",
            "StickyActionEnv",
            "WarpFrame",
        )
    ),
    *(
        f"gymnasium.wrappers.{name}"
        for name in (
            "ClipReward",
            "FlattenObservation",
            "FrameStackObservation",
            "GrayscaleObservation",
            "MaxAndSkipObservation",
            "ResizeObservation",
            "TimeAwareObservation",
            "TimeLimit",
        )
    ),
    *(
        f"rl_zoo3.wrappers.{name}"
        for name in (
            "ActionNoiseWrapper",
            "ActionSmoothingWrapper",
            "DelayedRewardWrapper",
            "HistoryWrapper",
            "HistoryWrapperObsDict",
            "MaskVelocityWrapper",
            "TruncatedOnSuccessWrapper",
        )
    ),
    "sb3_atari_dqn.MotionTracer",
    "sb3_atari_dqn.MotionTracerAtariWrapper",
    "sb3_atari_dqn.VecMotionTracer",
    "sb3_atari_dqn.envs.motion_tracer.MotionTracer",
    "sb3_atari_dqn.envs.preprocessing.MotionTracerAtariWrapper",
    "sb3_atari_dqn.envs.vec_motion_tracer.VecMotionTracer",
    "sb3_contrib.common.wrappers.TimeFeatureWrapper",
    "stable_baselines3.common.vec_env.VecFrameStack",
    "stable_baselines3.common.vec_env.VecTransposeImage",
}


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with the tags of dictionaries, tuples and classes that RL Zoo's files have."""


def _ordered_dict(loader: _Loader, node: yaml.SequenceNode) -> dict[Any, Any]:
    pairs = loader.construct_sequence(node, deep=True)
    return dict(pairs[0]) if pairs else {}


def _tuple(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


def _class(_: _Loader, name: str, node: yaml.Node) -> type:
    return find_class(name)


def _refuse(_: _Loader, node: yaml.Node) -> Any:
    tag = node.tag.replace(_TAG, "!!")
    raise UntrustedFileError(f"it holds the tag {tag!r}, which reading it would run. {HOW_TO_TRUST}")


_Loader.add_constructor(f"{_TAG}python/object/apply:collections.OrderedDict", _ordered_dict)
_Loader.add_constructor(f"{_TAG}python/tuple", _tuple)
_Loader.add_multi_constructor(f"{_TAG}python/name:", _class)
_Loader.add_constructor(None, _refuse)


def not_a_run(folder: Path) -> str:
    """
    :param folder: what somebody gave for a training run
    :return: what to tell him
    """
    told = f"{str(folder)!r} is not the folder of a training run"
    if not folder.exists():
        return f"{told}: it does not exist. You are in {str(Path.cwd())!r}: go to where logs/ is, or train first"
    return f"{told}: give one such as logs/dqn_custom/PongNoFrameskip-v4_1"


def check_links(folder: Path) -> None:
    """
    See that what is read and written in a run's folder is in it. The folder itself may be reached through links.

    :param folder: of a run
    :raises UntrustedFileError: if something in it is a link out of it, or a device or a pipe
    """
    inside = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in sorted(folders + files)):
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                found = f"a symbolic link to {os.readlink(path)!r}, outside the run's folder"
            elif path.exists() and not (path.is_file() or path.is_dir()):
                found = "neither a file nor a folder"
            else:
                continue
            raise UntrustedFileError(
                f"{str(path)!r} is refused: it is {found}, where files would be read and overwritten. {HOW_TO_TRUST}"
            )


def read_yaml(path: Path, trust: bool = False) -> dict[str, Any]:
    """
    :param path: file that RL Zoo wrote
    :param trust: read it as RL Zoo does, which runs what it says
    :return: what it holds
    :raises UntrustedFileError: for a tag that reading would run
    :raises ValueError: if it is no YAML, or not a dictionary
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.UnsafeLoader if trust else _Loader)
        return {str(key): value for key, value in dict(content).items()}
    except UntrustedFileError as error:
        raise UntrustedFileError(f"{str(path)!r} is refused: {error}") from None
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{str(path)!r} is not what RL Zoo writes: {error}") from error


def read_args(path: Path, trust: bool = False) -> dict[str, Any]:
    """
    :param path: ``args.yml`` of a run
    :param trust: see ``read_yaml``
    :return: arguments that RL Zoo's ``train`` was called with
    :raises ValueError: see there
    """
    args = read_yaml(path, trust)
    for name in ("algo", "env"):
        if not isinstance(args.get(name), str):
            raise ValueError(f"{str(path)!r} is not what RL Zoo writes: it has {name}={args.get(name)!r}")
    args.setdefault("seed", None)
    return args


def packages_to_import(args: Mapping[str, Any], trust: bool = False) -> list[str]:
    """
    :param args: of a run
    :param trust: whether their code may run
    :return: packages that have to be imported before its environment is there
    :raises UntrustedFileError: if there are any that may not
    """
    packages = list(args.get("gym_packages") or [])
    of_env, colon, _ = args["env"].rpartition(":")  # which Gymnasium imports
    if not trust and (packages or colon):
        named = ", ".join(map(repr, [*packages, *([of_env] if colon else [])]))
        raise UntrustedFileError(
            f"the run's 'args.yml' is refused: it names {named} to import, whose code would run. {HOW_TO_TRUST}"
        )
    return packages


def read_hyperparams(folder: Path) -> dict[str, Any]:
    """
    :param folder: with a run's configuration; without ``config.yml`` there is none
    :return: its hyperparameters, as RL Zoo's ``get_saved_hyperparams`` gives them
    :raises UntrustedFileError: for what would run code
    :raises ValueError: if it is damaged
    """
    file = folder / "config.yml"
    hyperparams = read_yaml(file) if file.is_file() else {}
    hyperparams["normalize"] = hyperparams.get("normalize", False)
    try:
        check_wrappers(hyperparams)
    except UntrustedFileError as error:
        raise UntrustedFileError(f"{str(file)!r} is refused: {error}") from None
    return hyperparams


def check_wrappers(hyperparams: Mapping[str, Any]) -> None:
    """
    :param hyperparams: a configuration from a file
    :raises UntrustedFileError: if it names a wrapper that is none of Stable-Baselines3's, Gymnasium's or ours
    """
    for key in ("env_wrapper", "vec_env_wrapper"):
        for name in _names(hyperparams.get(key)):
            if not isinstance(name, str) or name not in WRAPPERS:
                raise UntrustedFileError(
                    f"{key} names {name!r}, which is none of the wrappers that are known to be harmless, and its code would "
                    f"run. {HOW_TO_TRUST}"
                )


def check_resumable(hyperparams: Mapping[str, Any]) -> None:
    """
    :param hyperparams: a configuration from a file, from which a training is to go on
    :raises UntrustedFileError: if it names what RL Zoo would import, evaluate or call
    """
    check_wrappers(hyperparams)
    check_policy_names(hyperparams.get("policy_kwargs") or {})
    replay_buffer_class = hyperparams.get("replay_buffer_class")
    for name, would_run in (
        ("policy", "." in str(hyperparams.get("policy", ""))),
        ("callback", bool(hyperparams.get("callback"))),
        ("replay_buffer_class", isinstance(replay_buffer_class, str) and replay_buffer_class not in REPLAY_BUFFERS),
    ):
        if would_run:
            raise UntrustedFileError(f"{name}={hyperparams[name]!r} in 'config.yml' is code that would run. {HOW_TO_TRUST}")


def _names(wrappers: Any) -> Iterator[Any]:
    for wrapper in wrappers if isinstance(wrappers, list) else [wrappers] if wrappers else []:
        if isinstance(wrapper, dict):
            yield from wrapper
        else:
            yield wrapper


def without_texts(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    :param hyperparams: of a run
    :return: the same, with values in place of texts that RL Zoo would evaluate
    :raises ValueError: for a text that is more than values and ``dict(...)`` of them, or whose value is a text again, which RL
        Zoo would evaluate in turn
    """
    found = dict(hyperparams)
    for key in _TEXTS:
        if isinstance(found.get(key), str):
            found[key] = _value_of(key, found[key])
    return found


def _value_of(key: str, text: str) -> Any:
    """
    :param key: what the text is the value of
    :param text: Python, ``"dict(net_arch=[64, 64])"``
    :return: its value
    :raises ValueError: if it is more than values
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
            return {str(keyword.arg): value(keyword.value) for keyword in node.keywords}
        return ast.literal_eval(node)

    try:
        found = value(ast.parse(text.strip(), mode="eval").body)
        if isinstance(found, str):
            raise ValueError("its value is a text again")
        return found
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{key}: {text!r} would have to be evaluated, which is not done for a saved run: {error}") from None
