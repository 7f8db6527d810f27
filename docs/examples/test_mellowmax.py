"""Tests of the mellowmax."""

from pathlib import Path

import pytest
import torch as th
from mellowmax import MellowmaxDQN, mellowmax


def test_by_hand() -> None:
    q_values = th.tensor([[0.0, 1.0], [3.0, 3.0]])
    assert mellowmax(q_values, 1.0).flatten().tolist() == pytest.approx([0.62011, 3.0], abs=1e-5)  # ln((1 + e) / 2)
    assert mellowmax(q_values, 1e3).flatten().tolist() == pytest.approx([1.0, 3.0], abs=1e-3)  # the maximum
    assert mellowmax(q_values, 1e-3).flatten().tolist() == pytest.approx([0.5, 3.0], abs=1e-3)  # the mean


def test_it_changes_what_is_learnt() -> None:
    def learnt(omega: float) -> th.Tensor:
        model = MellowmaxDQN("MlpPolicy", "CartPole-v1", omega=omega, learning_starts=20, batch_size=8, seed=0)
        model.learn(60)
        assert model._n_updates > 0
        return th.cat([parameter.detach().flatten() for parameter in model.q_net.parameters()])

    assert th.equal(learnt(10.0), learnt(10.0))
    assert not th.equal(learnt(10.0), learnt(0.1))


def test_it_is_saved_and_checked(tmp_path: Path) -> None:
    MellowmaxDQN("MlpPolicy", "CartPole-v1", omega=3.0).save(tmp_path / "model")
    assert MellowmaxDQN.load(tmp_path / "model").omega == 3.0
    with pytest.raises(ValueError, match="omega=0"):
        MellowmaxDQN("MlpPolicy", "CartPole-v1", omega=0)
    with pytest.raises(ValueError, match="double_q=True has no effect beside a mellowmax"):
        MellowmaxDQN("MlpPolicy", "CartPole-v1", double_q=True)
    with pytest.raises(TypeError, match="did you mean 'omega'"):
        MellowmaxDQN("MlpPolicy", "CartPole-v1", omeg=1.0)
