"""
Fast learners against the plain one: loss and gradient of one update from the same weights, and the step that follows.

Not many updates in a row: where numbers are rounded in another way, a difference grows from update to update, and how fast
depends on the processor.
"""

import copy
import shutil
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

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

#: unit roundoff: half the distance between 1 and the next number of a format, whose significand has 24 or 8 bits
ROUNDOFF = {"float32": 2.0**-24, "bf16": 2.0**-8}

#: terms of a layer's longest sum. Sums are float32 in both formats; another order of n terms changes one by sqrt(n) roundoffs
TERMS = 3136


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


def make_fast_or_plain(
    precision: str,
    accelerate: str,
    device: str = "cpu",
    single: bool = False,
    max_grad_norm: float = 10.0,
    double_q: bool = False,
    munchausen: bool = False,
    **kwargs: Any,
) -> tuple[CnnPolicy, Learner]:
    th.manual_seed(0)
    space = spaces.Box(0, 255, SHAPE, np.uint8)
    policy = CnnPolicy(space, spaces.Discrete(3), lambda _: 3e-4, **kwargs).to(device)
    target = policy.q_net if single else policy.q_net_target
    distribution = kwargs.get("distribution")
    loss = TDLoss(make_objective(None, 1.0, distribution), make_backup(double_q, munchausen, None, distribution))
    learner = make_learner(
        policy.q_net, target, policy.optimizer, loss, max_grad_norm, precision, accelerate, make_copy=ComputeCopy
    )
    return policy, learner


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


def flat(tensors: Iterable[th.Tensor | None]) -> th.Tensor:
    return th.cat([tensor.detach().flatten().to(CPU) for tensor in tensors if tensor is not None])


def gradient(policy: CnnPolicy) -> th.Tensor:
    return flat(parameter.grad for parameter in policy.q_net.parameters())


def tolerances(policy: CnnPolicy, precision: str) -> tuple[float, float]:
    """
    What rounding may change, at most, of a loss and of a gradient.

    Each layer rounds its weights, its inputs and its outputs: three roundoffs, relative to what it gives. After all layers
    Q-values, and with them errors, have changed by ``delta = 3 * layers * roundoff``; a loss, which is at most quadratic in
    the error, by ``2 * delta``. A gradient changes by more: where a unit's input is within ``delta`` of zero, ReLU lets its
    gradient through in one format and not in the other. That is a fraction ``delta`` of all units, and of the squared norm of
    what flows back, so the gradient changes by ``sqrt(delta)`` of its norm.

    :return: relative to the loss, and to the norm of the gradient
    """
    layers = sum(isinstance(module, nn.Linear | nn.Conv2d) for module in policy.q_net.modules())
    delta = 3 * layers * max(ROUNDOFF[precision], TERMS**0.5 * ROUNDOFF["float32"])
    return 2 * delta, delta**0.5


