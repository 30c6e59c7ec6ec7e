"""The compiled kernel: the wheel's, or made on first use, kept in a folder of the user's, loaded from there later.

A library can do everything that the user can. So a file is loaded only if it is whole, and if nobody else could have
put it there or changed it.
"""

import contextlib
import ctypes
import hashlib
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lomix_search.mixture.loss.backends.compiler import (
    COMPILERS,
    compile_kernel,
    find_compiler,
    kernel_name,
    last_line,
)
from lomix_search.mixture.loss.backends.prebuilt import KINDS, prebuilt_kernel
from lomix_search.utils.files import write_bytes


@cache
def library() -> ctypes.CDLL | str:
    """Load the kernel: the wheel's if it brings one, else the one that an earlier run compiled, else compile it.

    ``LOMIX_NATIVE`` is ``0`` for none, ``compile`` for none of the wheel's, ``baseline`` for one that any processor of
    the kind can run, ``avx2`` for none beyond that.

    Returns:
        The library, or why there is none.
    """
    wanted = os.environ.get("LOMIX_NATIVE", "")
    if wanted == "0":
        return "switched off by LOMIX_NATIVE=0"
    most = wanted if wanted in KINDS else KINDS[-1]
    if wanted != "compile" and (found := prebuilt_kernel(most)) is not None:
        return found
    compiler = find_compiler()
    if compiler is None:
        return f"no C++ compiler ({', '.join(COMPILERS)}) on PATH, and no package ziglang"
    try:
        name = kernel_name(compiler)
        return _kept(name) or _made(name, compiler)
    except (OSError, subprocess.SubprocessError) as cause:
        return f"{' '.join(compiler)} failed: {last_line(cause)}"


def why_not_kept(folder: Path) -> str:
    """Say why a kernel is kept in this folder and not in the best place; empty if it is that."""
    best = cache_folders()[0]
    if folder == best:
        return ""
    if not best.is_dir():
        return f"{best} cannot be made"
    return _unsafe(best) or f"{best} cannot be written"


def cache_folders() -> list[Path]:
    """Return where compiled kernels may be kept, the best place first.

    ``$LOMIX_CACHE``, else ``$XDG_CACHE_HOME`` or ``~/.cache``; where that cannot be used, a folder of this user among
    the temporary files.
    """
    places = [Path(chosen).absolute()] if (chosen := os.environ.get("LOMIX_CACHE")) else []
    if not places:
        home = os.path.expanduser("~")  # noqa: PTH111 — Path.home() raises where there is none
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache")
        if parent.is_absolute():  # a relative one is to be ignored
            places = [parent / "lomix_search" / "kernels"]
    own = f"lomix_search-{os.geteuid()}" if hasattr(os, "geteuid") else "lomix_search"
    return [*places, Path(tempfile.gettempdir()).absolute() / own]


def _kept(name: str) -> ctypes.CDLL | None:
    """Load the kernel from the first folder that has it."""
    folders = [place for place in cache_folders() if place.is_dir() and not _unsafe(place)]
    return next((found for folder in folders if (found := _load(folder, name))), None)


def _made(name: str, compiler: Sequence[str]) -> ctypes.CDLL | str:
    """Compile the kernel and keep it in the first folder from which it can be loaded; else say why there is none."""
    built, whys = b"", []
    for folder in cache_folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            why = _unsafe(folder)
        except OSError as cause:
            why = f"{folder}: {cause.strerror or cause}"
        if not why:
            built = built or compile_kernel(compiler)
            loaded = _keep(folder, name, built)
            if isinstance(loaded, ctypes.CDLL):
                return loaded
            why = loaded
        whys.append(why)
    return f"no place to keep it: {'; '.join(whys)}"


def _unsafe(folder: Path) -> str:
    """Say why other users could put files into a folder, or replace it; empty if they cannot."""
    return _open_to_others(folder) or next(filter(None, map(_open_to_all, folder.resolve().parents)), "")


def _open_to_others(path: Path) -> str:
    """Say why a file or folder may be the work of another user; empty if it cannot be."""
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
    """Load a kernel whose name holds the checksum of its content: one that was cut or changed is passed over.

    Touching a library that was cut would end the process, so each file is read as a whole before it is loaded.
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
    """Remove half-written files that are a day old: they are of processes that were killed as they wrote."""
    for left in folder.glob(".kernel-*"):
        if time.time() - left.stat().st_mtime > 86400:
            left.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
