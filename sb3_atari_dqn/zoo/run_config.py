"""What RL Zoo saves of a run's configuration, read without running anything that is in it.

RL Zoo writes ``args.yml`` and ``config.yml`` with tags of Python's, and loads them with a loader that obeys any. The two tags
that are needed are understood here; any other is refused.
"""

import ast
from pathlib import Path
from typing import Any

import yaml

#: keys whose value RL Zoo evaluates if it is a text
_TEXTS = ("policy_kwargs", "replay_buffer_kwargs", "monitor_kwargs", "normalize")


class _RunLoader(yaml.SafeLoader):
    """A safe loader that knows ordered dictionaries and tuples."""


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    assert isinstance(node, yaml.SequenceNode)
    items = loader.construct_sequence(node, deep=True)
    return dict(items[0]) if items else {}


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple[Any, ...]:
    assert isinstance(node, yaml.SequenceNode)
    return tuple(loader.construct_sequence(node, deep=True))


_RunLoader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict)
_RunLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_run_yaml(path: Path) -> dict[str, Any]:
    """
    :param path: ``args.yml`` or ``config.yml`` of a run
    :return: what it says
    :raises ValueError: if it is something else, or says what only running it would tell
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_RunLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a run's configuration: {error}") from None
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ValueError(f"{str(path)!r} is not a run's configuration")
    return document


def without_texts(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    :param hyperparams: of a run
    :return: the same, with values in place of texts that RL Zoo would evaluate
    :raises ValueError: for a text that is more than values and ``dict(...)`` of them
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
        return value(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{key}: {text!r} would have to be evaluated, which is not done for a saved run: {error}") from None
