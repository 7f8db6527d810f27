"""Fast learners against the slow one: a hundred updates from the same batches."""

import copy
import shutil
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_atari_dqn.learning.accelerate import AcceleratedLearner, has_bf16, make_learner, resolve
from sb3_atari_dqn.learning.learner import Learner
from sb3_atari_dqn.learning.losses import TDLoss, make_backup
from sb3_atari_dqn.learning.objectives import make_objective
from sb3_atari_dqn.networks.compute_copy import ComputeCopy
from sb3_atari_dqn.networks.policy import CnnPolicy
from sb3_atari_dqn.replay.buffer import Batch

CPU = th.device("cpu")
SHAPE = (4, 36, 36)
NEEDS_COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
NEEDS_GPU = pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU")

#: difference of Q-values after a hundred updates, as a share of how far the updates have moved them. Where steps are rounded
#: in another way, the difference grows from update to update.
TOLERANCE = {"float32": 0.01, "compiled": 0.2, "bf16": 0.2}

#: times as much: a softmax of temperature 0.03 makes much of small differences
LOOSER = {"beyond": 4}


def make_batches(n_batches: int, device: str = "cpu", batch_size: int = 16) -> list[Batch]:
    """States whose brightness tells what the actions bring."""
    rng, weights_rng = np.random.default_rng(0), np.random.default_rng(1)
    batches = []
    for _ in range(n_batches):
        level = rng.integers(0, 200, (2, batch_size, 1, 1, 1))
        observations, next_observations = (level + rng.integers(0, 56, (2, batch_size, *SHAPE))).astype(np.uint8)
        actions = rng.integers(0, 3, (batch_size, 1))
        rewards = (actions - 1) * (level[0, :, 0, 0] / 100 - 1)
        arrays = (
            observations,
            actions,
            rewards.astype(np.float32),
            np.full((batch_size, 1), 0.9, np.float32),
            next_observations,
            weights_rng.random((batch_size, 1), np.float32) + 0.5,
        )
        batches.append(Batch(*(th.from_numpy(array).to(device) for array in arrays)))
    return batches


def hundred_updates(
    precision: str,
    accelerate: str,
    device: str = "cpu",
    single: bool = False,
    max_grad_norm: float = 10.0,
    double_q: bool = False,
    munchausen: bool = False,
    **kwargs: Any,
) -> tuple[th.Tensor, th.Tensor, th.Tensor, Learner]:
    """
    :return: Q-values before and after, all reports, and the learner
    """
    th.manual_seed(0)
    space = spaces.Box(0, 255, SHAPE, np.uint8)
    policy = CnnPolicy(space, spaces.Discrete(3), lambda _: 3e-4, **kwargs).to(device)
    target = policy.q_net if single else policy.q_net_target
    distribution = kwargs.get("distribution")
    loss = TDLoss(make_objective(None, 1.0, distribution), make_backup(double_q, munchausen, None, distribution))
    learner = make_learner(
        policy.q_net, target, policy.optimizer, loss, max_grad_norm, precision, accelerate, make_copy=ComputeCopy
    )
    batches = make_batches(100, device)
    policy.set_training_mode(False)
    with th.no_grad():
        before = policy.q_net(batches[0].observations)
    reports = []
    for index, batch in enumerate(batches):
        if index == 50:  # as the algorithm does: learning rate, target network
            policy.optimizer.param_groups[0]["lr"] = 1e-4
            policy.q_net_target.load_state_dict(policy.q_net.state_dict())
            learner.refresh()
        reports.append(learner.update(batch).report)
    policy.set_training_mode(False)
    with th.no_grad():
        return before, policy.q_net(batches[0].observations), th.stack(reports), learner


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"max_grad_norm": 0.1},
    "single": {"single": True},
    "rmsprop": {"optimizer_class": th.optim.RMSprop, "optimizer_kwargs": {"eps": 0.01}},
    "rainbow": {
        "double_q": True,
        "dueling": True,
        "noisy_sigma": 0.5,
        "distribution": "categorical",
        "distribution_kwargs": {"n_atoms": 11, "v_min": -5, "v_max": 5},
    },
    "quantiles": {"distribution": "quantile", "distribution_kwargs": {"n_quantiles": 8}},
    "beyond": {
        "munchausen": True,
        "dueling": True,
        "noisy_sigma": 0.5,
        "distribution": "implicit-quantile",
        "distribution_kwargs": {"n_quantiles": 8},
        "net_arch": [32],
        "features_extractor_class": "ImpalaCNN",
        "features_extractor_kwargs": {"features_dim": None, "spectral_norm": True, "pool_size": 3},
    },
}


