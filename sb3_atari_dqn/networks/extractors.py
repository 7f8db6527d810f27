"""Features extractors for images, from the papers and the tutorial.

Images arrive channels-first, as float: divided by 255 unless the policy has ``normalize_images=False``.
``EXTRACTORS`` names what a YAML file can ask for in ``policy_kwargs.features_extractor_class``.

Sources: Mnih et al. 2013, "Playing Atari with deep reinforcement learning", section 4.1 (``NipsCNN``);
Mnih et al. 2015 (``NatureCNN``, which is Stable-Baselines3's); Hvass Pedersen 2017, TensorFlow tutorial 16
(``TutorialCNN``); Espeholt et al. 2018, "IMPALA", https://arxiv.org/abs/1802.01561, and Clark et al. 2024, "Beyond The
Rainbow", https://arxiv.org/abs/2411.03820 (``ImpalaCNN``).
"""

import itertools
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from sb3_atari_dqn.checks import check_switch, check_whole_number, find_by_name

__all__ = ["EXTRACTORS", "ImpalaCNN", "NatureCNN", "NipsCNN", "TutorialCNN", "check_image_size", "resolve_extractor"]


def _flat_size(layers: nn.Module, observation_space: spaces.Space) -> int:
    """Number of values that ``layers`` make of one observation."""
    assert observation_space.shape is not None
    with th.no_grad():
        return layers(th.zeros(1, *observation_space.shape)).numel()


def _fully_connected(n_in: int, features_dim: int | None) -> tuple[nn.Module, int]:
    """
    :param n_in: numbers that the convolutions give
    :param features_dim: units, or ``None`` for no layer
    :return: the last layer, and how many features it gives
    """
    if features_dim is None:
        return nn.Identity(), n_in
    return nn.Sequential(nn.Linear(n_in, features_dim), nn.ReLU()), features_dim


def _check_features_dim(features_dim: int | None) -> None:
    if features_dim is not None:
        check_whole_number({"features_dim": features_dim}, "features_dim", 1, "units")


class NatureCNN(SB3NatureCNN):
    """
    The network of the 2015 paper, Stable-Baselines3's: 32 filters 8x8 stride 4, 64 filters 4x4 stride 2, 64 filters 3x3, 512
    units, ReLU.

    :param observation_space: images, channels-first (channels, height, width), at least 36x36
    :param features_dim: units of the fully connected layer; ``None`` for the convolutions alone, behind which ``net_arch`` of
        the policy has the fully connected layers: two streams of them for a dueling network, noisy ones
    :param normalized_image: see ``stable_baselines3.common.torch_layers.NatureCNN``
    """

    minimum_size = 36

    def __init__(
        self, observation_space: spaces.Space, features_dim: int | None = 512, normalized_image: bool = False
    ) -> None:
        check_image_size(type(self), observation_space)
        _check_features_dim(features_dim)
        super().__init__(observation_space, 512 if features_dim is None else features_dim, normalized_image)
        if features_dim is None:
            linear, self._features_dim = _fully_connected(_flat_size(self.cnn, observation_space), None)
            self.linear = linear  # type: ignore[assignment]  # any module does

    @staticmethod
    def check_values(features_dim: int | None = 512, normalized_image: bool = False) -> None:
        """
        :param features_dim: see above
        :param normalized_image: see there
        :raises ValueError: for a value that is not allowed
        """
        _check_features_dim(features_dim)
        check_switch({"normalized_image": normalized_image}, "normalized_image")


class NipsCNN(BaseFeaturesExtractor):
    """
    The network of the 2013 paper: 16 filters 8x8 stride 4, 32 filters 4x4 stride 2, 256 units, ReLU.

    :param observation_space: images, channels-first (channels, height, width), at least 20x20
    :param features_dim: units of the fully connected layer; ``None`` for the convolutions alone, see ``NatureCNN``
    :raises ValueError: for observations that are not such images
    """

    minimum_size = 20

    def __init__(self, observation_space: spaces.Space, features_dim: int | None = 256) -> None:
        check_image_size(type(self), observation_space)
        _check_features_dim(features_dim)
        super().__init__(observation_space, 256 if features_dim is None else features_dim)
        assert observation_space.shape is not None
        self.cnn = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.linear, self._features_dim = _fully_connected(_flat_size(self.cnn, observation_space), features_dim)

    @staticmethod
    def check_values(features_dim: int | None = 256) -> None:
        """
        :param features_dim: see above
        :raises ValueError: for a value that is not allowed
        """
        _check_features_dim(features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: float (batch, channels, height, width)
        :return: features, float (batch, features_dim)
        """
        return self.linear(self.cnn(observations))


class _SpectralConv2d(nn.Conv2d):
    """
    A 3x3 convolution with spectral normalisation. PyTorch does not pickle layers with parametrizations; this one is pickled as
    its parameters and buffers, so that an optimizer that is pickled with them still has the same.

    :param channels: of input and output
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=1)
        parametrizations.spectral_norm(self)  # which changes the class of this object

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        state = {
            "training": self.training,
            "parameters": dict(self.named_parameters()),
            "buffers": dict(self.named_buffers()),
        }
        return _make_spectral_conv, (self.in_channels,), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for kind in ("parameters", "buffers"):
            for name, tensor in state[kind].items():
                layer, _, own_name = name.rpartition(".")
                getattr(self.get_submodule(layer), f"_{kind}")[own_name] = tensor
        self.train(state["training"])


