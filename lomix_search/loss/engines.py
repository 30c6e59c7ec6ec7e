"""Which engine computes the losses: the fastest that this machine has the tools for."""

import ctypes
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.loss import fused, native, reference

Engine = Callable[..., tuple[Tensor, Tensor]]

ENGINES: dict[str, Engine] = {
    "reference": reference.per_map_losses,
    "tiled": partial(fused.per_map_losses, back_end="tiled"),
    "native": partial(fused.per_map_losses, back_end="native"),
}
"""All by name: ``reference`` is slow and obvious, ``tiled`` plain PyTorch, ``native`` C++ on the CPU."""


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def choose_engine(name: str, device: str) -> str:
    """Pick the engine for a device.

    Args:
        name: ``"auto"`` or a name of ``ENGINES``.
        device: Type of the device that the maps are on.

    Returns:
        A name of ``ENGINES``.

    Raises:
        LossError: the engine asked for by name cannot run here; says why.
    """
    if name != "auto":
        if why := _missing(name, device):
            raise LossError(f'engine "{name}" cannot run on {device}: {why}.', hint='MixtureLoss(…, engine="auto")')
        return name
    order = {"cpu": ("native", "tiled"), "cuda": ("tiled",)}.get(device, ())
    return next((engine for engine in order if not _missing(engine, device)), "reference")


def engine_report() -> str:
    """Say in one line which engine runs on the CPU here, and why not a faster one."""
    loaded = native.library()
    if isinstance(loaded, ctypes.CDLL):
        return f"native: C++ kernel, {torch.get_num_threads()} threads, kept in {native.cache_folder()}"
    return f"tiled: plain PyTorch, because the C++ kernel is missing: {loaded}"


def _missing(name: str, device: str) -> str:
    """Return why an engine cannot run on a device, or an empty text."""
    if name == "native":
        if device != "cpu":
            return "it is for the CPU"
        loaded = native.library()
        return "" if isinstance(loaded, ctypes.CDLL) else loaded
    return ""
