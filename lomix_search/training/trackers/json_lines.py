"""The tracker that every run has: metrics.jsonl, one JSON object a line, written and read."""

import contextlib
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lomix_search.training.trackers.tracker import Values
from lomix_search.utils.files import read_json_line, write_text

_OURS = ("train/", "val/", "mixture/", "lookahead/")
_TEXTS = ("mixture/warning", "val/warning", "train/skipped", "lookahead/method")  # of these, the keys that hold texts


class JsonLines:
    """One JSON object a line in ``metrics.jsonl``; NaN and infinities are written as null.

    A write that fails (disk full, a network share that is away) loses no line: what was written of it is cut off, and
    the line is tried again with the next one.

    Args:
        path: The file. Lines of steps after ``step`` are dropped, so that a resumed run leaves no trace twice.
        step: The step the run starts from.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        kept = [line for line in read_lines(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("ab", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)  # of the last whole line
        self._waiting: list[bytes] = []
        self._told = False

    def log(self, step: int, values: Values) -> None:
        """Append a line; it is on disk (in the system's cache) when this returns, or tried again with the next one."""
        line = json.dumps({"step": step} | {key: _finite(value) for key, value in values.items()}) + "\n"
        self._waiting.append(line.encode())
        if (error := self._write()) is None:
            self._told = False
        elif not self._told:
            self._told = True
            self._warn(f"the line of step {step} could not be written ({error}); it is kept, and tried with the next")

    def files(self, paths: Sequence[Path]) -> None:
        """Do nothing: the files are in the run folder already."""

    def close(self) -> None:
        """Write what still waits, and close the file."""
        if (error := self._write()) is not None:
            self._warn(f"the last {len(self._waiting)} lines could not be written ({error}) and are lost")
        self._file.close()

    def _write(self) -> str | None:
        """Write all that waits; return why that failed, if it did."""
        content = b"".join(self._waiting)
        try:
            _write_whole(self._file, content)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)  # a torn line would swallow the one after it
            return error.strerror or str(error)
        self._end += len(content)
        self._waiting.clear()
        return None

    def _warn(self, what: str) -> None:
        warnings.warn(f"{self._file.name}: {what}.", stacklevel=4)


def _write_whole(file: io.FileIO, content: bytes) -> None:
    """Write all of it: an unbuffered file may take only a part."""
    while content:
        content = content[file.write(content) or 0 :]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a ``metrics.jsonl``; broken lines, as a crash or a bad disk leaves them, are passed over.

    Args:
        path: The file; may be missing.

    Returns:
        One dictionary a line, as :func:`read_line` returns it.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [found for line in lines if (found := read_line(line)) is not None]


def read_line(line: bytes) -> dict[str, Any] | None:
    """Read one line of a ``metrics.jsonl``.

    Args:
        line: As it stands in the file.

    Returns:
        ``step``, a whole number from 0 on, and values: finite numbers, lists of them, None where one was not finite,
        and texts where the library logs texts. Values of another kind are left out. None if the line is torn, is not a
        JSON object, or has no step.
    """
    content = read_json_line(line)
    step = None if content is None else content.get("step")
    if content is None or not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**63:
        return None
    return {"step": step} | {key: value for key, value in content.items() if _logged(key, value)}


def _logged(key: str, value: object) -> bool:
    """Say whether a value is of a kind that :class:`JsonLines` writes under a key."""
    if isinstance(value, list):
        return all(part is None or _is_number(part) for part in value)
    if isinstance(value, str):
        return key in _TEXTS or not key.startswith(_OURS)
    return key != "step" and (value is None or _is_number(value))


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int) or value is None:
        return value
    return [_finite(float(part)) for part in value]  # type: ignore[attr-defined]
