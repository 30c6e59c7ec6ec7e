"""What to do when memory runs out: what a step takes, what there is, what to type."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lomix_search.errors import RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.training.cost import saved_bytes
from lomix_search.utils.random import same_random_state

_SIGNS = ("can't allocate memory", "out of memory", "not enough memory")
_VAGUE = "could not create a primitive"  # of oneDNN: it lacks memory for its code, or does not know the operation


@contextmanager
def memory_advice(advise: Callable[[str], RunError]) -> Iterator[None]:
    """Turn every kind of out-of-memory error into advice.

    Args:
        advise: Makes the error from the first line of what was raised.

    Yields:
        Nothing.

    Raises:
        RunError: memory ran out.
    """
    try:
        yield
        return
    except (RuntimeError, MemoryError) as cause:  # torch.OutOfMemoryError is a RuntimeError, on the CPU a plain one
        text = str(cause)
        certain = isinstance(cause, MemoryError) or any(sign in text.lower() for sign in _SIGNS)
        if not certain and (_VAGUE not in text or _has_room()):
            raise
        first = text.splitlines()[0][:200] if text else "MemoryError"
        traceback.clear_frames(cause.__traceback__)  # they hold the step's tensors
    raise advise(first)


def _has_room(size: int = 2**28) -> bool:
    """Say whether a quarter of a gigabyte can still be had."""
    try:
        torch.empty(size, dtype=torch.uint8)
    except (RuntimeError, MemoryError):
        return False
    return True


def out_of_memory(
    net: nn.Module, loss: MixtureLoss, images: Tensor, labels: Tensor, step: int, cause: str, batch_size: int
) -> RunError:
    """Say what was too much.

    Args:
        net: The instrumented network, in train mode.
        loss: The mixture loss.
        images: The batch, of which one item is measured.
        labels: Its labels.
        step: The step that failed.
        cause: What was raised.
        batch_size: Items a step, over all processes.

    Returns:
        The error, with memory seen and what to type.
    """
    items, device = len(images), next(net.parameters()).device
    smaller = max(1, batch_size // 2)
    hint = [f"search.batch_size={smaller}", "search.precision=bf16"] if batch_size > 1 else ["search.precision=bf16"]
    if torch.cuda.device_count() > 1:
        hint.append(f"torchrun --nproc-per-node {torch.cuda.device_count()} …   # the batch is shared; can be resumed")
    hint.append("(other settings need another folder: --folder runs/another)")
    return RunError(
        f"out of memory at step {step} on {device}: a batch of {items} items, {_times(images.shape[1:])} each, "
        "did not fit.",
        seen=[cause, _memory(device), *_one_item(net, loss, images, labels)],
        hint=hint,
    )


def _one_item(net: nn.Module, loss: MixtureLoss, images: Tensor, labels: Tensor) -> list[str]:
    """Measure a step of one item, as ``lomix doctor`` does, if at least that fits."""
    device, items = next(net.parameters()).device, len(images)
    together, loss.together = loss.together, False  # the other processes are not asked
    try:
        one, truth = images[:1].to(device), labels[:1].to(device)
        with same_random_state():
            kept = saved_bytes(lambda: loss(net(one), truth))
    except (RuntimeError, MemoryError):
        return ["not even one item fits"]
    finally:
        loss.together = together
        for parameter in (*net.parameters(), *loss.parameters()):
            parameter.grad = None
    return [
        f"a step of one item with {sum(loss.weighting.active())} maps keeps {_mib(kept)} for the backward pass, "
        f"{items} items about {_mib(kept * items)}"
    ]


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        own = torch.cuda.max_memory_allocated(device)
        return f"the GPU has {_mib(total)}, {_mib(free)} of it free; this process took {_mib(own)} at most"
    page, total, free = (os.sysconf(name) for name in ("SC_PAGE_SIZE", "SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    return f"this machine has {_mib(page * total)}, {_mib(page * free)} of it free{_limit()}"


def _limit() -> str:
    if sys.platform == "win32":
        return ""
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return "" if soft == resource.RLIM_INFINITY else f"; this process may take {_mib(soft)} (ulimit -v)"


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _times(shape: torch.Size) -> str:
    return " × ".join(map(str, shape))
