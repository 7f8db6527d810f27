"""Features extractors for images, from the papers and the tutorial.

Images arrive channels-first, as float: divided by 255 unless the policy has ``normalize_images=False``.
``EXTRACTORS`` names what a YAML file can ask for in ``policy_kwargs.features_extractor_class``.

Sources: Mnih et al. 2013, "Playing Atari with deep reinforcement learning", section 4.1 (``NipsCNN``);
Mnih et al. 2015 (``NatureCNN``, which is Stable-Baselines3's); Hvass Pedersen 2017, TensorFlow tutorial 16
(``TutorialCNN``).
"""

import importlib
import itertools
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

__all__ = ["EXTRACTORS", "NatureCNN", "NipsCNN", "TutorialCNN", "check_image_size", "resolve_extractor"]


def _flat_size(layers: nn.Module, observation_space: spaces.Space) -> int:
    """Number of values that ``layers`` make of one observation."""
    assert observation_space.shape is not None
    with th.no_grad():
        return layers(th.zeros(1, *observation_space.shape)).numel()


class NipsCNN(BaseFeaturesExtractor):
    """
    The network of the 2013 paper: 16 filters 8x8 stride 4, 32 filters 4x4 stride 2, 256 units, ReLU.

    :param observation_space: images, channels-first (channels, height, width), at least 20x20
    :param features_dim: units of the fully connected layer
    :raises ValueError: for observations that are not such images
    """

    minimum_size = 20

    def __init__(self, observation_space: spaces.Space, features_dim: int = 256) -> None:
        check_image_size(type(self), observation_space)
        super().__init__(observation_space, features_dim)
        assert observation_space.shape is not None
        self.cnn = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.linear = nn.Sequential(nn.Linear(_flat_size(self.cnn, observation_space), features_dim), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: float (batch, channels, height, width)
        :return: features, float (batch, features_dim)
        """
        return self.linear(self.cnn(observations))


def _same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """
    TensorFlow's SAME padding along one axis: as many outputs as ``ceil(size / stride)``, an odd pixel goes behind.

    :return: pixels before and behind
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


class TutorialCNN(BaseFeaturesExtractor):
    """
    The network of tutorial 16: three 3x3 convolutions of 16, 32 and 64 filters with strides 2, 2 and 1 and
    TensorFlow's SAME padding, then four layers of 1024 units, ReLU throughout.

    Weights come from a normal distribution of standard deviation 0.02 truncated at two deviations, biases are zero;
    the policy initialises the Q-values' layer behind it in the same way. On the motion tracer's 105x80 states the
    convolutions give 53x40x16, 27x20x32 and 27x20x64. The tutorial feeds it grey levels of 0 to 255, for which these
    weights are of the right size: set ``normalize_images=False`` beside it, as the preset does.

    :param observation_space: images, channels-first (channels, height, width)
    :param features_dim: units of the last fully connected layer
    :param dropout: share of the units of each fully connected layer that are left out at random while it learns, in [0, 1)
    :raises ValueError: for observations that are not such images, or a share out of its range
    """

    minimum_size = 1

    def __init__(self, observation_space: spaces.Space, features_dim: int = 1024, dropout: float = 0.0) -> None:
        check_image_size(type(self), observation_space)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r} must be a number in [0, 1)")
        super().__init__(observation_space, features_dim)
        assert observation_space.shape is not None
        channels, height, width = observation_space.shape
        layers: list[nn.Module] = []
        for filters, stride in ((16, 2), (32, 2), (64, 1)):
            padding = (*_same_padding(width, 3, stride), *_same_padding(height, 3, stride))
            layers += [nn.ZeroPad2d(padding), nn.Conv2d(channels, filters, kernel_size=3, stride=stride), nn.ReLU()]
            channels, height, width = filters, -(-height // stride), -(-width // stride)
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        units = [_flat_size(self.cnn, observation_space), 1024, 1024, 1024, features_dim]
        linear: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(units):
            linear += [nn.Linear(n_in, n_out), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        self.linear = nn.Sequential(*linear)
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module: nn.Module) -> None:
        """Draw the tutorial's initial weights for a layer, in place; the policy calls it for the output layer too."""
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: float (batch, channels, height, width)
        :return: features, float (batch, features_dim)
        """
        return self.linear(self.cnn(observations))


EXTRACTORS: dict[str, type[BaseFeaturesExtractor]] = {
    "NipsCNN": NipsCNN,
    "NatureCNN": NatureCNN,
    "TutorialCNN": TutorialCNN,
    "FlattenExtractor": FlattenExtractor,
    "CombinedExtractor": CombinedExtractor,
}


def resolve_extractor(extractor: str | type[BaseFeaturesExtractor]) -> type[BaseFeaturesExtractor]:
    """
    :param extractor: a features extractor, a name from ``EXTRACTORS``, or ``"package.module.Class"`` of one of your own
    :return: the class
    :raises ValueError: for a name that is neither
    """
    if not isinstance(extractor, str):
        return extractor
    if extractor in EXTRACTORS:
        return EXTRACTORS[extractor]
    module, _, name = extractor.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ValueError, ImportError, AttributeError) as error:
        known = ", ".join(EXTRACTORS)
        raise ValueError(
            f"features_extractor_class={extractor!r} is not known; choose one of {known}, or give 'package.module.Class'"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseFeaturesExtractor)):
        raise ValueError(f"features_extractor_class={extractor!r} is {found!r}, not a features extractor")
    return found


def check_image_size(extractor: type[Any], observation_space: spaces.Space) -> None:
    """
    :param extractor: the class that shall take the observations
    :param observation_space: what it shall take
    :raises ValueError: if ``extractor`` is a convolutional network that cannot take observations of this shape
    """
    # Stable-Baselines3's NatureCNN fails on smaller images deep inside PyTorch
    minimum_size = 36 if issubclass(extractor, NatureCNN) else getattr(extractor, "minimum_size", None)
    if minimum_size is None:
        return
    shape = observation_space.shape
    if shape is None or len(shape) != 3:
        raise ValueError(f"{extractor.__name__} takes images (channels, height, width), not observations of shape {shape}")
    if min(shape[1:]) < minimum_size:
        raise ValueError(
            f"{extractor.__name__} takes images of at least {minimum_size}x{minimum_size} pixels, "
            f"not {shape[1]}x{shape[2]} (observations of shape {shape})"
        )
