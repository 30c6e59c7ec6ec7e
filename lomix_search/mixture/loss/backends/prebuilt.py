"""The kernels that platform wheels bring along, compiled: nothing of Python or torch is in them, ctypes loads them.

``LOMIX_PREBUILT=linux_x86_64 python -m build --wheel`` puts them into ``kernels/`` (``.ci/prebuilt.py``); a wheel
without a platform, an sdist and a checkout have none, and compile on first use.
"""

import ctypes
import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("kernels")


def prebuilt_kernel(baseline: bool = False) -> ctypes.CDLL | None:
    """Load the fastest of the wheel's kernels that this processor can run.

    Args:
        baseline: Take the one for any processor of the kind.

    Returns:
        The library; None where there is none, or it is damaged or for another machine.
    """
    basic = _whole("baseline")
    if basic is None or baseline or not basic.lomix_has_avx2():
        return basic
    return _whole("avx2") or basic


def prebuilt_kind(library: ctypes.CDLL) -> str:
    """Return which of the wheel's kernels a library is: ``"avx2"``, say; empty if it is none of them."""
    path = Path(library._name)
    return path.name.split("-")[1] if path.parent == FOLDER else ""


def _whole(kind: str) -> ctypes.CDLL | None:
    """Load a kernel if it is what its name says: touching one that was cut would end the process."""
    for path in FOLDER.glob(f"kernel-{kind}-*.so"):
        try:
            if path.stem.rpartition("-")[2] == hashlib.sha256(path.read_bytes()).hexdigest():
                return ctypes.CDLL(str(path))
        except OSError:  # of another platform, or unreadable
            continue
    return None
