"""What a GPU can run: whether Triton can work here, and whether plain PyTorch has the memory for all maps at once."""

import importlib
import os
import re
import shutil
import tempfile
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from lomix_search.mixture.loss.backends.limits import TRITON_CLASSES, TRITON_MAPS

OLDEST_TRITON = (3, 2)
OLDEST_GPU = (7, 0)
"""Compute capability of Volta, the oldest that Triton compiles for."""
HELD_VALUES = 4
"""Tensors of a map's size that the reference holds for each map: 3.6 were measured at 48 maps of 9 classes."""


def missing_triton(device: str, num_maps: int, num_classes: int) -> str:
    """Say why the Triton kernels cannot run.

    Args:
        device: Type of the device.
        num_maps: L.
        num_classes: C.

    Returns:
        The reason, or an empty text.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"  # Triton's own way to run on the CPU, for tests
    if device != "cuda" and not interpreted:
        return "it is for CUDA"
    if why := _unfit_triton() or ("" if interpreted or _recording() else _unfit_gpu()):
        return why
    if num_maps > TRITON_MAPS or num_classes > TRITON_CLASSES:
        return f"it takes up to {TRITON_MAPS} maps of up to {TRITON_CLASSES} classes, not {num_maps} of {num_classes}"
    return ""


def fits_reference(values: int, itemsize: int) -> bool:
    """Tell whether plain PyTorch may hold all maps: that is faster on a GPU than tile by tile, 3.7 times on an H100.

    Args:
        values: Of all maps together, m·B·C·pixels; 0 if that is not known.
        itemsize: Bytes of one.

    Returns:
        Whether they take at most half of the memory that is free now; True if nobody knows how much that is.
    """
    free = free_memory()
    return free is None or 2 * HELD_VALUES * values * itemsize <= free


def free_memory() -> int | None:
    """Return the bytes of its GPU that this process can still have, what torch keeps included; None: no GPU."""
    if not torch.cuda.is_available():
        return None
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0]) + kept


def plain_report(engine: str, why: str) -> str:
    """Say in one line why plain PyTorch computes the loss on a GPU.

    Args:
        engine: ``"reference"`` or ``"tiled"``.
        why: What keeps Triton from it.
    """
    chosen = "as all maps at once fit into memory" if engine == "reference" else "tile by tile, to fit into memory"
    return f"{engine}: plain PyTorch, {chosen}; Triton's kernels, many times faster, cannot run: {why}"


def in_recording(like: Tensor) -> bool:
    """Tell whether a CUDA graph is being recorded: then nobody may ask the device, or wait for it."""
    return like.is_cuda and _recording()


def _recording() -> bool:
    begun: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return begun and torch.cuda.is_current_stream_capturing()


def private_cache_if_needed() -> None:
    """Have Triton keep what it compiles in a new folder of this user's own where its usual one cannot be written."""
    home = os.environ.get("TRITON_HOME", os.path.expanduser("~"))  # noqa: PTH111 — Path.home() raises without one
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path(home, ".triton", "cache"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="lomix-triton-")


@lru_cache(maxsize=1)
def _unfit_triton() -> str:
    try:
        found = version("triton")
    except PackageNotFoundError:
        return "triton is not installed"
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST_TRITON:
        return f"triton {found} is too old, {'.'.join(map(str, OLDEST_TRITON))} or later is needed"
    if os.environ.get("CC") is None and not any(map(shutil.which, ("gcc", "clang"))):
        return "Triton needs a C compiler once, for its launcher: gcc or clang"
    return ""


def _first_run() -> str:
    """Import Triton, which takes a second or two, and run a kernel: what it cannot do here shows before training."""
    try:
        found: str = importlib.import_module("lomix_search.mixture.loss.backends.triton").first_run("cuda")
    except Exception as cause:  # built for another Python or driver, say
        return f"{type(cause).__name__}: {cause}"
    return found


@lru_cache(maxsize=1)
def _unfit_gpu() -> str:
    if not torch.cuda.is_available():
        return ""
    found = torch.cuda.get_device_capability()
    name = f"{torch.cuda.get_device_name()} has compute capability {found[0]}.{found[1]}"
    if torch.version.hip is None and found < OLDEST_GPU:
        return f"{name}, {'.'.join(map(str, OLDEST_GPU))} is needed"
    failed = _first_run()
    return f"a first kernel failed with triton {version('triton')} ({name}): {failed}" if failed else ""
