"""From features to Q-values: fully connected layers, and what their outputs stand for.

Every network gives ``ActionValues``, which have Q-values; only the objective of a distribution looks further.

Conventions: B is the batch, A the actions, N the numbers by which the return of one action is described.

Sources: Wang et al. 2016, "Dueling network architectures", https://arxiv.org/abs/1511.06581; Bellemare et al. 2017, "A
distributional perspective on reinforcement learning", https://arxiv.org/abs/1707.06887 (categorical); Dabney et al. 2018a,
"Distributional reinforcement learning with quantile regression", https://arxiv.org/abs/1710.10044 (quantile); Dabney et al.
2018b, "Implicit quantile networks", https://arxiv.org/abs/1806.06923 (implicit-quantile).
"""

import inspect
import math
from abc import abstractmethod
from typing import Any, NamedTuple

import torch as th
from torch import nn

from sb3_atari_dqn.checks import check_number, check_whole_number, find_by_name
from sb3_atari_dqn.networks.noisy import NoisyLinear


class ActionValues(NamedTuple):
    """
    What a network says of all actions.

    :param q_values: expected returns, float (B, A)
    :param outputs: numbers by which each action's return is described, float (B, A, N): the expected return itself, logits of
        atoms, or values of quantiles
    :param positions: of these numbers, float (N,) or (B, N): the atoms' returns, or the quantiles' fractions; the
        Q-value itself has none
    """

    q_values: th.Tensor
    outputs: th.Tensor
    positions: th.Tensor | None = None


