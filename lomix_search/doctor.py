"""What supervising the stages of a network will cost, measured before training."""

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.heads import Instrumented, instrument
from lomix_search.stages import Stages
from lomix_search.trace import inputs_of, same_random_state, tensors, unwrap


@dataclasses.dataclass(frozen=True)
class Cost:
    """One training step with heads beside one without.

    Args:
        stages: What was found.
        head_parameters: Number of parameters that the heads add, in training only.
        seconds: Of a step with heads, median.
        bare_seconds: Of a step of the bare network, median.
        saved_bytes: Memory that a step with heads keeps for the backward pass.
        bare_saved_bytes: The same for the bare network.
    """

    stages: Stages
    head_parameters: int
    seconds: float
    bare_seconds: float
    saved_bytes: int
    bare_saved_bytes: int

    def __str__(self) -> str:
        """Return the stage table and one line for each cost."""
        more = self.seconds / self.bare_seconds - 1
        memory_more = self.saved_bytes - self.bare_saved_bytes
        return (
            f"{self.stages}\n"
            f"  logits maps       {len(self.stages)}\n"
            f"  head parameters   {self.head_parameters:,}, in training only\n"
            f"  time per step     {self.seconds * 1e3:.0f} ms, bare {self.bare_seconds * 1e3:.0f} ({more:+.1%})\n"
            f"  memory per step   {memory_more / 2**20:+.1f} MiB kept for the backward pass"
        )


def doctor(model: nn.Module, example: Any, num_classes: int | None = None, repeats: int = 3) -> Cost:
    """Measure the cost of heads on a copy of a network; mixing the maps in the loss comes on top.

    Args:
        model: The user's network; stays as it is.
        example: A batch as in training, as for :func:`lomix_search.heads.instrument`.
        num_classes: Channels of the logits; None reads them from the model.
        repeats: Steps to time, after one to warm up.

    Returns:
        The measured cost.

    Raises:
        TraceError: the model cannot be read.
        StageError: it has fewer than two stages.
    """
    with same_random_state():
        net = instrument(copy.deepcopy(model), example, num_classes).train()
        args, kwargs = inputs_of(example, unwrap(net.model))
        bare = _measure(net, lambda: net.model(*args, **kwargs), repeats)
        whole = _measure(net, lambda: net(*args, **kwargs), repeats)
    return Cost(net.stages, sum(p.numel() for p in net.head_parameters()), whole[0], bare[0], whole[1], bare[1])


def _measure(net: Instrumented, run: Callable[[], Any], repeats: int) -> tuple[float, int]:
    """Return the median seconds of a step, and the bytes it saves for the backward pass."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _step(net, run)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        _step(net, run)
        times.append(time.perf_counter() - began)
    return statistics.median(times), sum(saved.values())


def _step(net: Instrumented, run: Callable[[], Any]) -> None:
    net.zero_grad()
    maps = [leaf for _, leaf in tensors(run()) if leaf.requires_grad]
    torch.stack([leaf.float().square().mean() for leaf in maps]).sum().backward()  # type: ignore[no-untyped-call]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
