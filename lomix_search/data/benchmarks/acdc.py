"""ACDC: cardiac MR at end-diastole and end-systole, as NIfTI or preprocessed."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.matching import (
    content_in_words,
    nifti_of,
    sorted_sources,
)
from lomix_search.data.benchmarks.npz_slices import slice_sources
from lomix_search.data.case import Case
from lomix_search.data.readers.guard import readable
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.data.readers.npz_h5 import read_npz
from lomix_search.errors import DataError

_ACDC_NPZ = re.compile(r"case_(\d+)_(?:slice|volume)_?(E[DS])(?=[_.])")


def find_acdc(raw: Path) -> list[Source]:
    """Find ``patientNNN/patientNNN_frameNN.nii.gz`` with ``_gt`` and Info.cfg, or the preprocessed npz files.

    Args:
        raw: The folder, or one that holds it.

    Returns:
        Two sources a patient: ``patientNNN_ED`` and ``patientNNN_ES``.

    Raises:
        DataError: neither form, no Info.cfg, or images and labels that do not pair up.
    """
    preprocessed = [p for p in sorted(raw.rglob("case_*.npz")) if p.is_file()]
    if strange := [str(p) for p in preprocessed if not _ACDC_NPZ.match(p.name)]:
        raise DataError(
            f"{raw}: {len(strange)} npz files name no slice or volume of ED or ES.",
            seen=strange[:8],
            hint="name them case_001_sliceED_0.npz or case_001_volumeED.npz, or move them away",
        )
    if preprocessed:
        slices, volumes = ([p for p in preprocessed if ("_slice" in p.name) == wanted] for wanted in (True, False))
        return sorted_sources([*slice_sources(slices, "img", _acdc_name), *map(_npz_volume, volumes)])
    files = [p for p in raw.rglob("patient*.nii*") if re.match(r"patient\d+_(frame\d+|4d)", p.name) and p.is_file()]
    labelled = {p.parent for p in files if "_gt." in p.name}
    # The challenge's testing patients came without labels; any other patient without labels is an error.
    folders = sorted({p.parent for p in files if p.parent in labelled or p.parent.parent.name != "testing"})
    if not labelled:
        raise DataError(
            f"{raw} holds no ACDC data.",
            seen=content_in_words(raw),
            hint="expected patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz and Info.cfg, "
            "or case_001_sliceED_0.npz",
        )
    return sorted_sources(source for folder in folders for source in _acdc_patient(folder))


def _acdc_patient(folder: Path) -> list[Source]:
    """Return two sources; where something is wrong, one that says so when it is read, beside all other faults."""
    try:
        if not any(folder.glob("patient*_gt.nii*")):
            raise DataError(f"{folder} has images and no label (…_gt.nii.gz).", hint="move it away, or find its labels")
        return list(_acdc_phases(folder))
    except DataError as error:
        return [Source(folder.name, folder.name, folder.parent.name, (), partial(_refuse, error))]


def _acdc_phases(folder: Path) -> Iterator[Source]:
    patient = folder.name
    for phase, frame in _info(folder).items():
        stem = f"{patient}_frame{frame:02d}"
        label = nifti_of(folder, f"{stem}_gt")
        image, number = nifti_of(folder, stem), None
        if not image.exists() and (whole := nifti_of(folder, f"{patient}_4d")).exists():
            image, number = whole, frame - 1  # frames count from 1
        name = f"{patient}_{phase}"
        read = partial(read_nifti_pair, name, image, label, number)
        yield Source(name, patient, folder.parent.name, (image, label), read)


def _refuse(error: DataError) -> Case:
    raise error


def _info(folder: Path) -> dict[str, int]:
    """Read which frames are end-diastole and end-systole."""
    path = folder / "Info.cfg"
    with readable(path):
        entries = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    try:
        return {phase: int(entries[phase]) for phase in ("ED", "ES")}
    except (KeyError, ValueError):
        raise DataError(f"{path} does not name the frames of ED and ES.", hint="ED: 1\nES: 12") from None


def _npz_volume(path: Path) -> Source:
    name = _acdc_name(path)

    def read() -> Case:
        image, label = read_npz(path, "img", axes=3)
        return Case(name, image[:, None], label)

    return Source(name, name.partition("_")[0], path.parent.name, (path,), read)


def _acdc_name(path: Path) -> str:
    number, phase = _ACDC_NPZ.match(path.name).groups()  # type: ignore[union-attr]
    return f"patient{int(number):03d}_{phase}"


ACDC_LAYOUT = DatasetLayout("acdc", find_acdc, {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}, "mr", 224)
