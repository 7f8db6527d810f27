"""Texts in saved configurations that RL Zoo would evaluate."""

import pytest

from sb3_atari_dqn.zoo.run_files import without_texts


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
    "text",
    [
        "__import__('os').system('touch hacked')",
        repr("__import__('os').system('touch hacked')"),  # RL Zoo would evaluate what it evaluates to
        "dict(a=open('x'))",
        "dict([1])",
        "lambda: 1",
        "(",
    ],
)
def test_texts_that_would_run_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"policy_kwargs: .* would have to be evaluated, which is not done for a saved run"):
        without_texts({"policy_kwargs": text})
