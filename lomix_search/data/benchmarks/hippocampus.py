"""Hippocampus: task 4 of the Medical Segmentation Decathlon, MR volumes with two structures."""

from functools import partial
from pathlib import Path

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.matching import check_pairs, content_in_words, files_by, nifti_files, sorted_sources
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.errors import DataError

_PLACES = (("imagesTr", "labelsTr"), ("images", "labels"))


def find_hippocampus(raw: Path) -> list[Source]:
    """Find ``imagesTr/hippocampus_NNN.nii.gz`` with ``labelsTr``, or ``images`` with ``labels``.

    Args:
        raw: ``Task04_Hippocampus``, or a folder that holds it. Its ``imagesTs`` have no labels and are not read.

    Returns:
        One source a volume; each is a patient.

    Raises:
        DataError: no such folders, or images and labels that do not pair up.
    """
    pairs = [(home / a, home / b) for home in _homes(raw) for a, b in _PLACES if (home / a).is_dir()]
    if not pairs:
        raise DataError(
            f"{raw} holds no hippocampus data.",
            seen=content_in_words(raw),
            hint="expected imagesTr/hippocampus_001.nii.gz with labelsTr/hippocampus_001.nii.gz",
        )
    images, labels = (
        files_by(_stem, [p for pair in pairs for p in nifti_files(pair[side], r"hippocampus_\d+")]) for side in (0, 1)
    )
    check_pairs(raw, images, labels, "imagesTr/hippocampus_001.nii.gz with labelsTr/hippocampus_001.nii.gz")
    return sorted_sources(
        Source(stem, stem, "", (path, labels[stem]), partial(read_nifti_pair, stem, path, labels[stem]))
        for stem, path in images.items()
    )


def _homes(raw: Path) -> list[Path]:
    inside = [folder for folder in sorted(raw.iterdir()) if folder.is_dir()] if raw.is_dir() else []
    return [raw, *inside]


def _stem(path: Path) -> str:
    return path.name.partition(".nii")[0]


HIPPOCAMPUS_LAYOUT = DatasetLayout(
    "hippocampus",
    find_hippocampus,
    {1: "anterior hippocampus", 2: "posterior hippocampus"},
    "mr",
    0,
    dims=3,
    modalities=("MR",),
)
