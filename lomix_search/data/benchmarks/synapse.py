"""Synapse (BTCV): abdominal CT with thirteen organs, as NIfTI or preprocessed."""

import re
from functools import partial
from pathlib import Path

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.matching import (
    check_pairs,
    files_by,
    nifti_files,
    sorted_sources,
)
from lomix_search.data.benchmarks.npz_slices import slice_sources
from lomix_search.data.case import Case
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.data.readers.npz_h5 import read_h5

_BTCV = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "portal and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland",
)  # fmt: skip
# Eight organs in BTCV's order. Others in use begin with the aorta, or have the pancreas before the stomach.
_SHORT = tuple(name for name in _BTCV if name not in (_BTCV[4], _BTCV[8], _BTCV[9], _BTCV[11], _BTCV[12]))


def find_synapse(raw: Path) -> list[Source]:
    """Find ``img/img00NN.nii.gz`` with ``label/label00NN.nii.gz``, or ``train_npz/`` with ``test_vol_h5/``.

    Args:
        raw: The folder, or one that holds it.

    Returns:
        One source a CT.

    Raises:
        DataError: neither form, or images and labels that do not pair up.
    """
    slices, volumes = sorted(raw.rglob("case*_slice*.npz")), sorted(raw.rglob("case*.h5"))
    if slices or volumes:
        return sorted_sources([*slice_sources(slices, "image", _case_name), *(_h5_source(path) for path in volumes)])
    seen = [p for p in nifti_files(raw, r"img\d+") if "testing" not in map(str.lower, p.relative_to(raw).parts)]
    images, labels = files_by(_number, seen), files_by(_number, nifti_files(raw, r"label\d+"))
    check_pairs(raw, images, labels, "img/img0001.nii.gz with label/label0001.nii.gz, or train_npz/ with test_vol_h5/")
    return sorted_sources(
        Source(name, name, "", (image, labels[n]), partial(read_nifti_pair, name, image, labels[n]))
        for n, image in images.items()
        for name in [f"case{n:04d}"]
    )


def _h5_source(path: Path) -> Source:
    name = path.name.partition(".")[0]

    def read() -> Case:
        image, label = read_h5(path)
        return Case(name, image[:, None], label)

    return Source(name, name, "test", (path,), read)


def _number(path: Path) -> int:
    return int(re.findall(r"\d+", path.name)[0])


def _case_name(path: Path) -> str:
    return path.name.partition("_")[0]


SYNAPSE_LAYOUT = DatasetLayout("synapse", find_synapse, dict(enumerate(_BTCV, 1)), "ct", 224, short_form=_SHORT)
