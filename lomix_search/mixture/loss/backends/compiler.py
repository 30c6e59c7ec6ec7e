"""The C++ compiler: which one is there, and the kernel compiled by it for this machine."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("kernel.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math")
TUNE = (("-march=native", "-ffp-contract=fast"), ("-mcpu=native", "-ffp-contract=fast"), ())
"""For this machine's instructions; compilers differ in the name of that flag, so they are tried in turn."""

ASKED = {
    "baseline": (("-march=x86-64", "-ffp-contract=fast"), ("-ffp-contract=fast",), ()),
    "avx2": (("-march=x86-64-v3", "-ffp-contract=fast"), *TUNE),
}
"""For any processor of the kind, and for one with AVX2 though it may have AVX-512: by the value of ``LOMIX_NATIVE``."""

TIMEOUT = 600
"""Seconds that a compiler may take: Zig compiles its own C++ library as well, two minutes of one core."""


def find_compiler() -> tuple[str, ...] | None:
    """Return the command of ``$CXX``, or else of the first usual compiler on PATH, or else of the package ``ziglang``.

    Returns:
        The words that a command begins with; None if there is no compiler.
    """
    names = (os.environ.get("CXX"), *COMPILERS)
    found = next((found for name in names if name and (found := shutil.which(name))), None)
    if found is not None:
        return (found,)
    return (sys.executable, "-m", "ziglang", "c++") if importlib.util.find_spec("ziglang") else None


def kernel_name(compiler: Sequence[str]) -> str:
    """Return how names of compiled kernels begin; it holds all that decides what is in one, so none is ever stale."""
    recipe = (
        SOURCE.read_text(encoding="utf-8"),
        _told_apart(compiler),
        FLAGS,
        _tune(),
        platform.machine(),
        _processor(),
    )
    return f"kernel-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}"


def compile_kernel(compiler: Sequence[str]) -> bytes:
    """Compile, and return the library."""
    with tempfile.TemporaryDirectory(prefix="lomix_search-") as folder:
        built = Path(folder) / "kernel.so"
        for i, tune in enumerate(_tune()):
            command = [*compiler, *FLAGS, *tune, str(SOURCE), "-o", str(built)]
            code, said = _run(command, Path(folder))
            if code == 0:
                break
            if i == len(_tune()) - 1:
                raise subprocess.CalledProcessError(code, command, stderr=said)
        return built.read_bytes()


def _tune() -> tuple[tuple[str, ...], ...]:
    return ASKED.get(os.environ.get("LOMIX_NATIVE", ""), TUNE)


def _told_apart(compiler: Sequence[str]) -> str:
    """Return what tells a compiler from others: its path, or the version of the package."""
    if len(compiler) == 1:
        return compiler[0]
    return f"ziglang {importlib.metadata.version('ziglang')}"


def _run(command: Sequence[str], work: Path) -> tuple[int, str]:
    """Run a compiler and the processes that it starts; returns its exit code and its output, in any encoding.

    What Zig keeps for a next time, a few hundred MiB, goes with the folder: there is no next time.
    """
    kept = {f"ZIG_{kind}_CACHE_DIR": str(work / "zig") for kind in ("GLOBAL", "LOCAL")}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | kept,
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


def last_line(cause: Exception) -> str:
    """Return the last line of what a compiler said, or of the error where it said nothing."""
    said = cause.stderr if isinstance(cause, subprocess.CalledProcessError) else ""
    return next((line for text in (said, str(cause)) for line in reversed(text.splitlines()) if line.strip()), "")
