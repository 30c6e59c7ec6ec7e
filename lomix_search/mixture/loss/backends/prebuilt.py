"""The kernels that platform wheels bring along, compiled: nothing of Python or torch is in them, ctypes loads them.

``LOMIX_PREBUILT=linux_x86_64 python -m build --wheel`` puts them into ``kernels/`` (``.ci/prebuilt.py``); a wheel
without a platform, an sdist and a checkout have none, and compile on first use.
"""

import ctypes
import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("kernels")
KINDS = ("baseline", "avx2", "avx512")
"""From the one for any processor to the fastest; the kernel's ``lomix_level`` is the place of the last that can run."""


def prebuilt_kernel(most: str = KINDS[-1]) -> ctypes.CDLL | None:
    """Load the fastest of the wheel's kernels that this processor can run.

    Args:
        most: One of ``KINDS``; none beyond it is taken.

    Returns:
        The library; None where there is none, or it is damaged or for another machine.
    """
    basic = _whole(KINDS[0])
    if basic is None:
        return None
    able = KINDS[1 : 1 + min(basic.lomix_level(), KINDS.index(most))]
    return next(filter(None, map(_whole, reversed(able))), basic)


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
