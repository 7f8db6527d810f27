"""Optimizers by name; and TensorFlow's RMSprop beside Stable-Baselines3's."""

import math
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from sb3_atari_dqn.networks import optimizers
from sb3_atari_dqn.networks.optimizers import CachedRMSpropTFLike, resolve_optimizer


@pytest.mark.parametrize(
    "settings",
    [{}, {"alpha": 0.9, "eps": 1e-10}, {"weight_decay": 0.1}, {"momentum": 0.5}, {"centered": True}],
    ids=str,
)
def test_ten_steps_are_stable_baselines3s_bit_for_bit(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "CHUNK", 7)
    trained = []
    for optimizer_class in (RMSpropTFLike, CachedRMSpropTFLike):
        generator = th.Generator().manual_seed(0)
        parameters = [th.nn.Parameter(th.randn(shape, generator=generator)) for shape in ((5, 9), (3, 2, 4, 4), (1,))]
        optimizer = optimizer_class(parameters, lr=0.01, **settings)
        for _ in range(10):
            for parameter in parameters:
                gradient = th.randn(parameter.shape, generator=generator)
                channels_last = gradient.dim() == 4
                parameter.grad = gradient.contiguous(memory_format=th.channels_last) if channels_last else gradient
            optimizer.step()
        squares = [optimizer.state[parameter]["square_avg"] for parameter in parameters]
        trained.append([*(parameter.detach() for parameter in parameters), *squares])
    assert all(th.equal(expected, found) for expected, found in zip(*trained, strict=True))


def test_epsilon_is_inside_the_root_and_the_running_square_starts_at_one() -> None:
    weight = th.nn.Parameter(th.tensor([2.0], dtype=th.float64))
    optimizer = CachedRMSpropTFLike([weight], lr=0.1, alpha=0.9, eps=1e-10)
    square, expected = 1.0, 2.0
    for gradient in (3.0, 1e-6):
        weight.grad = th.tensor([gradient], dtype=th.float64)
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        expected -= 0.1 * gradient / math.sqrt(square + 1e-10)
        assert weight.item() == pytest.approx(expected, rel=1e-12)
    # where gradients have long been small the place of epsilon matters: 1e-6 / sqrt(1e-12 + 1e-10), not 1e-6 / (1e-6 + 1e-10)
    optimizer.state[weight]["square_avg"].fill_(1e-12)
    before = weight.item()
    optimizer.step()
    assert before - weight.item() == pytest.approx(0.1 * 1e-6 / math.sqrt(1.01e-10), rel=1e-6)


def test_optimizers_by_name() -> None:
    assert resolve_optimizer("RMSpropTFLike") is CachedRMSpropTFLike
    assert resolve_optimizer("Adam") is th.optim.Adam
    assert resolve_optimizer("torch.optim.adamw.AdamW") is th.optim.AdamW
    assert resolve_optimizer(th.optim.SGD) is th.optim.SGD
    for name in ("Adan", "torch.nn.Linear", "no.such.Module"):
        with pytest.raises(
            ValueError, match=rf"optimizer_class='{name}' is not known; choose RMSpropTFLike or one of torch.optim's"
        ):
            resolve_optimizer(name)
