"""Enhanced DICOM: a file of many frames is the volume that its slices as single files are."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from support.dicom_files import enhanced, series

from lomix_search.data.readers.image import find_images, read_image
from lomix_search.errors import DataError

VALUES = np.random.default_rng(0).integers(0, 900, (4, 5, 6)).astype(np.int16)
GRID = {"step": 2.5, "pixel": (0.5, 0.75), "turned": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}


def test_an_enhanced_file_is_the_volume_of_its_slices(tmp_path: Path) -> None:
    series(tmp_path / "single", VALUES, **GRID)  # type: ignore[arg-type]
    enhanced(tmp_path / "many/scan.dcm", VALUES, **GRID)  # type: ignore[arg-type]
    one, other = (read_image(next(iter(find_images(tmp_path / name).values()))) for name in ("single", "many"))
    np.testing.assert_array_equal(one.image, other.image)
    assert one.spacing == other.spacing and one.origin == other.origin and one.depth == "volumes"
    np.testing.assert_allclose(np.sort(one.spacing), (0.5, 0.75, 2.5))


def test_each_frame_has_its_own_slope(tmp_path: Path) -> None:
    slopes = ((1.0, 0.0), (2.0, -10.0), (0.5, 3.0), (4.0, 1.0))
    path = enhanced(tmp_path / "scan.dcm", VALUES, step=3, slopes=slopes)
    wanted = np.stack([v * a + b for v, (a, b) in zip(VALUES, slopes, strict=True)])
    found = read_image(path).image[:, 0]
    assert found.shape == wanted.shape and found.min() == wanted.min()
    np.testing.assert_allclose(found, wanted)  # the first slice is the lowest; rows and columns are axial already


def one_place(d: Dataset) -> None:
    d.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]


def no_places(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence


def no_groups(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence


def too_few(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence[3]


def tilted(d: Dataset) -> None:
    d.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [Dataset()]
    d.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def ct_without_slope(d: Dataset) -> None:
    d.Modality = "CT"
    for frame in d.PerFrameFunctionalGroupsSequence:
        del frame.PixelValueTransformationSequence


FAULTS: dict[Callable[[Dataset], None], str] = {
    one_place: "scan.dcm, frame .*frames of several times, echoes or stacks are several volumes",
    no_places: "its frames have no ImagePositionPatient",
    no_groups: "holds 4 frames and does not say where each lies",
    too_few: "says 4 frames, and describes 3",
    tilted: "scan.dcm, frame 3 has another size",
    ct_without_slope: "has no RescaleSlope",
}


@pytest.mark.parametrize("change", FAULTS)
def test_frames_that_make_no_volume_are_refused(change: Callable[[Dataset], None], tmp_path: Path) -> None:
    path = enhanced(tmp_path / "scan.dcm", VALUES)
    d = pydicom.dcmread(path)
    change(d)
    d.save_as(path)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert re.search(f"(?s){FAULTS[change]}", str(caught.value)), str(caught.value)
