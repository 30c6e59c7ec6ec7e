"""TIFF files of several pages, read as volumes: each page is a slice."""

from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.readers.guard import check_memory
from lomix_search.data.readers.picture_file import Stored, count_pages, read_pages
from lomix_search.data.readers.values import NOT_FINITE, whole_labels
from lomix_search.errors import DataError

_TIFF = (".tif", ".tiff")


def is_stack(path: Path) -> bool:
    """Whether a file is a TIFF of more than one page."""
    return path.suffix.lower() in _TIFF and count_pages(path) > 1


def read_stack(path: Path) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read a TIFF of several pages as a volume.

    Args:
        path: Pages of one size and kind, grey of any depth or in colours of 8 bits.

    Returns:
        (slices, channels, rows, columns), values as stored; no spacing, since a TIFF does not say it; the number of
        ``pages``.

    Raises:
        DataError: unreadable, or pages that differ.
    """
    pages = _alike(path)
    planes = [p.palette[p.values] if p.kind == "palette" else p.values for p in pages]
    stacked = np.stack(planes)
    image = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    if not np.isfinite(image).all():
        raise DataError(f"{path}: NaN or infinite intensities.", hint=NOT_FINITE)
    return np.ascontiguousarray(image), (), {"pages": len(pages)}


def read_stack_label(path: Path) -> tuple[Array, tuple[float, ...], dict[str, Any]]:
    """Read a label of several pages.

    Args:
        path: Pages of numbers or of a palette's indices.

    Returns:
        (slices, rows, columns), no spacing, and the number of ``pages``.

    Raises:
        DataError: as :func:`read_stack`; pages in colours; values that are not whole numbers.
    """
    pages = _alike(path)
    if pages[0].kind not in ("grey", "palette"):
        raise DataError(f"{path}: pages in colours; a label of several pages holds numbers.", hint="save class numbers")
    return whole_labels(np.stack([page.values for page in pages]), path), (), {"pages": len(pages)}


def _alike(path: Path) -> list[Stored]:
    """Return all pages, which are of one size and kind."""
    pages = read_pages(path)
    check_memory(path, (len(pages), *pages[0].values.shape))
    first = pages[0]
    for number, page in enumerate(pages[1:], 2):
        if (page.kind, page.depth, page.values.shape) != (first.kind, first.depth, first.values.shape):
            raise DataError(
                f"{path}: page {number} is not like the first; the pages of a volume are of one size and kind.",
                seen=[f"{size_in_words(p.values.shape)} {p.kind} of {p.depth}" for p in (first, page)],
                hint="leave out overviews and labels of the scanner: save the slices alone to a new file",
            )
    return pages