class DuelingStreams(nn.Module):
    """
    State value and advantages from layers of their own: ``value + advantage - mean(advantages)`` (Wang et al., eq. 9).

    :param value: features to the state's value, (B, N)
    :param advantage: features to the actions' advantages, (B, A * N)
    :param n_actions: A
    """

    def __init__(self, value: nn.Sequential, advantage: nn.Sequential, n_actions: int) -> None:
        super().__init__()
        self.value = value
        self.advantage = advantage
        self.n_actions = n_actions

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: float (B, n_features)
        :return: float (B, A * N)
        """
        value, advantage = self.value(features), self.advantage(features)
        advantage = advantage.unflatten(1, (self.n_actions, -1))
        return (value.unsqueeze(1) + advantage - advantage.mean(dim=1, keepdim=True)).flatten(1)


def resolve_activation(activation: str | type[nn.Module]) -> type[nn.Module]:
    """
    :param activation: an activation function's class, the name of one of PyTorch's, or ``"package.module.Class"``
    :return: the class
    :raises ValueError: for a name that is neither
    """
    if not isinstance(activation, str):
        return activation
    found = find_by_name(activation, "torch.nn")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"activation_fn={activation!r} is not known; choose one of torch.nn's, such as ReLU, or give "
            "'package.module.Class'"
        )
    return found


def make_streams(
    n_features: int,
    n_actions: int,
    n_values: int,
    net_arch: list[int],
    activation_fn: type[nn.Module],
    dueling: bool,
    noisy_sigma: float | None,
) -> nn.Module:
    """
    :param n_features: numbers that the features extractor gives
    :param n_actions: A
    :param n_values: N
    :param net_arch: units of the hidden layers, in each stream
    :param activation_fn: behind each hidden layer
    :param dueling: whether the state's value has a stream of its own
    :param noisy_sigma: all layers are noisy, with this sigma_0; ``None`` for ordinary ones
    :return: features (B, n_features) to outputs (B, A * N)
    """

    def linear(n_in: int, n_out: int) -> nn.Linear:
        return nn.Linear(n_in, n_out) if noisy_sigma is None else NoisyLinear(n_in, n_out, noisy_sigma)

    def stream(n_outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        n_in = n_features
        for n_units in net_arch:
            layers += [linear(n_in, n_units), activation_fn()]
            n_in = n_units
        return nn.Sequential(*layers, linear(n_in, n_outputs))

    if dueling:
        return DuelingStreams(stream(n_values), stream(n_actions * n_values), n_actions)
    return stream(n_actions * n_values)


def streams_of(layers: nn.Module) -> list[nn.Sequential]:
    """
    :param layers: what ``make_streams`` made
    :return: its streams, which end in their output layers
    """
    streams = [layers.value, layers.advantage] if isinstance(layers, DuelingStreams) else [layers]
    assert all(isinstance(stream, nn.Sequential) for stream in streams)
    return streams  # type: ignore[return-value]  # as asserted


class Distribution(nn.Module):
    """
    What the outputs of a network stand for.

    :param n_features: numbers that the features extractor gives
    :param n_values: outputs for each action
    """

    def __init__(self, n_features: int, n_values: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.n_values = n_values

    @abstractmethod
    def forward(self, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        """
        :param features: float (B, n_features)
        :param streams: features to outputs (B, A * n_values)
        :param n_actions: A
        :return: what they say of all actions
        """

    def play(self, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        """
        :param features: see ``forward``
        :param streams: see there
        :param n_actions: see there
        :return: the same without chance
        """
        return self(features, streams, n_actions)


class Expectation(Distribution):
    """
    The expected return alone, as in DQN.

    :param n_features: see ``Distribution``
    """

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, n_values=1)

    def forward(self, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        q_values = streams(features)
        return ActionValues(q_values, q_values.unsqueeze(2))


class Categorical(Distribution):
    """
    Probabilities of fixed returns, C51 (Bellemare et al. 2017).

    :param n_features: see ``Distribution``
    :param n_atoms: how many returns, at least 2
    :param v_min: the lowest
    :param v_max: the highest
    """

    def __init__(self, n_features: int, n_atoms: int = 51, v_min: float = -10.0, v_max: float = 10.0) -> None:
        check_whole_number({"n_atoms": n_atoms}, "n_atoms", 2, "atoms")
        for name, value in (("v_min", v_min), ("v_max", v_max)):
            check_number({name: value}, name, -math.inf)
        if not v_min < v_max:
            raise ValueError(f"v_min={v_min} must be below v_max={v_max}")
        super().__init__(n_features, n_atoms)
        self.v_min = float(v_min)
        self.v_max = float(v_max)

    def forward(self, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        logits = streams(features).unflatten(1, (n_actions, self.n_values))
        atoms = th.linspace(self.v_min, self.v_max, self.n_values, device=logits.device)
        return ActionValues((logits.softmax(dim=2) * atoms).sum(dim=2), logits, atoms)


class Quantile(Distribution):
    """
    Returns at fixed quantiles, the middles of equal shares: QR-DQN (Dabney et al. 2018a).

    :param n_features: see ``Distribution``
    :param n_quantiles: how many
    """

    def __init__(self, n_features: int, n_quantiles: int = 200) -> None:
        check_whole_number({"n_quantiles": n_quantiles}, "n_quantiles", 1, "quantiles")
        super().__init__(n_features, n_quantiles)

    def forward(self, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        quantiles = streams(features).unflatten(1, (n_actions, self.n_values))
        return ActionValues(quantiles.mean(dim=2), quantiles, _middles(self.n_values, quantiles.device))


class ImplicitQuantile(Distribution):
    """
    Returns at quantiles that are drawn anew each time, IQN (Dabney et al. 2018b).

    :param n_features: see ``Distribution``
    :param n_quantiles: drawn for each state while it learns, N and N' of the paper
    :param n_play_quantiles: for playing, K of the paper; they are the middles of equal shares, not drawn
    :param n_cosines: of the quantile's embedding (eq. 4)
    """

    def __init__(self, n_features: int, n_quantiles: int = 64, n_play_quantiles: int = 32, n_cosines: int = 64) -> None:
        counts = {"n_quantiles": n_quantiles, "n_play_quantiles": n_play_quantiles, "n_cosines": n_cosines}
        for name, unit in (("n_quantiles", "quantiles"), ("n_play_quantiles", "quantiles"), ("n_cosines", "cosines")):
            check_whole_number(counts, name, 1, unit)
        super().__init__(n_features, n_values=1)
        self.n_quantiles = n_quantiles
        self.n_play_quantiles = n_play_quantiles
        self.n_cosines = n_cosines
        self.embedding = nn.Sequential(nn.Linear(n_cosines, n_features), nn.ReLU())

    def forward(self, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        fractions = th.rand(len(features), self.n_quantiles, device=features.device)
        return self._at(fractions, features, streams, n_actions)

    def play(self, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        fractions = _middles(self.n_play_quantiles, features.device).unsqueeze(0)
        return self._at(fractions, features, streams, n_actions)

    def _at(self, fractions: th.Tensor, features: th.Tensor, streams: nn.Module, n_actions: int) -> ActionValues:
        """
        :param fractions: float (B, N), or (1, N) for all states
        """
        cosines = (fractions.unsqueeze(2) * th.arange(self.n_cosines, device=features.device) * math.pi).cos()
        embedded = features.unsqueeze(1) * self.embedding(cosines.to(features.dtype))
        quantiles = streams(embedded.flatten(0, 1)).view(*embedded.shape[:2], n_actions).transpose(1, 2)
        return ActionValues(quantiles.mean(dim=2), quantiles, fractions)


def _middles(n_shares: int, device: th.device) -> th.Tensor:
    """
    :return: middles of equal shares of [0, 1], float (n_shares,)
    """
    return (th.arange(n_shares, device=device) + 0.5) / n_shares


#: what ``policy_kwargs.distribution`` can be
DISTRIBUTIONS: dict[str | None, type[Distribution]] = {
    None: Expectation,
    "categorical": Categorical,
    "quantile": Quantile,
    "implicit-quantile": ImplicitQuantile,
}


def make_distribution(distribution: str | None, distribution_kwargs: dict[str, Any] | None, n_features: int) -> Distribution:
    """
    :param distribution: a key of ``DISTRIBUTIONS``
    :param distribution_kwargs: its arguments besides ``n_features``
    :param n_features: numbers that the features extractor gives
    :return: the distribution
    :raises ValueError: for an unknown one, or a value that is not allowed
    :raises TypeError: for an argument that it does not have
    """
    if distribution not in DISTRIBUTIONS:
        known = ", ".join(map(repr, DISTRIBUTIONS))
        raise ValueError(f"distribution={distribution!r} is not known; choose one of {known}")
    kind = DISTRIBUTIONS[distribution]
    names = inspect.signature(kind).parameters.keys() - {"n_features"}
    for name in distribution_kwargs or {}:
        if name not in names:
            has = ", ".join(sorted(names)) or "none"
            raise TypeError(f"distribution={distribution!r} has no argument {name!r} in distribution_kwargs; it has {has}")
    return kind(n_features, **(distribution_kwargs or {}))
