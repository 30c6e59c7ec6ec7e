"""What stands around every reading of a file: each failure becomes one error that names the file."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lomix_search.data.case import size_in_words
from lomix_search.errors import DataError, LomixError

_WORK = 16  # bytes a voxel that preparing needs at least: as read, turned, scaled
_AGAIN = "copy or download it again"


@contextmanager
def readable(path: Path, *, too_large: str = "lomix prepare … --workers 1") -> Iterator[None]:
    """Turn whatever a reader throws at a missing, empty, cut or foreign file into one error that names it.

    Args:
        path: The file that is read inside.
        too_large: What to do where it does not fit into memory.

    Yields:
        Nothing.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; a file was expected.", hint="a file in it, or another name")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty.", hint=_AGAIN)
        yield
    except LomixError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", hint="ls FOLDER   # says what it is called") from None
    except PermissionError as cause:
        raise DataError(f"{path} may not be read.", seen=str(cause), hint=f'chmod u+r "{path}"') from None
    except MemoryError as cause:
        raise DataError(f"{path} does not fit into memory.", seen=str(cause), hint=too_large) from None
    except Exception as cause:  # readers throw errors of every class at files that are not theirs
        raise unreadable(path, cause) from None


def unreadable(path: Path, cause: Exception, other: str = "") -> DataError:
    """Return the error about a file that its reader does not understand.

    Args:
        path: The file.
        cause: What the reader threw.
        other: What else to try, beside another copy of the file.

    Returns:
        The error.
    """
    return DataError(
        f"{path} cannot be read; it is cut short or not what its name says.",
        seen=f"{type(cause).__name__}: {cause}",
        hint=f"{_AGAIN}; {other}" if other else _AGAIN,
    )


def check_memory(path: Path, shape: Sequence[int]) -> None:
    """Refuse a volume that this machine cannot hold, before anything is allocated.

    Args:
        path: The file.
        shape: Its voxels.

    Raises:
        DataError: more than the memory of the machine.
    """
    needed, there = math.prod(map(int, shape)) * _WORK, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise DataError(
            f"{path}: {size_in_words(shape)} values are more than this machine's memory holds.",
            seen=f"{needed / 2**30:,.0f} GiB to prepare it, {there / 2**30:,.0f} GiB there",
            hint="check the header; if it is true, cut the volume into parts or take a larger machine",
        )
