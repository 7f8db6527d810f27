"""Networks as ONNX: observations as the environment gives them in, Q-values out, for programs without Python or PyTorch.

PyTorch's TorchScript exporter writes them, because its newer one needs more packages (onnxscript). It knows neither spectral
normalisation nor adaptive pooling to a size that does not divide the image's, which are written out here.
"""

import copy
import importlib
import json
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn
from torch.nn.utils import parametrize

from sb3_atari_dqn.atomic_files import check_output, written_whole

__all__ = ["export_onnx", "q_values_in_pytorch"]

#: names of what goes in and comes out
INPUT, OUTPUT = "observations", "q_values"

OPSET = 17

#: largest difference to PyTorch that is accepted, times the largest Q-value if that is above one
TOLERANCE = 1e-5

_HOW_TO_INSTALL = "ONNX needs two more packages: pip install onnx onnxruntime"


class _QValues(nn.Module):
    """
    Observations to Q-values, without chance.

    :param network: SB3's or our Q-network, or sb3-contrib's network of quantiles
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.has_quantiles = hasattr(network, "quantile_net")

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: a batch of them
        :return: float (batch, n_actions)
        """
        outputs = self.network(observations)
        return outputs.mean(dim=1) if self.has_quantiles else outputs


class _AdaptiveMaxPool(nn.Module):
    """
    ``nn.AdaptiveMaxPool2d`` as maxima of slices, which every ONNX version has.

    :param output_size: rows and columns of the result
    """

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, images: th.Tensor) -> th.Tensor:
        """
        :param images: (batch, channels, height, width)
        :return: (batch, channels, *output_size)
        """
        for axis, n_out in zip((2, 3), self.output_size, strict=True):
            size = int(images.shape[axis])
            starts = [index * size // n_out for index in range(n_out)]
            ends = [-(-(index + 1) * size // n_out) for index in range(n_out)]
            maxima = [
                images.narrow(axis, start, end - start).amax(axis, keepdim=True)
                for start, end in zip(starts, ends, strict=True)
            ]
            images = th.cat(maxima, dim=axis)
        return images


def _replace_adaptive_pools(network: nn.Module) -> None:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveMaxPool2d):
            parent, _, child = name.rpartition(".")
            size = module.output_size if isinstance(module.output_size, tuple) else (module.output_size,) * 2
            assert all(isinstance(number, int) for number in size)
            setattr(network.get_submodule(parent), child, _AdaptiveMaxPool(size))  # type: ignore[arg-type]  # as asserted


def _replace_parametrizations(network: nn.Module) -> None:
    """
    Compute weights that are normalised once and for all.

    :param network: to be changed in place. ``torch``'s ``remove_parametrizations`` would change its original as well.
    """
    for name, module in list(network.named_modules()):
        if not parametrize.is_parametrized(module):
            continue
        plain: nn.Module = nn.Module.__new__(parametrize.type_before_parametrizations(module))
        vars(plain).update({key: copy.copy(value) for key, value in vars(module).items()})
        parametrized = plain._modules.pop("parametrizations")
        assert isinstance(parametrized, nn.ModuleDict)
        for weight in parametrized:
            plain.register_parameter(weight, nn.Parameter(getattr(module, weight).detach()))
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, plain)


def _network(model: BaseAlgorithm) -> nn.Module:
    for name in ("q_net", "quantile_net"):
        network = getattr(model.policy, name, None)
        if isinstance(network, nn.Module):
            copied = _QValues(copy.deepcopy(network)).cpu().eval()
            _replace_parametrizations(copied)
            _replace_adaptive_pools(copied)
            return copied
    raise ValueError(f"{type(model).__name__} has no Q-values to export: what has is CustomDQN, SweepDQN, DQN and QRDQN")


def q_values_in_pytorch(model: BaseAlgorithm, observations: np.ndarray) -> np.ndarray:
    """
    :param model: a model with Q-values
    :param observations: a batch of them, as its observation space has them
    :return: its Q-values, float32 (batch, n_actions)
    :raises ValueError: for a model without
    """
    network = getattr(model.policy, "q_net", None) or getattr(model.policy, "quantile_net", None)
    if network is None:
        _network(model)  # which says what is missing
    model.policy.set_training_mode(False)
    with th.no_grad():
        outputs = network(th.as_tensor(observations, device=model.device))  # type: ignore[misc]  # it is there
    return (outputs.mean(dim=1) if hasattr(network, "quantile_net") else outputs).cpu().numpy()


def export_onnx(model: BaseAlgorithm, path: Path) -> None:
    """
    Write a model's network as ONNX, in one piece or not at all. It is run in onnxruntime first and must agree with PyTorch.

    :param model: ``CustomDQN``, ``SweepDQN``, or Stable-Baselines3's and sb3-contrib's ``DQN`` and ``QRDQN``
    :param path: file to write: input ``observations``, ``(batch, *observation)`` in the type of the observation space; output
        ``q_values``, float32 (batch, n_actions)
    :raises ValueError: for a model without Q-values, with observations that are not one array, or with layers that ONNX does
        not know, and if onnx or onnxruntime is not installed
    """
    check_output(path)
    space = model.observation_space
    if not isinstance(space, spaces.Box):
        raise ValueError(f"observations in {space} cannot be exported: they must be one array (Box)")
    network = _network(model)
    onnx, onnxruntime = _import("onnx"), _import("onnxruntime")
    space = copy.deepcopy(space)
    space.seed(0)
    observations = np.stack([space.sample() for _ in range(3)])
    content = _add_metadata(onnx, _trace(network, th.as_tensor(observations[:2])), model)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # its threads wait by spinning, which takes the cores from others
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: observations})
    expected = q_values_in_pytorch(model, observations)
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ValueError(f"the network computes something else in onnxruntime: Q-values differ by {difference:.2g}")

    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(f"{_HOW_TO_INSTALL} ({error})") from error


def _trace(network: nn.Module, observations: th.Tensor) -> bytes:
    """
    :param network: observations to Q-values
    :param observations: an example, a batch of them
    :return: the network as ONNX
    :raises ValueError: if it has layers that ONNX does not know
    """
    batch = {name: {0: "batch"} for name in (INPUT, OUTPUT)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), th.no_grad():
        file = Path(folder) / "model.onnx"
        warnings.simplefilter("ignore")  # that the exporter is the older one, and that sizes are constants
        try:
            th.onnx.export(
                network,
                (observations,),
                file,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=batch,
                opset_version=OPSET,
                dynamo=False,
            )
        except (th.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise ValueError(f"the network cannot be written as ONNX: {error}") from error
        return file.read_bytes()


def _add_metadata(onnx: ModuleType, content: bytes, model: BaseAlgorithm) -> bytes:
    """
    :return: the same, saying what it is
    """
    graph: Any = onnx.load_model_from_string(content)
    graph.doc_string = "Observations as the environment gives them to Q-values of all actions"
    information = {"algorithm": type(model).__name__, "training_steps": json.dumps(model.num_timesteps)}
    onnx.helper.set_model_props(graph, information)
    onnx.checker.check_model(graph)
    return graph.SerializeToString()
