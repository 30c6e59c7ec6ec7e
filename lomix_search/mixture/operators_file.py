"""Operators in a file of the user's, which a search space names: run once, and anew where it has changed."""

import hashlib
import runpy
from pathlib import Path

from lomix_search.errors import SpaceError
from lomix_search.mixture.operators import OPERATORS

_RUN: dict[Path, tuple[str, tuple[str, ...]]] = {}
"""Files that were run: the checksum of each, and the operators that it registered."""


def register_operators(path: Path) -> None:
    """Run a file of ``@operator`` functions.

    Nothing happens where the same content was run before. A file that has changed replaces what it registered; one
    that fails leaves the table as it was.

    Args:
        path: A Python file.

    Raises:
        SpaceError: there is no such file, or it failed.
    """
    if not path.is_file():
        raise SpaceError(f"operators_file {path} does not exist.")
    key, content = path.resolve(), hashlib.sha256(path.read_bytes()).hexdigest()
    known, names = _RUN.get(key, ("", ()))
    if known == content and all(name in OPERATORS for name in names):
        return
    before = dict(OPERATORS)
    for name in names:
        OPERATORS.pop(name, None)
    others = set(OPERATORS)
    try:
        runpy.run_path(str(path))
    except BaseException as cause:
        OPERATORS.clear()
        OPERATORS.update(before)
        if isinstance(cause, Exception):
            raise SpaceError(f"operators_file {path} failed.", seen=f"{type(cause).__name__}: {cause}") from cause
        raise
    _RUN[key] = content, tuple(name for name in OPERATORS if name not in others)
