"""Runs the Python file of a user's operators that a search space names: once, and again when it has changed."""

import difflib
import hashlib
import runpy
import shlex
from pathlib import Path

from lomix_search.errors import SpaceError
from lomix_search.mixture.operators import OPERATORS

_RUN: dict[Path, tuple[str, tuple[str, ...]]] = {}
"""Files that were run: the checksum of each, and the operators that it registered."""


def register_operators(path: Path) -> None:
    """Run a file of ``@operator`` functions.

    A file whose content was run before is not run again. A file that has changed replaces the operators that it had
    registered. A file that fails leaves the operator table as it was.

    Args:
        path: A Python file.

    Raises:
        SpaceError: the file does not exist, or it failed.
    """
    if not path.is_file():
        there = sorted(one.name for one in path.parent.glob("*.py"))
        raise SpaceError(
            f"operators_file {path} does not exist.",
            seen=f"beside it: {', '.join(there[:8])}" if there else f"no Python file in {path.parent}",
            hint=[f'operators_file = "{one}"' for one in difflib.get_close_matches(path.name, there, n=1) or there[:1]]
            or f"put {path.name} there, or leave operators_file out of the space",
        )
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
            raise SpaceError(
                f"operators_file {path} failed.",
                seen=f"{type(cause).__name__}: {cause}",
                hint=f"python {shlex.quote(str(path))}   # shows the line",
            ) from cause
        raise
    _RUN[key] = content, tuple(name for name in OPERATORS if name not in others)
