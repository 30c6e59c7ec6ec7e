"""What a trial costs: counted before its first step, or measured while it runs."""

import resource
import statistics
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lomix_search.data.dataset import Splits
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.instrumentation.modes import evaluating
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.training.trackers import read_lines
from lomix_search.utils.random import same_random_state

_KIB = 1024


class Meter:
    """The costs of one trial, as far as they are known.

    Args:
        batch_size: Items a step.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.known = batch_size, dict[str, float]()

    def start(self, net: Instrumented, loss: MixtureLoss, splits: Splits) -> None:
        """Count what can be counted, and start to watch the memory.

        Args:
            net: The network.
            loss: The loss; ``[search.shrink]`` may drop maps later, which counts no less here.
            splits: The data; an item of the validation data is the example.
        """
        image, label = splits.val.example()
        self.known["map_pixels"] = len(loss.maps) * self.batch_size * label.numel() / 1e6
        self.known["gflops"] = _flops(net, image) * self.batch_size / 1e9
        _watch_memory()

    def look(self, folder: Path) -> None:
        """Measure what is to be measured.

        Args:
            folder: The run folder; its metrics.jsonl tells the seconds a step.
        """
        self.known["memory"] = _peak_memory() / 2**30
        steps = [line["train/step_seconds"] for line in read_lines(folder / "metrics.jsonl") if "train/loss" in line]
        if steps:
            self.known["seconds"] = statistics.median(steps[1:] or steps)  # the first one compiles and allocates

    def over(self, limits: Mapping[Any, float]) -> dict[str, float]:
        """Return by how much each limit is broken; below 0 where it is kept, 0 where that is not known yet."""
        return {name: self.known.get(name, limit) - limit for name, limit in limits.items()}


def _flops(net: Instrumented, image: torch.Tensor) -> float:
    """Count the floating point operations of a forward pass of one item: matrix products and convolutions."""
    device = next(net.parameters()).device
    with evaluating(net), same_random_state(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(image[None].to(device))
    return float(counter.get_total_flops())


def _watch_memory() -> None:
    """Set the peaks back, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):  # without Linux the peak since the process began has to do
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM := VmRSS


def _peak_memory() -> float:
    """Return bytes: of CUDA's allocator, or of the whole process on a CPU."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * _KIB
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak if sys.platform == "darwin" else peak * _KIB)
