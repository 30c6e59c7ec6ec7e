"""What may change the result of a run beside its settings and data: code, versions, device, threads, commits."""

import hashlib
import importlib.metadata
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

import torch

from lomix_search.utils.distributed import size
from lomix_search.utils.schema import Frozen
from lomix_search.utils.shipped import PACKAGE

DECISIVE_PACKAGES = ("torch", "numpy", "monai", "lomix-search")
"""Packages whose version may change a result."""


class Git(Frozen):
    """State of a git checkout.

    Args:
        commit: Of its HEAD.
        dirty: Whether files that git tracks were changed since.
        changes: sha256 of those changes, so that two changed states can be told apart; None without any.
    """

    commit: str
    dirty: bool
    changes: str | None = None


def surroundings(device: torch.device, engine: str) -> dict[str, str]:
    """Return what may change the result of a run from one start to the next, beside its settings and data.

    Args:
        device: What the network is on.
        engine: What computes the mixture loss.

    Returns:
        Texts by name.
    """
    cuda = device.type == "cuda"
    matmul = torch.get_float32_matmul_precision()
    return _fixed_surroundings() | {
        "device": torch.cuda.get_device_name(device) if cuda else processor_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device)))
        if cuda
        else torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "processes": str(size()),
        "engine of the loss": engine,
        "matrix products": matmul + (", TF32 in cuDNN" if cuda and torch.backends.cudnn.allow_tf32 else ""),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
    }


@lru_cache(maxsize=1)
def _fixed_surroundings() -> dict[str, str]:
    """Return what cannot change while a process lives."""
    code, own = hashlib.sha256(), PACKAGE
    for path in sorted(one for one in own.rglob("*") if one.suffix in (".py", ".cpp")):
        code.update(path.relative_to(own).as_posix().encode() + path.read_bytes())
    packages = {name: importlib.metadata.version(name) for name in DECISIVE_PACKAGES if _installed(name)}
    return packages | {
        "code of lomix-search": code.hexdigest()[:12],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "project": commit_text(_project()),
    }


def _project() -> Git | None:
    try:
        return git_state(Path.cwd())
    except FileNotFoundError:  # the working folder was removed
        return None


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def git_state(folder: Path, root: bool = False) -> Git | None:
    """Look at a git checkout.

    Args:
        folder: A folder in it.
        root: The folder must be its top.

    Returns:
        Its state; None outside a checkout, without git, or before the first commit.
    """
    if root and not (folder / ".git").exists():
        return None
    try:
        commit, changes = (_git(folder, *words) for words in (("rev-parse", "HEAD"), ("diff", "HEAD", "--binary")))
    except (OSError, subprocess.SubprocessError):
        return None
    digest = hashlib.sha256(changes).hexdigest() if changes else None
    return Git(commit=commit.decode().strip(), dirty=bool(changes), changes=digest)


@lru_cache(maxsize=1)
def processor_name() -> str:
    """Return the processor's name; its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(folder: Path, *words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, timeout=10, check=True).stdout


def commit_text(state: Git | None) -> str:
    """Return a commit, and a hash of the changes since, in few letters."""
    return "–" if state is None else state.commit[:12] + (f" with changes {state.changes[:8]}" if state.changes else "")