@pytest.fixture(scope="module")
def slow() -> dict[str, tuple[th.Tensor, th.Tensor, th.Tensor, Learner]]:
    return {name: hundred_updates("float32", "none", **setting) for name, setting in SETTINGS.items()}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("accelerate", "setting"),
    [
        ("none", "plain"),
        *(("fused", setting) for setting in SETTINGS),
        pytest.param("compile", "clipped", marks=NEEDS_COMPILER),
        pytest.param("compile", "rainbow", marks=NEEDS_COMPILER),
        *(
            pytest.param("compile on a GPU", setting, marks=NEEDS_GPU)
            for setting in ("plain", "rainbow", "quantiles", "beyond")
        ),
        *(pytest.param("cuda-graph", setting, marks=NEEDS_GPU) for setting in ("plain", "rainbow", "quantiles", "beyond")),
    ],
)
def test_hundred_updates_as_the_slow_one_makes_them(slow: Any, accelerate: str, setting: str, precision: str) -> None:
    if (precision, accelerate) == ("float32", "none"):
        pytest.skip("that is the slow one")
    device = "cuda" if accelerate in ("cuda-graph", "compile on a GPU") else "cpu"
    accelerate = accelerate.removesuffix(" on a GPU")
    before, theirs, their_reports, learner = slow[setting]
    assert type(learner) is Learner
    _, ours, our_reports, learner = hundred_updates(precision, accelerate, device, **SETTINGS[setting])
    assert isinstance(learner, AcceleratedLearner)
    kind = "compiled" if (precision, accelerate) == ("float32", "compile") else precision
    moved, tolerance = (theirs - before).abs().mean(), TOLERANCE[kind] * LOOSER.get(setting, 1)
    assert moved > 0.02
    if precision == "float32":
        assert th.allclose(our_reports.to(CPU)[:20, 0], their_reports[:20, 0], rtol=1e-3)
    assert (ours.to(CPU) - theirs).abs().mean() < tolerance * moved
    assert (our_reports.to(CPU) - their_reports)[:, 0].abs().mean() < 2 * tolerance * their_reports[:, 0].mean()


def test_gradients_are_clipped_to_the_same_norm() -> None:
    """With an epsilon that outweighs them, Adam's steps are as long as the gradients."""
    moved = {}
    for accelerate in ("none", "fused"):
        for norm in (0.001, 0.01):
            before, after, _, _ = hundred_updates("float32", accelerate, max_grad_norm=norm, optimizer_kwargs={"eps": 1.0})
            moved[accelerate, norm] = (after - before).abs().mean().item()
    assert moved["none", 0.01] > 5 * moved["none", 0.001]
    for norm in (0.001, 0.01):
        assert moved["fused", norm] == pytest.approx(moved["none", norm], rel=0.01)


def test_acts_with_what_it_has_learnt() -> None:
    observations = make_batches(1)[0].observations
    for precision in ("float32", "bf16"):
        _, after, _, learner = hundred_updates(precision, "fused")
        actions = learner.q_values(observations).argmax(dim=1)
        clear = after.topk(2, dim=1).values.diff(dim=1).abs().flatten() > 0.01
        assert clear.sum() > 8
        assert th.equal(actions[clear], after.argmax(dim=1)[clear])


def test_optimizer_state_goes_on_in_the_slow_learner() -> None:
    """What is saved after fast updates is what SB3's optimizer expects."""
    *_, learner = hundred_updates("bf16", "fused")
    state = copy.deepcopy(learner.optimizer.state_dict())
    th.manual_seed(0)
    policy = CnnPolicy(spaces.Box(0, 255, SHAPE, np.uint8), spaces.Discrete(3), lambda _: 3e-4)
    policy.optimizer.load_state_dict(state)
    plain = Learner(policy.q_net, policy.q_net_target, policy.optimizer, TDLoss(make_objective("huber", 1.0)), 10.0)
    plain.update(make_batches(1)[0])
    assert all(entry["step"] == 101 for entry in policy.optimizer.state_dict()["state"].values())


def test_auto_is_the_best_that_works() -> None:
    assert resolve("auto", "auto", CPU) == ("bf16" if has_bf16(CPU) else "float32", "fused")
    assert resolve("float32", "none", CPU) == ("float32", "none")


def test_what_cannot_work_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r'accelerate="cuda-graph" needs a CUDA device, and this is cpu'):
        resolve("float32", "cuda-graph", CPU)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r'accelerate="compile" needs a C\+\+ compiler'):
        resolve("float32", "compile", CPU)
    monkeypatch.setattr("sb3_atari_dqn.learning.accelerate.has_bf16", lambda device: False)
    assert resolve("auto", "none", CPU) == ("float32", "none")
    with pytest.warns(UserWarning, match=r'precision="bf16" will be slow: this device \(cpu\) has no bf16'):
        assert resolve("bf16", "none", CPU) == ("bf16", "none")


@pytest.mark.parametrize(
    ("precision", "accelerate", "message"),
    [
        ("half", "none", "precision='half' is not known; choose one of 'float32', 'bf16', 'auto'"),
        ("bf16", "jit", "accelerate='jit' is not known; choose one of 'none', 'fused', 'compile', 'cuda-graph', 'auto'"),
    ],
)
def test_unknown_values(precision: str, accelerate: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(precision, accelerate, CPU)
