"""The C++ kernel: compiled on first use by the compiler that is there, kept in a cache, called through ctypes.

Its results are the same to the last bit on any number of threads: pixels are cut into chunks whatever that number, each
chunk has sums of its own, and these are added up in the order of chunks.
"""

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lomix_search.mixture.loss.program import Layout
from lomix_search.utils.files import write_bytes

SOURCE = Path(__file__).with_name("kernel.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math")
TUNE = (("-march=native", "-ffp-contract=fast"), ("-mcpu=native", "-ffp-contract=fast"), ())
"""For this machine's instructions; compilers differ in the name of that flag, so they are tried in turn."""

TIMEOUT = 300
"""Seconds that a compiler may take."""

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
    if os.environ.get("LOMIX_NATIVE") == "0":
        return "switched off by LOMIX_NATIVE=0"
    compiler = next(
        (found for name in (os.environ.get("CXX"), *COMPILERS) if name and (found := shutil.which(name))), None
    )
    if compiler is None:
        return f"no C++ compiler ({', '.join(COMPILERS)}) on PATH"
    try:
        name = _name(compiler)
        return _kept(name) or _made(name, compiler)
    except (OSError, subprocess.SubprocessError) as cause:
        return f"{compiler} failed: {_last_line(cause)}"


def cache_folders() -> list[Path]:
    """Return where compiled kernels may be kept, the best place first.

    ``$LOMIX_CACHE``, else ``$XDG_CACHE_HOME`` or ``~/.cache``; where that cannot be used, a folder of this user among
    the temporary files.
    """
    places = [Path(chosen).absolute()] if (chosen := os.environ.get("LOMIX_CACHE")) else []
    if not places:
        home = os.path.expanduser("~")  # noqa: PTH111 — Path.home() raises where there is none
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache")
        places = (
            [parent / "lomix_search" / "kernels"] if parent.is_absolute() else []
        )  # a relative one is to be ignored
    own = f"lomix_search-{os.geteuid()}" if hasattr(os, "geteuid") else "lomix_search"
    return [*places, Path(tempfile.gettempdir()).absolute() / own]


# -- the cache ---------------------------------------------------------------------------------------------------------


def _name(compiler: str) -> str:
    """Return how names of compiled kernels begin; it holds all that decides what is in one, so none is ever stale."""
    recipe = (SOURCE.read_text(encoding="utf-8"), compiler, FLAGS, TUNE, platform.machine(), _processor())
    return f"kernel-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}"


def _kept(name: str) -> ctypes.CDLL | None:
    """Load the kernel from the first folder that has it."""
    folders = [place for place in cache_folders() if place.is_dir() and not _unsafe(place)]
    return next((found for folder in folders if (found := _load(folder, name))), None)


def _made(name: str, compiler: str) -> ctypes.CDLL | str:
    """Compile the kernel and keep it in the first folder from which it can be loaded; else say why there is none."""
    built, whys = b"", []
    for folder in cache_folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            why = _unsafe(folder)
        except OSError as cause:
            why = f"{folder}: {cause.strerror or cause}"
        if not why:
            built = built or _build(compiler)
            loaded = _keep(folder, name, built)
            if isinstance(loaded, ctypes.CDLL):
                return loaded
            why = loaded
        whys.append(why)
    return f"no place to keep it: {'; '.join(whys)}"


def _unsafe(folder: Path) -> str:
    """Say why others could put files into a folder, or put another in its place."""
    return _open_to_others(folder) or next(filter(None, map(_open_to_all, folder.resolve().parents)), "")


def _open_to_others(path: Path) -> str:
    """Say why what stands at a path may be the work of another user; what is loaded can do all that we can."""
    if not hasattr(os, "geteuid"):  # Windows, where each user's folders are their own
        return ""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user"
    return f"{path} can be written by other users" if status.st_mode & 0o022 else ""


def _open_to_all(parent: Path) -> str:
    mode = parent.stat().st_mode
    return f"{parent} can be written by all users" if mode & 0o002 and not mode & stat.S_ISVTX else ""


def _load(folder: Path, name: str) -> ctypes.CDLL | None:
    """Load a kernel from the cache: one whose name holds the checksum of its content, so none that was cut or changed.

    A map of a file that was cut ends the process at the first touch; so each is read as a whole before.
    """
    for path in sorted(folder.glob(f"{name}-*.so")):
        try:
            if path.name == f"{name}-{_digest(path.read_bytes())}.so" and not _open_to_others(path):
                return ctypes.CDLL(str(path))
        except OSError:  # unreadable, or the folder's files cannot be loaded
            continue
    return None


def _keep(folder: Path, name: str, built: bytes) -> ctypes.CDLL | str:
    path = folder / f"{name}-{_digest(built)}.so"
    try:
        _sweep(folder)
        write_bytes(path, built)
        return ctypes.CDLL(str(path))
    except OSError as cause:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return f"{folder}: {cause.strerror or cause}"


def _sweep(folder: Path) -> None:
    """Remove what processes left that were killed as they wrote, a day ago or longer."""
    for left in folder.glob(".kernel-*"):
        if time.time() - left.stat().st_mtime > 86400:
            left.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- the compiler ------------------------------------------------------------------------------------------------------


def _build(compiler: str) -> bytes:
    """Compile, and return the library."""
    with tempfile.TemporaryDirectory(prefix="lomix_search-") as folder:
        built = Path(folder) / "kernel.so"
        for i, tune in enumerate(TUNE):
            command = [compiler, *FLAGS, *tune, str(SOURCE), "-o", str(built)]
            code, said = _run(command)
            if code == 0:
                break
            if i == len(TUNE) - 1:
                raise subprocess.CalledProcessError(code, command, stderr=said)
        return built.read_bytes()


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Run a compiler and all that it starts; returns its exit code and what it said, in whatever encoding."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(TIMEOUT)
        except BaseException:  # too slow, or interrupted: the compiler's own children go with it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
            raise
        said.seek(0)
        return code, said.read().decode(errors="replace")


def _processor() -> str:
    """Return the processor's instruction sets where the system tells them: a cache may be shared between machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _last_line(cause: Exception) -> str:
    said = cause.stderr if isinstance(cause, subprocess.CalledProcessError) else ""
    return next((line for text in (said, str(cause)) for line in reversed(text.splitlines()) if line.strip()), "")


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
