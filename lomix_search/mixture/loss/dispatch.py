"""Chooses the engine that computes the losses: by default the fastest that this machine has the tools for."""

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.loss import fused, reference
from lomix_search.mixture.loss.backends.kernel_cache import library, why_not_kept
from lomix_search.mixture.loss.backends.limits import NATIVE_CLASSES
from lomix_search.mixture.loss.backends.on_cuda import fits_reference, missing_triton, plain_report
from lomix_search.mixture.loss.backends.prebuilt import prebuilt_kind

_Engine = Callable[..., tuple[Tensor, Tensor]]

ENGINES: dict[str, _Engine] = {
    "reference": reference.reference_losses,
    "tiled": partial(fused.fused_losses, back_end="tiled"),
    "native": partial(fused.fused_losses, back_end="native"),
    "triton": partial(fused.fused_losses, back_end="triton"),
}
"""By name: slow and obvious, plain PyTorch, C++ on the CPU, Triton on CUDA. Each takes what ``reference`` takes."""


def choose_engine(
    name: str,
    device: str,
    num_maps: int = 4,
    num_classes: int = 2,
    dtype: torch.dtype = torch.float32,
    values: int = 0,
) -> str:
    """Pick the engine for a device.

    Args:
        name: ``"auto"`` or a name of ``ENGINES``.
        device: Type of the device that the maps are on.
        num_maps: L, number of originals.
        num_classes: C.
        dtype: Of the logits.
        values: Of all maps together, m·B·C·pixels, where that is known. On CUDA without Triton the reference is the
            faster one while they fit into memory.

    Returns:
        A name of ``ENGINES``.

    Raises:
        LossError: the engine asked for by name cannot run here; says why.
    """
    if name != "auto":
        if why := _missing(name, device, num_maps, num_classes, dtype):
            raise LossError(f'engine "{name}" cannot run on {device}: {why}.', hint='MixtureLoss(…, engine="auto")')
        return name
    given = (device, num_maps, num_classes, dtype)
    if device == "cuda":
        if not _missing("triton", *given):
            return "triton"
        return "reference" if fits_reference(values, max(4, dtype.itemsize)) else "tiled"
    order = ("native", "tiled") if device == "cpu" else ()
    return next((engine for engine in order if not _missing(engine, *given)), "reference")


# What torch.compiler.assume_constant_result does, without the two seconds that importing torch._dynamo takes.
choose_engine._dynamo_marked_constant = True  # type: ignore[attr-defined]


def cuda_report(num_maps: int, num_classes: int, values: int = 0) -> str:
    """Say in one line which engine runs on the GPU, and why not a faster one.

    Args:
        num_maps: L.
        num_classes: C.
        values: As for :func:`choose_engine`.
    """
    why = missing_triton("cuda", num_maps, num_classes)
    chosen = choose_engine("auto", "cuda", num_maps, num_classes, values=values)
    return plain_report(chosen, why) if why else "triton: kernels compiled for this GPU on first use, kept by Triton"


def engine_report() -> str:
    """Say in one line which engine runs on the CPU here, and why not a faster one."""
    loaded = library()
    if isinstance(loaded, ctypes.CDLL):
        start, folder = f"native: C++ kernel, {torch.get_num_threads()} threads", Path(loaded._name).parent
        if kind := prebuilt_kind(loaded):
            return f"{start}, prebuilt for {'any processor' if kind == 'baseline' else kind}"
        why = why_not_kept(folder)
        return f"{start}, kept in {folder}{f', because {why}' if why else ''}"
    return f"tiled: plain PyTorch, because the C++ kernel is missing: {loaded}"


def _missing(name: str, device: str, num_maps: int, num_classes: int, dtype: torch.dtype) -> str:
    """Return why an engine cannot run on a device, or an empty text."""
    if name == "native":
        if device != "cpu":
            return "it is for the CPU"
        if num_classes > NATIVE_CLASSES:
            return f"it takes up to {NATIVE_CLASSES} classes, not {num_classes}"
        loaded = library()
        return "" if isinstance(loaded, ctypes.CDLL) else loaded
    if name == "triton":
        return missing_triton(device, num_maps, num_classes)
    return ""