def compare(
    plain: tuple[CnnPolicy, Learner], fast: tuple[CnnPolicy, Learner], batch: Batch, other_batch: Batch | None = None
) -> tuple[float, float]:
    """
    One update from the same weights, with the same noise.

    :return: differences of loss and gradient, relative to the plain learner's
    """
    fast[0].load_state_dict(plain[0].state_dict())
    losses = []
    for (policy, learner), own_batch in ((plain, batch), (fast, other_batch or batch)):
        device = next(policy.parameters()).device
        th.manual_seed(1)
        update = learner.update(Batch(*(tensor.to(device) for tensor in own_batch)))  # type: ignore[union-attr]  # no dictionary
        losses.append(update.report[0].item())
    expected, found = gradient(plain[0]), gradient(fast[0])
    return abs(losses[1] - losses[0]) / abs(losses[0]), ((found - expected).norm() / expected.norm()).item()


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
@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_loss_gradient_and_step_are_those_of_the_plain_learner(accelerate: str, setting: str, precision: str) -> None:
    if (precision, accelerate) == ("float32", "none"):
        pytest.skip("that is the plain learner")
    device = "cuda" if accelerate in ("cuda-graph", "compile on a GPU") else "cpu"
    plain = make_fast_or_plain("float32", "none", **SETTINGS[setting])
    fast = make_fast_or_plain(precision, accelerate.removesuffix(" on a GPU"), device, **SETTINGS[setting])
    assert type(plain[1]) is Learner
    assert isinstance(fast[1], AcceleratedLearner)
    of_loss, of_gradient = tolerances(plain[0], precision)
    assert of_gradient < 0.75  # a gradient with another sign is 2 away, one of another sample 1.4

    for index, batch in enumerate(make_batches(5)):
        if index == 3:
            plain[0].q_net_target.load_state_dict(plain[0].q_net.state_dict())
        loss_difference, gradient_difference = compare(plain, fast, batch)
        assert loss_difference < of_loss
        assert gradient_difference < of_gradient


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_the_tolerances_tell_mistakes(precision: str) -> None:
    """Wrong rewards, other weights of samples, other discounts and another target network are all beyond them."""
    batch = make_batches(1, batch_size=64)[0]
    mistakes = {
        "sign of rewards": batch._replace(rewards=-batch.rewards),
        "weights of samples": batch._replace(weights=batch.weights.flip(0) ** 3),
        "next action": batch._replace(actions=(batch.actions + 1) % 3),
    }
    plain = make_fast_or_plain("float32", "none")
    fast = make_fast_or_plain(precision, "fused")
    _, of_gradient = tolerances(plain[0], precision)
    assert compare(plain, fast, batch)[1] < of_gradient
    for name, mistake in mistakes.items():
        assert compare(plain, fast, batch, mistake)[1] > of_gradient, name
    for parameter in plain[0].q_net_target.parameters():
        parameter.data.mul_(2)
    right = {**plain[0].state_dict()}
    compare(plain, fast, batch)
    expected = gradient(plain[0])
    fast[0].load_state_dict({key: value / 2 if "target" in key else value for key, value in right.items()})
    fast[1].update(batch)
    assert (gradient(fast[0]) - expected).norm() > of_gradient * expected.norm()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("accelerate", "setting"),
    [
        *(("fused", setting) for setting in ("plain", "clipped", "rmsprop", "rainbow")),
        pytest.param("compile", "clipped", marks=NEEDS_COMPILER),
        pytest.param("cuda-graph", "clipped", marks=NEEDS_GPU),
    ],
)
@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_the_step_is_the_optimizers_own(accelerate: str, setting: str, precision: str) -> None:
    """Given its gradient, a fast learner clips and steps as PyTorch does, in float32, with whatever learning rate there is."""
    kwargs = SETTINGS[setting]
    device = "cuda" if accelerate == "cuda-graph" else "cpu"
    policy, learner = make_fast_or_plain(precision, accelerate, device, **kwargs)
    parameters = list(policy.q_net.parameters())
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    reference = type(policy.optimizer)(copies, **(policy.optimizer_kwargs | {"lr": 3e-4}))
    most = kwargs.get("max_grad_norm", 10.0)
    for index, batch in enumerate(make_batches(6, device)):
        if index == 4:
            for optimizer in (policy.optimizer, reference):
                optimizer.param_groups[0]["lr"] = 1e-3
        learner.update(batch)
        for copied, parameter in zip(copies, parameters, strict=True):
            assert parameter.grad is not None
            copied.grad = parameter.grad.clone()
        th.nn.utils.clip_grad_norm_(copies, most)  # some kernels clip on the way and leave the gradient as it was
        before = flat(copies)
        reference.step()
        expected = flat(copies) - before
        step = flat(parameters) - before
        # each number of a step is a few float32 operations; subtracting the weights leaves a roundoff of theirs
        assert (step - expected).abs().max() < 1e-4 * expected.abs().max() + 4 * ROUNDOFF["float32"] * before.abs().max()
        if setting == "clipped" and index == 0:
            assert flat(copied.grad for copied in copies).norm() == pytest.approx(most, rel=1e-3)
        with th.no_grad():
            for copied, parameter in zip(copies, parameters, strict=True):
                copied.copy_(parameter)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_learns_what_the_actions_bring(precision: str) -> None:
    """Dark images reward the first action and bright ones the last; without discounts that is all there is to learn."""
    policy, learner = make_fast_or_plain(precision, "fused")
    policy.optimizer.param_groups[0]["lr"] = 1e-3
    *batches, test = (batch._replace(discounts=th.zeros_like(batch.discounts)) for batch in make_batches(150, batch_size=32))
    assert isinstance(test.observations, th.Tensor)
    brightness = test.observations.float().mean(dim=(1, 2, 3)) - 128
    clear, best = brightness.abs() > 30, (brightness > 0) * 2
    assert clear.sum() > 10

    def n_right() -> int:
        return int((learner.q_values(test.observations).argmax(dim=1) == best)[clear].sum())

    assert n_right() < 0.8 * clear.sum()
    losses = [learner.update(batch).report[0].item() for batch in batches]
    assert n_right() == clear.sum()
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:20])


@pytest.mark.filterwarnings("ignore:precision=.bf16. will be slow")
def test_optimizer_state_serves_the_plain_learner() -> None:
    """What is saved after fast updates is what SB3's optimizer expects."""
    fast_policy, fast = make_fast_or_plain("bf16", "fused")
    for batch in make_batches(3):
        fast.update(batch)
    state = copy.deepcopy(fast_policy.optimizer.state_dict())
    policy, _ = make_fast_or_plain("float32", "none")
    policy.optimizer.load_state_dict(state)
    plain = Learner(policy.q_net, policy.q_net_target, policy.optimizer, TDLoss(make_objective("huber", 1.0)), 10.0)
    plain.update(make_batches(1)[0])
    assert all(entry["step"] == 4 for entry in policy.optimizer.state_dict()["state"].values())
    assert policy.optimizer.param_groups[0]["fused"] is None


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
