"""The C++ kernel: compiled on first use by the compiler that is there, kept in a cache, called through ctypes."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lomix_search.loss.layout import Layout

SOURCE = Path(__file__).with_name("kernel.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math")
TUNE = (("-march=native", "-ffp-contract=fast"), ("-mcpu=native", "-ffp-contract=fast"), ())
"""For this machine's instructions; compilers differ in the name of that flag, so they are tried in turn."""

NAMES = {torch.float32: "f32", torch.float64: "f64"}
NEVER = -(2**63)  # no label, so nothing is ignored


def sums(maps: Sequence[Tensor], labels: Tensor, params: Tensor, layout: Layout) -> Tensor:
    """Pass 1: add up what cross-entropy and Dice need; see ``fused.Sums`` for the order.

    Args:
        maps: L originals (B, C, N), contiguous, float32 or float64.
        labels: Classes (B, N), int64, contiguous.
        params: Packed parameters.
        layout: What to compute.

    Returns:
        One vector of sums, float64.
    """
    return _forward(maps, labels, params, layout, None)[0]


def slopes(
    maps: Sequence[Tensor],
    labels: Tensor,
    params: Tensor,
    layout: Layout,
    tangents: Sequence[Tensor],
    params_tangent: Tensor,
) -> tuple[Tensor, Tensor]:
    """Pass 1 with a direction; takes and returns what ``tiled.slopes`` does."""
    return _forward(maps, labels, params, layout, (tangents, params_tangent))


def gradients(
    maps: Sequence[Tensor], labels: Tensor, params: Tensor, layout: Layout, factors: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Pass 2: build every map again and walk back to the originals and the parameters.

    Args:
        maps: As for ``sums``.
        labels: As for ``sums``.
        params: Packed parameters.
        layout: What to compute.
        factors: a (m, C), b (m, C) and g (m) of the gradient with respect to a map's probabilities and logits.

    Returns:
        Gradients of the maps and of the packed parameters.
    """
    chunks = _chunks(maps[0], layout)
    grads = [torch.empty_like(one) for one in maps]
    grad_params = torch.zeros(chunks, layout.num_params, dtype=torch.float64)
    held = [factor.to(maps[0].dtype).contiguous() for factor in factors]
    rest = (ctypes.c_int64(layout.num_params), *map(_pointer, held), _pointers(grads), _pointer(grad_params))
    _call("backward", maps, labels, params, layout, chunks, *rest)
    return grads, grad_params.sum(0).to(params.dtype)


@cache
def library() -> ctypes.CDLL | str:
    """Load the kernel, compiling it if no earlier run of this version did on this machine.

    Returns:
        The library, or why there is none.
    """
    compiler = next(
        (found for name in (os.environ.get("CXX"), *COMPILERS) if name and (found := shutil.which(name))), None
    )
    if os.environ.get("LOMIX_NATIVE") == "0":
        return "switched off by LOMIX_NATIVE=0"
    if compiler is None:
        return f"no C++ compiler ({', '.join(COMPILERS)}) on PATH"
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as cause:
        return f"{compiler} failed: {_last_line(cause)}"


def cache_folder() -> Path:
    """Return where compiled kernels are kept: ``$LOMIX_CACHE``, else ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("LOMIX_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lomix_search"


def _compiled(compiler: str) -> Path:
    """Return the compiled kernel's path. The name holds all that decides what is in it, so a stale one is never met."""
    recipe = (SOURCE.read_text(encoding="utf-8"), compiler, FLAGS, TUNE, platform.machine(), _processor())
    path = cache_folder() / f"kernel-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, path)
    return path


def _compile(compiler: str, path: Path) -> None:
    """Compile beside the final place and move there, so that processes that start together cannot harm each other."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / "kernel.so"
        for i, tune in enumerate(TUNE):
            command = [compiler, *FLAGS, *tune, str(SOURCE), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=i == len(TUNE) - 1)
            if done.returncode == 0:
                break
        built.replace(path)


def _processor() -> str:
    """Return the processor's instruction sets where the system tells them: a cache may be shared between machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _last_line(cause: Exception) -> str:
    text = (cause.stderr if isinstance(cause, subprocess.CalledProcessError) else str(cause)) or str(cause)
    return str(text).strip().splitlines()[-1]


def _forward(
    maps: Sequence[Tensor],
    labels: Tensor,
    params: Tensor,
    layout: Layout,
    direction: tuple[Sequence[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor]:
    chunks, plan = _chunks(maps[0], layout), layout.plan
    size = len(plan.maps) * (2 * plan.num_classes + 1)
    sums = torch.zeros(chunks, size + plan.num_classes + 1, dtype=torch.float64)
    changes = torch.zeros(chunks if direction else 0, size, dtype=torch.float64)
    along = (_pointers(direction[0]), _pointer(direction[1])) if direction else (None, None)
    _call("forward", maps, labels, params, layout, chunks, _pointer(sums), *along, _pointer(changes))
    return sums.sum(0), changes.sum(0)


def _chunks(one: Tensor, layout: Layout) -> int:
    """Return how many parts the pixels are cut into: enough for many threads, but with sums of at most 64 MiB."""
    plan = layout.plan
    a_chunk = 8 * max(layout.num_params, len(plan.maps) * (2 * plan.num_classes + 1))
    tiles = one.shape[0] * -(-one.shape[2] // 32)
    return max(1, min(64, tiles, max(8, 2**26 // a_chunk)))


def _call(
    name: str, maps: Sequence[Tensor], labels: Tensor, params: Tensor, layout: Layout, chunks: int, *rest: object
) -> None:
    loaded = library()
    assert isinstance(loaded, ctypes.CDLL), loaded
    batch, _, pixels = maps[0].shape
    code = layout.code
    ignored = layout.plan.ignore_index
    failed = getattr(loaded, f"lomix_{name}_{NAMES[maps[0].dtype]}")(
        (ctypes.c_int64 * len(code))(*code),
        _pointers(maps),
        _pointer(labels),
        _pointer(params),
        *map(ctypes.c_int64, (batch, pixels, NEVER if ignored is None else ignored, chunks)),
        *rest,
        ctypes.c_int(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError("The C++ kernel of the mixture loss found no memory for one tile of pixels.")


def _pointer(one: Tensor) -> ctypes.c_void_p:
    assert one.is_contiguous()
    return ctypes.c_void_p(one.data_ptr())


def _pointers(many: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(many))(*[_pointer(one) for one in many])
