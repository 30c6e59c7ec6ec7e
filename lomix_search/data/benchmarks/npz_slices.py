"""Volumes whose slices lie in one ``.npz`` file each, as preprocessed Synapse and ACDC data do."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from lomix_search.data.benchmarks.layout import Source
from lomix_search.data.benchmarks.matching import files_by, last_number
from lomix_search.data.case import Case
from lomix_search.data.readers.npz_h5 import read_npz
from lomix_search.errors import DataError


def slice_sources(paths: Iterable[Path], image_key: str, name_of: Callable[[Path], str]) -> list[Source]:
    """Put files of single slices together to volumes, in the order of the last number in their names.

    Args:
        paths: The files.
        image_key: Name of the image in them.
        name_of: File → name of its case; the patient is what stands before the first ``_``.

    Returns:
        One source a case. What is wrong with its slices is told when it is read.

    Raises:
        DataError: two slices of one number.
    """
    cases: dict[str, list[Path]] = {}
    for path in paths:
        cases.setdefault(name_of(path), []).append(path)
    sources = []
    for name, members in cases.items():
        files = files_by(last_number, members)
        ordered = tuple(files[number] for number in sorted(files))
        gaps = sorted(set(range(min(1, *files), max(files) + 1)) - set(files))  # numbers begin with 0 or 1
        read = partial(_read_slices, name, ordered, image_key, gaps)
        patient = name.partition("_")[0]
        sources.append(Source(name, patient, ordered[0].parent.name.replace("_npz", ""), ordered, read))
    return sources


def _read_slices(name: str, paths: tuple[Path, ...], image_key: str, gaps: list[int]) -> Case:
    if gaps:
        raise DataError(
            f"{paths[0].parent}: {name} lacks slice {', '.join(map(str, gaps[:8]))}.",
            hint="copy the missing files, or download the folder again",
        )
    if len({path.parent for path in paths}) > 1:
        seen = sorted({str(path.parent) for path in paths})
        raise DataError(
            f"the slices of {name} lie in several folders.", seen=seen, hint="keep those of one case together"
        )
    pairs = [read_npz(path, image_key, axes=2) for path in paths]
    shapes = {image.shape for image, _ in pairs}
    if len(shapes) > 1:
        raise DataError(
            f"{paths[0].parent}: the slices of {name} differ in size.",
            seen=str(sorted(shapes)),
            hint="copy or download these slices again",
        )
    return Case(name, np.stack([image for image, _ in pairs])[:, None], np.stack([label for _, label in pairs]))
