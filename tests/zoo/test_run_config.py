"""Saved configurations are read without running what is in them."""

from collections import OrderedDict
from pathlib import Path

import pytest
import yaml

from sb3_atari_dqn.zoo.run_config import read_run_yaml, without_texts


def test_what_rl_zoo_writes_is_read(tmp_path: Path) -> None:
    saved = OrderedDict(
        [("algo", "dqn_custom"), ("env_kwargs", {"frameskip": (2, 5)}), ("n_timesteps", 1e6), ("nothing", None)]
    )
    path = tmp_path / "args.yml"
    path.write_text(yaml.dump(saved))
    assert read_run_yaml(path) == dict(saved)
    path.write_text(yaml.dump(OrderedDict()))
    assert read_run_yaml(path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "a: !!python/object/apply:os.system ['touch hacked']",
        "a: !!python/name:os.system",
        "!!python/object/apply:collections.OrderedDict [[[a, !!python/object/new:os.system ['touch hacked']]]]",
        "!!python/object/apply:collections.OrderedDict {a: b}",
        "- 1",
        "{1: 2}",
        "a: [",
    ],
)
def test_anything_else_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "args.yml").write_text(text)
    with pytest.raises(ValueError, match=r"args.yml' (cannot be read as|is not) a run's configuration"):
        read_run_yaml(tmp_path / "args.yml")
    assert not (tmp_path / "hacked").exists()


def test_texts_are_values() -> None:
    hyperparams = {
        "policy_kwargs": "dict(net_arch=[64], optimizer_kwargs=dict(eps=1e-5))",
        "policy": "CnnPolicy",
        "normalize": True,
    }
    assert without_texts(hyperparams) == {
        "policy_kwargs": {"net_arch": [64], "optimizer_kwargs": {"eps": 1e-5}},
        "policy": "CnnPolicy",
        "normalize": True,
    }


@pytest.mark.parametrize(
    "text", ["__import__('os').system('touch hacked')", "dict(a=open('x'))", "dict([1])", "lambda: 1", "("]
)
def test_texts_that_would_run_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"policy_kwargs: .* would have to be evaluated, which is not done for a saved run"):
        without_texts({"policy_kwargs": text})
