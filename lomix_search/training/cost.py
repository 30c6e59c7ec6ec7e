"""What a mixture will cost on a network, measured before training."""

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.instrumentation.stages import Stages
from lomix_search.instrumentation.trace import inputs_of, pick, unwrap
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.dispatch import choose_engine, cuda_report, engine_report
from lomix_search.mixture.space import SearchSpace
from lomix_search.utils.random import same_random_state


@dataclasses.dataclass(frozen=True)
class StepCost:
    """One training step with the mixture beside one with the last layer alone, forward and backward.

    Args:
        stages: What was found.
        maps: Number of supervised maps.
        head_parameters: Number of parameters that the heads add, in training only.
        loss_parameters: Number of parameters of operators and weights, in training only.
        seconds: Of a step with the mixture, median.
        bare_seconds: Of a step of the bare network with the last layer, median.
        saved_bytes: Memory that a step with the mixture keeps for the backward pass.
        bare_saved_bytes: The same for the bare network.
        engine: What computes the loss here, and why.
    """

    stages: Stages
    maps: int
    head_parameters: int
    loss_parameters: int
    seconds: float
    bare_seconds: float
    saved_bytes: int
    bare_saved_bytes: int
    engine: str

    def __str__(self) -> str:
        """Return the stage table and one line for each cost."""
        time_more = self.seconds / self.bare_seconds - 1
        memory_more = self.saved_bytes - self.bare_saved_bytes
        bare, whole = self.bare_seconds * 1e3, self.seconds * 1e3
        return (
            f"{self.stages}\n"
            f"  supervised maps   {self.maps}\n"
            f"  head parameters   {self.head_parameters:,}, in training only\n"
            f"  loss parameters   {self.loss_parameters:,}, in training only\n"
            f"  time per step     {whole:.0f} ms, last layer alone {bare:.0f} ms ({time_more:+.0%})\n"
            f"  memory per step   {memory_more / 2**20:+.1f} MiB kept for the backward pass\n"
            f"  loss engine       {self.engine}"
        )


def doctor(
    model: nn.Module,
    example: Any,
    num_classes: int | None = None,
    space: SearchSpace | str = "lomix",
    repeats: int = 3,
    multilabel: bool = False,
) -> StepCost:
    """Measure what training with a mixture costs, on a copy of a network and random labels.

    Args:
        model: The user's network; stays as it is.
        example: A batch as in training, as for :func:`lomix_search.instrumentation.instrumented.instrument`.
        num_classes: Channels of the logits; None reads them from the model.
        space: The search space, or its name.
        repeats: Pairs of steps to time, in turns, after one to warm up.
        multilabel: The channels are regions that may overlap.

    Returns:
        The measured cost.

    Raises:
        TraceError: the model cannot be read.
        StageError: it has fewer than two stages.
        SpaceError: the space does not fit the number of stages.
    """
    with same_random_state():
        net = instrument(copy.deepcopy(model), example, num_classes).train()
        mixture = MixtureLoss(space, len(net.stages), net.num_classes, multilabel=multilabel)
        whole, bare, pixels = _steps(net, mixture, example)
        saved, bare_saved = saved_bytes(whole), saved_bytes(bare)
        times = [(_seconds(whole), _seconds(bare)) for _ in range(repeats)]
    seconds, bare_seconds = (statistics.median(column) for column in zip(*times, strict=True))
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    return StepCost(
        stages=net.stages,
        maps=len(mixture.maps),
        head_parameters=_count(net.heads),
        loss_parameters=_count(mixture),
        seconds=seconds,
        bare_seconds=bare_seconds,
        saved_bytes=saved,
        bare_saved_bytes=bare_saved,
        engine=_engine(mixture, device.type, pixels),
    )


def _engine(mixture: MixtureLoss, device: str, pixels: int) -> str:
    """Say what computes the loss, and why."""
    counts = mixture.plan.num_maps, mixture.num_classes
    if device == "cuda":
        return cuda_report(*counts, len(mixture.maps) * mixture.num_classes * pixels)
    return engine_report() if device == "cpu" else choose_engine("auto", device, *counts)


def _steps(
    net: Instrumented, mixture: MixtureLoss, example: Any
) -> tuple[Callable[[], Tensor], Callable[[], Tensor], int]:
    """Return the forward pass of a step with the mixture, that of one with the last layer alone, and their pixels."""
    args, kwargs = inputs_of(example, unwrap(net.model))
    own = net.stages[-1].own or ()
    with torch.no_grad():
        shape = pick(net.model(*args, **kwargs), own).shape
    returned = shape[1]  # fewer where the background is dropped
    multilabel = mixture.multilabel
    last = MixtureLoss("last_layer", 1, returned, multilabel=multilabel)

    def whole() -> Tensor:
        maps = net(*args, **kwargs)
        return cast(Tensor, mixture.to(maps[-1].device)(maps, _labels(maps[-1], multilabel)))

    def bare() -> Tensor:
        logits = pick(net.model(*args, **kwargs), own)
        return cast(Tensor, last([logits], _labels(logits, multilabel)))

    return whole, bare, shape.numel() // returned


def _labels(logits: Tensor, multilabel: bool) -> Tensor:
    if multilabel:
        return torch.randint(2, logits.shape, device=logits.device)
    classes = max(2, logits.shape[1])
    return torch.randint(classes, (logits.shape[0], *logits.shape[2:]), device=logits.device)


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """Measure what a step keeps for its backward pass; this is also a warm-up.

    Args:
        run: The forward pass; its result is differentiated.

    Returns:
        Bytes, each storage counted once.
    """
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run().backward()  # type: ignore[no-untyped-call]
    return sum(saved.values())


def _seconds(run: Callable[[], Tensor]) -> float:
    began = time.perf_counter()
    run().backward()  # type: ignore[no-untyped-call]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