def _make_spectral_conv(channels: int) -> _SpectralConv2d:
    with th.random.fork_rng(devices=[]):  # the weights that it draws are replaced
        return _SpectralConv2d(channels)


class _Residual(nn.Module):
    """
    ``x + conv(relu(conv(relu(x))))``.

    :param channels: of input and output
    :param spectral_norm: whether the convolutions' largest singular value is kept at one
    """

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()
        convs: list[nn.Module] = [
            _SpectralConv2d(channels) if spectral_norm else nn.Conv2d(channels, channels, kernel_size=3, padding=1)
            for _ in range(2)
        ]
        self.layers = nn.Sequential(nn.ReLU(), convs[0], nn.ReLU(), convs[1])

    def forward(self, images: th.Tensor) -> th.Tensor:
        """
        :param images: float (batch, channels, height, width)
        :return: same shape
        """
        return images + self.layers(images)


class ImpalaCNN(BaseFeaturesExtractor):
    """
    The large network of IMPALA: three times a 3x3 convolution (16, 32 and 32 filters), a maximum over 3x3 with stride 2 and
    two residual blocks of two 3x3 convolutions; 256 units, ReLU.

    :param observation_space: images, channels-first (channels, height, width), at least 8x8
    :param features_dim: units of the fully connected layer; ``None`` for the convolutions alone, see ``NatureCNN``
    :param width: all numbers of filters are multiplied by this (Beyond The Rainbow: 2)
    :param spectral_norm: spectral normalisation of the residual blocks' convolutions (Miyato et al. 2018,
        https://arxiv.org/abs/1802.05957; Beyond The Rainbow: yes)
    :param pool_size: the convolutions' images are reduced to this size by an adaptive maximum (Beyond The Rainbow: 6);
        ``None`` to leave them as they are
    :raises ValueError: for observations that are not such images, or a value that is not allowed
    """

    minimum_size = 8

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int | None = 256,
        width: int = 1,
        spectral_norm: bool = False,
        pool_size: int | None = None,
    ) -> None:
        check_image_size(type(self), observation_space)
        ImpalaCNN.check_values(features_dim, width, spectral_norm, pool_size)
        super().__init__(observation_space, 256 if features_dim is None else features_dim)
        assert observation_space.shape is not None
        layers: list[nn.Module] = []
        channels = observation_space.shape[0]
        for filters in (16 * width, 32 * width, 32 * width):
            layers += [nn.Conv2d(channels, filters, kernel_size=3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [_Residual(filters, spectral_norm) for _ in range(2)]
            channels = filters
        if pool_size is not None:
            layers.append(nn.AdaptiveMaxPool2d(pool_size))
        self.cnn = nn.Sequential(*layers, nn.ReLU(), nn.Flatten())
        self.linear, self._features_dim = _fully_connected(_flat_size(self.cnn, observation_space), features_dim)

    @staticmethod
    def check_values(
        features_dim: int | None = 256, width: int = 1, spectral_norm: bool = False, pool_size: int | None = None
    ) -> None:
        """
        :param features_dim: see above, like the others
        :param width: see there
        :param spectral_norm: see there
        :param pool_size: see there
        :raises ValueError: for a value that is not allowed
        """
        _check_features_dim(features_dim)
        if pool_size is not None:
            check_whole_number({"pool_size": pool_size}, "pool_size", 1, "rows and columns")
        check_whole_number({"width": width}, "width", 1, "times")
        check_switch({"spectral_norm": spectral_norm}, "spectral_norm")

    def orthogonal_gains(self) -> dict[nn.Module, float]:
        """
        Gains of layers that no ReLU follows, for ``ortho_init``. A maximum does not halve what it is given, as ReLU does; and
        a residual block adds to its input, six times, so that blocks start as the identity (Zhang et al. 2019, "Fixup
        initialization", https://arxiv.org/abs/1901.09321: the last layer of each residual branch starts at 0).

        :return: gains by layer; other layers take sqrt(2)
        """
        gains: dict[nn.Module, float] = {layer: 1.0 for layer in self.cnn if isinstance(layer, nn.Conv2d)}
        for block in self.cnn:
            if isinstance(block, _Residual):
                last = block.layers[-1]
                gains[last] = 1.0 if is_parametrized(last) else 0.0  # spectral normalisation makes it 1 anyway
        return gains

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
        TutorialCNN.check_values(features_dim, dropout)
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
    def check_values(features_dim: int = 1024, dropout: float = 0.0) -> None:
        """
        :param features_dim: see above
        :param dropout: see above
        :raises ValueError: for a value that is not allowed
        """
        check_whole_number({"features_dim": features_dim}, "features_dim", 1, "units")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r} must be a number in [0, 1)")

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
    "ImpalaCNN": ImpalaCNN,
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
    found = find_by_name(extractor)
    if found is None:
        known = ", ".join(EXTRACTORS)
        raise ValueError(
            f"features_extractor_class={extractor!r} is not known; choose one of {known}, or give 'package.module.Class'"
        )
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
    minimum_size = 36 if issubclass(extractor, SB3NatureCNN) else getattr(extractor, "minimum_size", None)
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
