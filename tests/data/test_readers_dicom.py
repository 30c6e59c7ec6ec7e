"""CT series with contours: what a contour means, and what is refused by name. Right values are counted by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as MplPath
from numpy.typing import NDArray

from lomix_search.data.readers.contours import fill_plane
from lomix_search.data.readers.dicom import read_dicom_case
from lomix_search.errors import DataError

CORNER, PIXEL, STEP = np.array([-20.0, -10.0, 100.0]), (0.8, 0.9), 3.0  # mm; pixel: rows, columns
Contour = tuple[NDArray[np.float64], float]


def ct_slice(path: Path, number: float, change: Callable[[pydicom.Dataset], None] | None = None) -> Path:
    """One slice of 40 × 44 pixels whose stored value is 1000 + its row; HU = row − 24."""
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = f"1.2.3.{len(path.stem)}.{int(number * 10)}"
    d.SOPClassUID, d.Modality, d.SeriesInstanceUID, d.FrameOfReferenceUID = (
        pydicom.uid.CTImageStorage,
        "CT",
        "1.2.1",
        "1.2.9",
    )
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = 40, 44, 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.PixelSpacing, d.ImageOrientationPatient = list(PIXEL), [1, 0, 0, 0, 1, 0]
    d.ImagePositionPatient, d.SliceThickness = [*CORNER[:2].tolist(), CORNER[2] + STEP * number], STEP
    d.RescaleSlope, d.RescaleIntercept = 1, -1024
    d.PixelData = np.repeat(1000 + np.arange(40, dtype=np.uint16)[:, None], 44, 1).tobytes()
    if change:
        change(d)
    path.parent.mkdir(parents=True, exist_ok=True)
    d.save_as(path, enforce_file_format=True)
    return path


def structures(
    path: Path,
    contours: Sequence[Contour],
    kind: str = "CLOSED_PLANAR",
    frame: str = "1.2.9",
    names: Sequence[str] = ("GTV-1",),
) -> Path:
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    d.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
    d.Modality, d.StructureSetROISequence, d.ROIContourSequence = "RTSTRUCT", [], []
    for number, name in enumerate(names, 1):
        roi, region = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName, region.ReferencedROINumber = number, name, number
        roi.ReferencedFrameOfReferenceUID = frame
        region.ContourSequence = []
        for corners, height in contours:
            c = pydicom.Dataset()
            c.ContourGeometricType, c.NumberOfContourPoints = kind, len(corners)
            c.ContourData = [f"{float(v):.6g}" for x, y in corners for v in (x, y, height)]
            region.ContourSequence.append(c)
        d.StructureSetROISequence.append(roi)
        d.ROIContourSequence.append(region)
    d.save_as(path, enforce_file_format=True)
    return path


def box(rows: tuple[int, int], columns: tuple[int, int], number: float) -> Contour:
    """The rectangle around the pixels rows[0] … rows[1] − 1, columns[0] … columns[1] − 1."""
    (top, bottom), (left, right) = rows, columns
    pixels = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) - 0.5
    return CORNER[:2] + pixels * [PIXEL[1], PIXEL[0]], CORNER[2] + STEP * number


def series(folder: Path, contours: Sequence[Contour], count: int = 4, **options: Any) -> list[Path]:
    files = [ct_slice(folder / f"{9 - n}.dcm", n) for n in range(count)]
    return [*files, structures(folder / "rs.dcm", contours, **options)]


def label_of(folder: Path, contours: Sequence[Contour], **options: Any) -> NDArray[Any]:
    return read_dicom_case("p", series(folder, contours, **options), "GTV-1").label


def mask(*boxes: tuple[int, tuple[int, int], tuple[int, int], int]) -> NDArray[np.uint8]:
    """Boxes (slice, rows, columns, value), later ones over earlier ones."""
    found = np.zeros((4, 40, 44), np.uint8)
    for z, rows, columns, value in boxes:
        found[z, slice(*rows), slice(*columns)] = value
    return found


ONE = box((8, 25), (10, 28), 1)  # 17 × 18 = 306 pixels
JITTER = (ONE[0] + np.array([[0.02, 0.02], [-0.02, 0.02], [-0.02, -0.02], [0.02, -0.02]]), ONE[1])  # 0.02 mm inside
INNER = box((12, 16), (14, 18), 1)
ISLAND = box((13, 15), (15, 17), 1)
CASES: dict[str, tuple[list[Contour], list[tuple[int, tuple[int, int], tuple[int, int], int]]]] = {
    "once": ([ONE], [(1, (8, 25), (10, 28), 1)]),
    "repeated": ([ONE, ONE], [(1, (8, 25), (10, 28), 1)]),
    "repeated from another corner, the other way": (
        [ONE, (np.roll(ONE[0], 2, 0)[::-1], ONE[1])],
        [(1, (8, 25), (10, 28), 1)],
    ),
    "repeated after rounding": ([ONE, JITTER], [(1, (8, 25), (10, 28), 1)]),
    "overlapping": (
        [box((8, 25), (10, 20), 1), box((8, 25), (18, 28), 1)],
        [(1, (8, 25), (10, 28), 1)],
    ),
    "side by side": (
        [box((8, 25), (10, 20), 1), box((8, 25), (20, 28), 1)],
        [(1, (8, 25), (10, 28), 1)],
    ),
    "between slices": ([box((8, 25), (10, 28), 0.8), box((8, 25), (10, 28), 1.2)], [(1, (8, 25), (10, 28), 1)]),
    "smaller one between slices": ([ONE, box((12, 16), (14, 18), 1.3)], [(1, (8, 25), (10, 28), 1)]),
    "a hole": ([ONE, INNER], [(1, (8, 25), (10, 28), 1), (1, (12, 16), (14, 18), 0)]),
    "the hole first": ([INNER, ONE], [(1, (8, 25), (10, 28), 1), (1, (12, 16), (14, 18), 0)]),
    "a hole drawn twice": ([ONE, INNER, INNER], [(1, (8, 25), (10, 28), 1), (1, (12, 16), (14, 18), 0)]),
    "a hole at the edge": (
        [ONE, box((8, 12), (14, 18), 1)],
        [(1, (8, 25), (10, 28), 1), (1, (8, 12), (14, 18), 0)],
    ),
    "an island in the hole": (
        [ONE, INNER, ISLAND],
        [(1, (8, 25), (10, 28), 1), (1, (12, 16), (14, 18), 0), (1, (13, 15), (15, 17), 1)],
    ),
    "a hole in what two overlapping ones make": (
        [box((8, 25), (10, 22), 1), box((8, 25), (12, 28), 1), INNER],
        [(1, (8, 25), (10, 28), 1), (1, (12, 16), (14, 18), 0)],
    ),
    "a hole half covered by another": (
        [ONE, INNER, box((4, 14), (14, 18), 1)],
        [(1, (8, 25), (10, 28), 1), (1, (12, 16), (14, 18), 0), (1, (4, 14), (14, 18), 1)],
    ),
    "two slices": ([ONE, box((3, 5), (3, 9), 3)], [(1, (8, 25), (10, 28), 1), (3, (3, 5), (3, 9), 1)]),
}


@pytest.mark.parametrize("name", CASES)
def test_contours_mean_what_was_drawn(name: str, tmp_path: Path) -> None:
    contours, boxes = CASES[name]
    np.testing.assert_array_equal(label_of(tmp_path, contours), mask(*boxes))


def test_a_keyhole_is_a_hole(tmp_path: Path) -> None:
    """One contour that goes in along a line, round the hole and out along the same line."""
    outer, inner = ONE[0], INNER[0][[0, 3, 2, 1]]
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    expected = mask((1, (8, 25), (10, 28), 1), (1, (12, 16), (14, 18), 0))
    np.testing.assert_array_equal(label_of(tmp_path, [(keyhole, ONE[1])]), expected)


def test_xor_contours_say_so(tmp_path: Path) -> None:
    """CLOSEDPLANAR_XOR means the even-odd rule, whatever lies inside what."""
    two = [box((8, 25), (10, 20), 1), box((8, 25), (18, 28), 1)]
    expected = mask((1, (8, 25), (10, 28), 1), (1, (8, 25), (18, 20), 0))
    np.testing.assert_array_equal(label_of(tmp_path, two, kind="CLOSEDPLANAR_XOR"), expected)


def test_discs_and_rings_of_any_place(tmp_path: Path) -> None:
    """Circles as polygons of many corners, against their equation at each pixel's centre."""
    rng, angles = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 720, endpoint=False)
    rows, columns = np.mgrid[:40, :44] * np.array(PIXEL)[:, None, None] + CORNER[1::-1, None, None]
    for trial in range(2):
        x, y = rng.uniform([-8, 0], [6, 12])
        outer, inner = rng.uniform(6, 8), rng.uniform(2, 4)
        circles = [(np.stack([x + r * np.cos(angles), y + r * np.sin(angles)], 1), CORNER[2]) for r in (outer, inner)]
        radius = np.hypot(columns - x, rows - y)
        label = label_of(tmp_path / str(trial), circles)
        np.testing.assert_array_equal(label[0], (radius < outer) & (radius > inner))


