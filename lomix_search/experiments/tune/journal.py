"""A study's journal file. It holds whole lines even after a writer was killed, and nobody waits for a dead writer.

The lines are those of Optuna's ``JournalFileBackend``, so that its dashboard reads the file. Two things differ. The
lock is the system's, on the journal itself: it goes with the process that holds it, however that ends, where Optuna's
is a link that a killed process leaves behind, and that a relative path makes immortal. And a line that was cut off, by
a kill or a full disk, is set aside before the next one is written, where Optuna glues the two together and reads
neither.
"""

import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock

from lomix_search.errors import RunError
from lomix_search.experiments.tune.retry import StorageLost
from lomix_search.training.run_folder import writing
from lomix_search.utils.files import read_json_line

_LONGEST = 120.0  # seconds; an append takes milliseconds
_WITHOUT = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # a file system without locks
_BLOCK = 1 << 16


class Journal(BaseJournalBackend):
    """Reads and appends the lines of a journal.

    Args:
        path: The file; made when missing.
        say: Told in words when a line that was cut off is set aside.

    Raises:
        RunError: the file cannot be made.
    """

    def __init__(self, path: Path, say: Callable[[str], object]) -> None:
        self._path, self._say = path.absolute(), say
        self._ends = {0: 0}  # length of the file by its number of lines
        if not self._path.exists():
            with writing(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records from a number on.

        A last line without an end is being written, or was cut off; it does not count yet.

        Args:
            log_number_from: Records to pass over.

        Yields:
            Records.

        Raises:
            RunError: a line is broken.
        """
        number = log_number_from if log_number_from in self._ends else 0
        place = self._ends[number]
        with self._path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(place)
            for line in file:
                place += len(line)
                if place > size or not line.endswith(b"\n"):
                    return
                number += 1
                self._ends[number] = place
                if number > log_number_from:
                    yield self._record(line, number)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, on disk when this returns; other writers wait.

        Args:
            logs: The records.

        Raises:
            RunError: the disk is full or read-only (nothing of the last line is left), or another process has held the
                file for two minutes.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with writing(self._path), self._path.open("ab+", buffering=0) as file, self._held(file):
            self._mend(file)
            try:
                left = memoryview(lines)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                _cut(file, _end_of_lines(file))  # whole lines may have been read by others, and stay
                raise

    @contextmanager
    def _held(self, file: BinaryIO) -> Iterator[None]:
        """Hold the journal; closing the file lets go of it, and so does the system if this process dies."""
        until = time.monotonic() + _LONGEST
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StorageLost(
                        f"{self._path} has been held by another process for {_LONGEST:.0f} seconds.",
                        seen="writing takes milliseconds; that process is stopped, or its disk hangs",
                        hint=f"lsof {self._path}   # names it; let it go on (fg) or end it, and try again",
                    ) from None
                time.sleep(0.005)
            except OSError as cause:
                if cause.errno not in _WITHOUT:
                    raise
                with self._held_by_link():
                    yield
                return
        yield

    @contextmanager
    def _held_by_link(self) -> Iterator[None]:
        """Hold the journal where the file system has no locks; after 30 seconds a dead process's link is taken over."""
        link = self._path.with_name(f"{self._path.name}.lock")
        if link.is_symlink() and not link.exists():  # an earlier version's, that leads nowhere
            link.unlink(missing_ok=True)
        lock = JournalFileSymlinkLock(str(self._path))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _mend(self, file: BinaryIO) -> None:
        """Set a line aside that was cut off; one that lacks nothing but its end gets it."""
        start, size = _end_of_lines(file), file.seek(0, os.SEEK_END)
        if start == size:
            return
        file.seek(start)
        tail = file.read(size - start)
        if _parsed(tail) is not None:
            file.write(b"\n")
            return
        aside = self._path.with_name(f"{self._path.name}.torn")
        kept = f"what there was of it is in {aside.name}"
        try:
            with aside.open("ab") as torn:
                torn.write(tail + b"\n")
        except OSError as cause:
            kept = f"it could not be kept: {cause.strerror}"
        _cut(file, start)
        self._say(f"the last line of {self._path} was cut off after {len(tail)} bytes and is taken out; {kept}")

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        """Read a line; of one that an earlier version glued to one that was cut off, the whole part."""
        if (record := _parsed(line)) is not None:
            return record
        starts = (found.start() for found in re.finditer(rb'\{"op_code"', line))
        whole = next((record for start in starts if (record := _parsed(line[start:])) is not None), None)
        if whole is None:
            raise RunError(
                f"line {number} of {self._path} is broken; the study cannot be read beyond it.",
                seen=repr(line[:60]),
                hint="lomix tune RECIPE --folder ANOTHER   # the runs of this study's trials stay where they are",
            )
        return whole


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line, None where that is not one whole record."""
    record = read_json_line(line)
    return record if record is not None and "op_code" in record else None


def _end_of_lines(file: BinaryIO) -> int:
    """Return where the last whole line ends."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        start = max(0, place - _BLOCK)
        file.seek(start)
        if (found := file.read(place - start).rfind(b"\n")) >= 0:
            return start + found + 1
        place = start
    return 0


def _cut(file: BinaryIO, size: int) -> None:
    os.ftruncate(file.fileno(), size)
    os.fsync(file.fileno())
