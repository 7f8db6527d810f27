"""The same update, faster: other memory layouts and number formats, fused and compiled steps, CUDA graphs.

``Learner`` is the plain one, to read and to compare with; this one computes on copies of its networks. Gradients go to the
policy's own parameters, its own optimizer steps, and what comes out is copied back.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import torch as th
from torch import nn

from sb3_atari_dqn.learning.learner import Learner, Update, in_its_mode, summarize
from sb3_atari_dqn.learning.losses import ActionValues, Loss

PRECISIONS = ("float32", "bf16", "auto")
ACCELERATIONS = ("none", "fused", "compile", "cuda-graph", "auto")

_DTYPES = {"float32": th.float32, "bf16": th.bfloat16}
_COMPILERS = ("c++", "g++", "clang++", "cl")


def check_values(precision: str, accelerate: str) -> None:
    """
    :param precision: one of ``PRECISIONS``
    :param accelerate: one of ``ACCELERATIONS``
    :raises ValueError: for anything else
    """
    for name, value, allowed in (("precision", precision, PRECISIONS), ("accelerate", accelerate, ACCELERATIONS)):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(map(repr, allowed))}")


def has_bf16(device: th.device) -> bool:
    """
    :param device: where updates are computed
    :return: whether it multiplies bfloat16 matrices by itself; others can, but slowly
    """
    if device.type == "cuda":
        return th.cuda.get_device_capability(device) >= (8, 0)
    processor_has_it = th.cpu._is_avx512_bf16_supported() or th.cpu._is_amx_tile_supported()
    # oneDNN, which multiplies, can be told to do without (ONEDNN_MAX_CPU_ISA)
    return device.type == "cpu" and processor_has_it and th.ops.mkldnn._is_mkldnn_bf16_supported()


def resolve(precision: str, accelerate: str, device: th.device) -> tuple[str, str]:
    """
    What ``"auto"`` stands for.

    :param precision: one of ``PRECISIONS``; ``"auto"`` is bf16 where the processor has it
    :param accelerate: one of ``ACCELERATIONS``; ``"auto"`` is a CUDA graph on a GPU, and fused elsewhere
    :param device: where updates are computed
    :return: precision and acceleration
    :raises ValueError: for a choice that cannot work there, saying what is missing
    """
    check_values(precision, accelerate)
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "float32"
    elif precision == "bf16" and not has_bf16(device):
        warnings.warn(f'precision="bf16" will be slow: this device ({device}) has no bf16 arithmetic', stacklevel=2)
    if accelerate == "auto":
        accelerate = "cuda-graph" if device.type == "cuda" else "fused"
    if accelerate == "cuda-graph" and device.type != "cuda":
        raise ValueError(f'accelerate="cuda-graph" needs a CUDA device, and this is {device}; choose "fused" or "compile"')
    if accelerate == "compile" and not any(map(shutil.which, _COMPILERS)):
        raise ValueError(f'accelerate="compile" needs a C++ compiler ({", ".join(_COMPILERS)}); choose "fused"')
    return precision, accelerate


class NetworkCopy(Protocol):
    """A copy of a network to compute with, such as ``networks.compute_copy.ComputeCopy``."""

    def __call__(self, observations: th.Tensor) -> ActionValues:
        """
        :param observations: as the environment gives them, (batch, *observation)
        :return: action values, float32
        """

    def parameters(self) -> Iterator[nn.Parameter]:
        """
        :return: the copy's own parameters
        """

    def train(self, mode: bool = True) -> Any:
        """
        :param mode: whether to learn, as opposed to play
        """

    def set_gradients(self, gradients: Sequence[th.Tensor | None]) -> None:
        """
        :param gradients: of the copy's parameters that are learnt; those of the network are set to them
        """

    def refresh(self) -> None:
        """Copy the parameters of the network."""

    def remember(self) -> None:
        """Take the parameters of the network for those that the copy has."""

    def follow(self) -> bool:
        """
        Take over what has been done to the parameters of the network since ``remember``: other values, other memory, frozen.

        :return: whether it was more than other values
        """


def make_learner(
    q_net: nn.Module,
    q_net_target: nn.Module,
    optimizer: th.optim.Optimizer,
    loss: Loss,
    max_grad_norm: float | None,
    precision: str,
    accelerate: str,
    make_copy: Callable[[nn.Module, th.dtype], NetworkCopy],
) -> Learner:
    """
    The learner that the keywords of an algorithm name.

    :param q_net: see ``Learner``, like those that follow
    :param q_net_target: see there
    :param optimizer: see there
    :param loss: see there
    :param max_grad_norm: see there
    :param precision: ``"float32"``, ``"bf16"`` or ``"auto"``
    :param accelerate: ``"none"``, ``"fused"``, ``"compile"``, ``"cuda-graph"`` or ``"auto"``
    :param make_copy: a network and a number format to a copy to compute with
    :return: a learner
    :raises ValueError: for a choice that is unknown, that cannot work here, or that the network does not allow
    """
    asked = precision, accelerate
    precision, accelerate = resolve(precision, accelerate, next(q_net.parameters()).device)
    if accelerate == "cuda-graph" and "capturable" not in optimizer.defaults:
        if asked[1] != "auto":
            raise ValueError(f'accelerate="cuda-graph" does not work with {type(optimizer).__name__}; choose "fused"')
        accelerate = "fused"  # the best that can
    arguments = q_net, q_net_target, optimizer, loss, max_grad_norm
    if (precision, accelerate) == ("float32", "none"):
        return Learner(*arguments)
    try:
        online = make_copy(q_net, _DTYPES[precision])
    except ValueError:
        if asked[1] == "auto" and asked[0] != "bf16":  # the best that can
            return Learner(*arguments)
        raise
    target = online if q_net_target is q_net else make_copy(q_net_target, _DTYPES[precision])
    return AcceleratedLearner(*arguments, online, target, accelerate)


class AcceleratedLearner(Learner):
    """
    ``Learner`` on copies of its networks.

    :param q_net: see ``Learner``, like those that follow
    :param q_net_target: see there
    :param optimizer: see there
    :param loss: see there
    :param max_grad_norm: see there
    :param online: copy of ``q_net``
    :param target: copy of ``q_net_target``, the same one if there is but one network
    :param accelerate: ``"none"``: nothing more; ``"fused"``: Adam in one kernel with the clipping of gradients;
        ``"compile"``: loss and step by ``torch.compile``; ``"cuda-graph"``: the whole update as one CUDA graph
    """

    def __init__(
        self,
        q_net: nn.Module,
        q_net_target: nn.Module,
        optimizer: th.optim.Optimizer,
        loss: Loss,
        max_grad_norm: float | None,
        online: NetworkCopy,
        target: NetworkCopy,
        accelerate: str = "fused",
    ) -> None:
        # a subclass may have a step of its own, which would not divide by grad_scale
        self._fuses = accelerate in ("fused", "cuda-graph") and type(optimizer) in (th.optim.Adam, th.optim.AdamW)
        self._is_graphed = accelerate == "cuda-graph"
        super().__init__(q_net, q_net_target, optimizer, loss, max_grad_norm)
        self._online = online
        self._target = target
        self._parameters = list(q_net.parameters())
        device = self._parameters[0].device
        self._learning_rate: th.Tensor | None = None
        self._apply = self._apply_gradients
        self._whole_update = GraphedUpdate(self._update) if self._is_graphed else self._update
        if accelerate in ("compile", "cuda-graph"):
            self._learning_rate = th.tensor(0.0, device=device)
        if accelerate == "compile":
            self._apply = th.compile(self._apply)
            if device.type == "cuda":  # on a CPU they gain nothing
                self._online = th.compile(online)  # type: ignore[assignment]  # a module still
                self._target = self._online if target is online else th.compile(target)  # type: ignore[assignment]
        self._q_function = in_its_mode(cast(nn.Module, self._online), self._online)
        self._target_q_function = in_its_mode(cast(nn.Module, self._target), self._target)

    def refresh(self) -> None:
        """Take over the parameters of both networks."""
        self._follow(self._online, self._target)
        for network in (self._online, self._target):
            network.refresh()
            network.remember()

    def _follow(self, *networks: NetworkCopy) -> None:
        """
        :param networks: copies, which take over what has been done to the parameters of their networks
        """
        has_other_tensors = [network.follow() for network in networks]
        if self._is_graphed and any(has_other_tensors):
            self._whole_update = GraphedUpdate(self._update)  # the graph before goes on with the tensors of before

    def _optimizer_ways(self) -> dict[str, bool | None]:
        ways = super()._optimizer_ways()
        if self._fuses:
            ways.update(fused=True, foreach=False)
        if self._is_graphed:
            ways.update(capturable=True)  # or the optimizer refuses to be captured
        return ways

    def q_values(self, observations: th.Tensor) -> th.Tensor:
        self._follow(self._online)
        return super().q_values(observations)

    def update(self, batch: Any) -> Update:
        self._follow(self._online, self._target)
        if self._learning_rate is not None:  # a tensor, which what is compiled or captured reads anew each time
            for group in self.optimizer.param_groups:
                if group["lr"] is not self._learning_rate:
                    self._learning_rate.fill_(group["lr"])
                    group["lr"] = self._learning_rate
        update = self._whole_update(batch)
        self._online.remember()
        return update

    def _update(self, batch: Any) -> Update:
        result = self.loss(self._q_function, self._target_q_function, batch)
        learnt = [own for own in self._online.parameters() if own.requires_grad]
        gradients = th.autograd.grad(result.loss, learnt, allow_unused=True)
        with th.no_grad():
            self._apply(gradients)
        return summarize(result)

    def _apply_gradients(self, gradients: Sequence[th.Tensor | None]) -> None:
        """
        Clip, step, and copy the parameters back.

        :param gradients: of the copy's parameters that are learnt, None for one that was not used
        """
        self._online.set_gradients(gradients)
        if self.max_grad_norm is not None:
            clipped = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
            norm = th.linalg.vector_norm(th.stack(th._foreach_norm(clipped)))
            excess = ((norm + 1e-6) / self.max_grad_norm).clamp(min=1.0)  # as torch.nn.utils.clip_grad_norm_
            if self._fuses:
                self.optimizer.grad_scale = excess  # type: ignore[attr-defined]  # its kernel divides by it on the way
            else:
                th._foreach_div_(clipped, excess)
        self.optimizer.step()
        self._online.refresh()


class GraphedUpdate:
    """
    An update as one CUDA graph: launched as a whole, without the host's work for each kernel.

    The first updates run as they are, on a stream of their own, while libraries and the optimizer allocate what they need.

    :param update: a batch to what is reported; every tensor that it reads besides the batch must stay where it is
    """

    WARM_UP_UPDATES = 3

    def __init__(self, update: Callable[[Any], Update]) -> None:
        self._update = update
        self._n_updates = 0
        self._graph: th.cuda.CUDAGraph | None = None

    def __call__(self, batch: Any) -> Update:
        """
        :param batch: a named tuple of tensors, of the same shapes each time
        :return: what is reported, a copy
        """
        with th.cuda.device(batch[0].device):  # streams and graphs are those of the current one
            return self._make(batch)

    def _make(self, batch: Any) -> Update:
        self._n_updates += 1
        if self._n_updates <= self.WARM_UP_UPDATES:
            stream = th.cuda.Stream()
            stream.wait_stream(th.cuda.current_stream())
            with th.cuda.stream(stream):
                result = self._update(batch)
            th.cuda.current_stream().wait_stream(stream)
            return result
        if self._graph is None:
            self._batch = type(batch)(*(tensor.clone() for tensor in batch))
            graph = th.cuda.CUDAGraph()
            try:
                with th.cuda.graph(graph, stream=th.cuda.Stream()):
                    self._result = self._update(self._batch)
            except th.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise RuntimeError(
                    'this update cannot be captured as a CUDA graph; choose accelerate="fused" or "none"'
                ) from error
            self._graph = graph
        for tensor, new in zip(self._batch, batch, strict=True):
            tensor.copy_(new, non_blocking=True)
        self._graph.replay()
        return Update(*(tensor.clone() for tensor in self._result))