def test_any_lines_against_matplotlib() -> None:
    """What lies in at least one of some stars that cross each other; matplotlib tells for each star."""
    rng, rows, columns = np.random.default_rng(1), *np.mgrid[:60, :70]
    points = np.stack([columns.ravel(), rows.ravel()], 1)
    for _ in range(20):
        stars = []
        for _ in range(rng.integers(1, 5)):
            angles, radii = np.sort(rng.uniform(0, 2 * np.pi, 40)), rng.uniform(4, 25, 40)
            centre = rng.uniform([15, 15], [55, 45])
            stars.append(centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1))
        expected = np.any([MplPath(star).contains_points(points).reshape(60, 70) for star in stars], 0)
        np.testing.assert_array_equal(fill_plane([*stars, stars[0]], (60, 70)), expected)


# -- what a file says --------------------------------------------------------------------------------------------------


def rewritten(**changes: Any) -> Callable[[pydicom.Dataset], None]:
    def change(d: pydicom.Dataset) -> None:
        for key, value in changes.items():
            if value is None:
                delattr(d, key)
            else:
                setattr(d, key, value)

    return change


def test_hounsfield_units_of_every_way_to_store_them(tmp_path: Path) -> None:
    expected = np.repeat(np.arange(40.0)[:, None] - 24, 44, 1)
    signed = (np.arange(40)[:, None] - 24 + np.zeros((1, 44))).astype(np.int16)
    for name, change in {
        "plain": rewritten(),
        "inverted display": rewritten(PhotometricInterpretation="MONOCHROME1"),
        "signed": rewritten(PixelRepresentation=1, RescaleIntercept=0, PixelData=signed.tobytes()),
        "slope": rewritten(
            RescaleSlope="0.5", RescaleIntercept="-500", PixelData=(2 * (signed + 500)).astype(np.uint16).tobytes()
        ),
    }.items():
        files = series(tmp_path / name, [ONE])
        ct_slice(files[1], 1, change)
        image = read_dicom_case("p", files, "GTV-1").image
        np.testing.assert_array_equal(image[1, 0], expected, err_msg=name)


def test_slices_are_sorted_by_where_they_lie(tmp_path: Path) -> None:
    files = series(tmp_path, [ONE])
    case = read_dicom_case("p", [*files[::2], *files[1::2]], "GTV-1")
    assert case.label.sum((1, 2)).tolist() == [0, 306, 0, 0] and case.spacing == pytest.approx((3, 0.8, 0.9))


def fails(files: Sequence[Path]) -> str:
    with pytest.raises(DataError) as error:
        read_dicom_case("p", files, "GTV-1")
    return str(error.value)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no slope": ({"RescaleSlope": None}, "has no RescaleSlope"),
    "no intercept": ({"RescaleIntercept": None}, "has no RescaleIntercept"),
    "no pixel spacing": ({"PixelSpacing": None}, "has no PixelSpacing"),
    "empty pixel spacing": ({"PixelSpacing": ""}, "has no PixelSpacing"),
    "zero pixel spacing": ({"PixelSpacing": [0, 0.9]}, "PixelSpacing"),
    "no position": ({"ImagePositionPatient": None}, "has no ImagePositionPatient"),
    "no orientation": ({"ImageOrientationPatient": None}, "has no ImageOrientationPatient"),
    "no pixels": ({"PixelData": None}, "cannot be read"),
    "cut pixels": ({"PixelData": b"\0" * 100}, "cannot be read"),
    "many frames": ({"NumberOfFrames": 2, "PixelData": b"\0" * 7040}, "2 frames"),
    "colours": (
        {
            "SamplesPerPixel": 3,
            "PhotometricInterpretation": "RGB",
            "PlanarConfiguration": 0,
            "PixelData": b"\0" * 10560,
        },
        "3 values a pixel",
    ),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
    "localizer": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        "localizer",
    ),
    "tilted": ({"ImageOrientationPatient": [1, 0, 0, 0, 0.9848, 0.1736]}, "not axial"),
    "another series": ({"SeriesInstanceUID": "1.2.2"}, "2 series"),
    "another size": ({"Rows": 20, "PixelData": b"\0" * 1760}, "do not form one grid"),
    "moved in plane": ({"ImagePositionPatient": [-15.0, -10.0, 103.0]}, "do not form one grid"),
    "at the height of another": ({"ImagePositionPatient": [-20.0, -10.0, 106.0]}, "lie at one height"),
    "a gap": ({"ImagePositionPatient": [-20.0, -10.0, 104.0]}, "do not form one grid"),
    "another frame of reference": ({"FrameOfReferenceUID": "1.2.8"}, "frame of reference"),
    "NaN": ({"RescaleSlope": "nan"}, "RescaleSlope"),
}


@pytest.mark.filterwarnings(
    "ignore:Value .* is not valid for elements with a VR of DS", "ignore:Invalid value for VR DS"
)
@pytest.mark.parametrize("name", REFUSED)
def test_a_slice_that_is_not_what_it_should_be_is_named(name: str, tmp_path: Path) -> None:
    files = series(tmp_path, [ONE])
    changes, expected = REFUSED[name]
    ct_slice(files[1], 1, rewritten(**changes))
    text = fails(files)
    assert expected in text and files[1].name in text, text


def test_a_second_copy_of_a_slice_is_named(tmp_path: Path) -> None:
    files = series(tmp_path, [ONE])
    again = ct_slice(tmp_path / "copy.dcm", 1)
    text = fails([*files, again])
    assert "lie at one height" in text and files[1].name in text and "copy.dcm" in text


def test_a_compressed_slice_without_a_decoder_is_named(tmp_path: Path) -> None:
    files = series(tmp_path, [ONE])

    def compressed(d: pydicom.Dataset) -> None:
        d.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        d.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + b"\0" * 60])
        d["PixelData"].VR = "OB"

    ct_slice(files[1], 1, compressed)
    text = fails(files)
    assert files[1].name in text and "JPEG 2000" in text


def test_the_series_that_the_contours_name_is_read(tmp_path: Path) -> None:
    """A localizer or a second series is no part of the case where the contours say which series they were drawn on."""
    files = series(tmp_path, [ONE])
    scout = ct_slice(
        tmp_path / "scout.dcm",
        7,
        rewritten(
            SeriesInstanceUID="1.2.7",
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            ImagePositionPatient=[0, -200, 500],
        ),
    )
    d = pydicom.dcmread(files[-1])
    named, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    named.SeriesInstanceUID, study.RTReferencedSeriesSequence = "1.2.1", [named]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = "1.2.9", [study]
    d.ReferencedFrameOfReferenceSequence = [frame]
    d.save_as(files[-1], enforce_file_format=True)
    assert read_dicom_case("p", [*files, scout], "GTV-1").label.sum() == 306
    named.SeriesInstanceUID = "1.2.77"
    d.save_as(files[-1], enforce_file_format=True)
    assert "1.2.77" in fails([*files, scout])


STRUCTURES: dict[str, tuple[list[Contour], dict[str, Any], str]] = {
    "another frame of reference": ([ONE], {"frame": "1.2.8"}, "frame of reference"),
    "a region named twice": ([ONE], {"names": ("GTV-1", "GTV-1")}, "2 regions 'GTV-1'"),
    "no such region": ([ONE], {"names": ("GTV-2", "heart")}, "no region 'GTV-1'"),
    "nothing drawn": ([], {}, "nothing is drawn"),
    "points": ([(ONE[0][:1], ONE[1])], {"kind": "POINT"}, "POINT"),
    "open lines": ([ONE], {"kind": "OPEN_PLANAR"}, "OPEN_PLANAR"),
    "above the slices": ([box((8, 25), (10, 28), 3.6)], {}, "outside the slices"),
    "beside the slices": ([box((8, 25), (30, 60), 1)], {}, "outside the image"),
    "far away": ([(ONE[0] + 500, ONE[1])], {}, "outside the image"),
    "not finite": ([(ONE[0] * np.nan, ONE[1])], {}, "cannot be read"),
    "between all centres": (
        [(CORNER[:2] + np.array([[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]), 103.0)],
        {},
        "covers no pixel",
    ),
}


@pytest.mark.filterwarnings(
    "ignore:Value .* is not valid for elements with a VR of DS", "ignore:Invalid value for VR DS"
)
@pytest.mark.parametrize("name", STRUCTURES)
def test_contours_that_cannot_be_meant_are_refused(name: str, tmp_path: Path) -> None:
    contours, options, expected = STRUCTURES[name]
    text = fails(series(tmp_path, contours, **options))
    assert expected in text and "rs.dcm" in text, text


def test_one_slice_alone(tmp_path: Path) -> None:
    files = series(tmp_path, [box((8, 25), (10, 28), 0)], count=1)
    assert read_dicom_case("p", files, "GTV-1").label.sum() == 306
    ct_slice(files[0], 0, rewritten(SliceThickness=None))
    assert "has no SliceThickness" in fails(files)


def test_not_planar(tmp_path: Path) -> None:
    files = series(tmp_path, [ONE])
    d = pydicom.dcmread(files[-1])
    data = d.ROIContourSequence[0].ContourSequence[0].ContourData
    data[2] = float(data[2]) + 3
    d.save_as(files[-1], enforce_file_format=True)
    assert "not in one plane" in fails(files)


LACKING = [
    "ROINumber",
    "ROIName",
    "ReferencedROINumber",
    "ContourData",
    "StructureSetROISequence",
    "ROIContourSequence",
]


@pytest.mark.parametrize("key", LACKING)
def test_structures_that_lack_something_are_named(key: str, tmp_path: Path) -> None:
    files = series(tmp_path, [ONE])
    d = pydicom.dcmread(files[-1])
    parts = [d, d.StructureSetROISequence[0], d.ROIContourSequence[0], d.ROIContourSequence[0].ContourSequence[0]]
    for part in [part for part in parts if key in part]:
        delattr(part, key)
    d.save_as(files[-1], enforce_file_format=True)
    assert str(files[-1]) in fails(files).splitlines()[0]


def test_two_structures_are_named(tmp_path: Path) -> None:
    files = series(tmp_path, [ONE])
    again = structures(tmp_path / "again.dcm", [ONE])
    text = fails([*files, again])
    assert "4 CT slices and 2 RTSTRUCT files" in text and str(files[-1]) in text and str(again) in text
