"""Label values and names from file to file: what is 260 in a mask is 260 in its prediction, and in no other's file."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support import twins
from support.oracle_networks import Told

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.kinds import prepared
from lomix_search.data.kinds.class_table import ClassTable, class_table
from lomix_search.data.prepare import prepare, prepare_layout
from lomix_search.data.readers.nifti import read_nifti_pair, write_nifti
from lomix_search.errors import DataError
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions, Prediction, predict_case
from lomix_search.evaluation.prediction_files import file_name, save_overlay, save_prediction
from lomix_search.evaluation.score_case import score_case

AFFINE = np.array([[-0.8, 0, 0, 11.0], [0, 0.9, 0, -7.0], [0, 0, 4.0, 3.0], [0, 0, 0, 1]])


# -- class numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 256, 257, 300])
def test_a_perfect_prediction_of_any_class_scores_one(classes: int) -> None:
    label = np.zeros((2, 16, 16), np.int32)
    label[:, 4:9, 3:8] = classes - 1
    case = Case("a", (label / classes)[:, None].astype(np.float32), label)
    found = predict_case(Told(classes), case, InferenceOptions())
    np.testing.assert_array_equal(found.label, label)
    rows = score_case(case, found, ["background", *map(str, range(1, classes))], "strict")
    assert rows[-1].scores["dice"] == 1 and rows[-1].scores["hd95"] == 0


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_labels_of_any_type_find_their_class(kind: type[np.integer[Any]]) -> None:
    values = [v for v in (41, 50, 100, 260, 40_000, 70_000, 4_000_000_000) if v <= np.iinfo(kind).max]
    table = ClassTable(tuple(values[::-1]))
    label = np.array([0, *values, 1, np.iinfo(kind).max - 1], kind).reshape(1, -1)
    np.testing.assert_array_equal(table[label], [[0, *range(len(values), 0, -1), 0, 0]])
    assert [int(table[value]) for value in values] == list(range(len(values), 0, -1))


def test_more_classes_than_a_byte_counts() -> None:
    table = ClassTable(tuple(range(1, 301)))
    assert table[np.arange(301)].tolist() == list(range(301)) and table[np.uint8(3)].dtype == np.uint16


# -- volumes from end to end -------------------------------------------------------------------------------------------


def volumes(raw: Path, values: tuple[int, ...], kind: Any, unit: str = "mm", frames: bool = False) -> DatasetLayout:
    """Three volumes with brightness k / C where the label is the k-th value of C, by a layout of its own."""
    factor = {"mm": 1.0, "meter": 1e-3, "micron": 1e3}[unit]
    affine = AFFINE @ np.diag([factor, factor, factor, 1]) if unit != "mm" else AFFINE
    sources = []
    for i in range(3):
        number = twins.organs(np.random.default_rng(i), (24, 20, 5), len(values))
        image, label = (number / (1 + len(values))).astype(np.float32), np.array((0, *values), kind)[number]
        files = (raw / f"i{i}.nii.gz", raw / f"l{i}.nii.gz")
        for path, array in zip(files, (image, label), strict=True):
            save(path, array[..., None] if frames else array, affine, unit)
        sources.append(Source(f"p{i}", f"p{i}", "", files, lambda i=i, f=files: read_nifti_pair(f"p{i}", *f)))
    names = {value: f"organ {value}" for value in values}
    return DatasetLayout("own", lambda _: sources, names, "mr", 32)


def save(path: Path, array: np.ndarray, affine: np.ndarray, unit: str, codes: tuple[int, int] = (1, 3)) -> None:
    """A header as scanners write it: qform and sform of other codes, and of places a little apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = nib.Nifti1Image(array, affine, dtype=array.dtype)
    moved = affine.copy()
    moved[:3, 3] += 0.25 * np.abs(affine[0, 0])
    file.set_sform(affine if codes[1] else None, codes[1])
    file.set_qform(moved if codes[0] else None, codes[0])
    file.header.set_xyzt_units(unit, "sec")
    nib.save(file, path)


def written(layout: DatasetLayout, folder: Path) -> list[Path]:
    prepare_layout(layout, folder / "raw", folder / "out", workers=1, progress=False)
    names = tuple(layout.labels.values())
    splits = prepared.load_prepared(
        prepared.PreparedSettings(root=str(folder / "out"), classes=names, test_fraction=0.4, augment="none")
    )
    network = Told(1 + len(names))
    found = evaluate(network, splits.volumes["test"], splits.classes, save=folder / "eva", progress=False)
    assert min(found.per_class("dice").values()) == 1
    return sorted((folder / "eva" / "predictions").iterdir())


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_predictions_of_volumes_hold_the_users_values(kind: Any, tmp_path: Path) -> None:
    values = (41, 50, 200) if kind == np.uint8 else (41, 50, 260, 1000)
    for path in written(volumes(tmp_path / "raw", values, kind), tmp_path):
        mine, truth = nib.load(path), nib.load(tmp_path / "raw" / f"l{path.name[1]}.nii.gz")
        np.testing.assert_array_equal(np.asarray(mine.dataobj), np.asarray(truth.dataobj))
        assert set(np.unique(np.asarray(mine.dataobj))) == {0, *values}


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("unit", ["mm", "meter", "micron"])
def test_predictions_lie_where_their_image_lies(unit: str, frames: bool, tmp_path: Path) -> None:
    """Read by code and by unit, as other programs do: sform, qform, what each means, millimetres, and the shape."""
    for path in written(volumes(tmp_path / "raw", (1, 2), np.uint8, unit, frames), tmp_path):
        mine, image = nib.load(path), nib.load(tmp_path / "raw" / f"i{path.name[1]}.nii.gz")
        assert mine.shape == image.shape
        assert mine.header.get_xyzt_units() == image.header.get_xyzt_units()
        for form in ("get_sform", "get_qform"):
            (one, code), (other, wanted) = getattr(mine, form)(coded=True), getattr(image, form)(coded=True)
            assert code == wanted
            np.testing.assert_allclose(one, other, rtol=1e-5)
        np.testing.assert_allclose(mine.affine, image.affine, rtol=1e-6)
        np.testing.assert_allclose(mine.header.get_zooms()[:3], image.header.get_zooms()[:3], rtol=1e-6)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (2, 1), (4, 4)])
def test_codes_of_every_kind(codes: tuple[int, int], tmp_path: Path) -> None:
    label = np.random.default_rng(0).integers(0, 4, (6, 5, 4)).astype(np.uint8)
    for name in ("i", "l"):
        save(tmp_path / f"{name}.nii", label, AFFINE, "mm", codes)
    case = read_nifti_pair("a", tmp_path / "i.nii", tmp_path / "l.nii")
    write_nifti(tmp_path / "p.nii", case.label, case.origin, case.spacing)
    mine, truth = nib.load(tmp_path / "p.nii"), nib.load(tmp_path / "l.nii")
    assert (int(mine.header["qform_code"]), int(mine.header["sform_code"])) == codes
    np.testing.assert_allclose(mine.affine, truth.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(mine.dataobj), label)


@pytest.mark.parametrize("unit", ["mm", "meter", "micron"])
def test_the_unit_of_folders_of_earlier_versions(unit: str, tmp_path: Path) -> None:
    """They say neither unit nor codes; the spacing in millimetres tells the unit."""
    factor = {"mm": 1.0, "meter": 1e-3, "micron": 1e3}[unit]
    affine = np.diag([0.8 * factor, 0.8 * factor, 3 * factor, 1])
    write_nifti(tmp_path / "p.nii.gz", np.ones((3, 4, 5), np.uint8), {"affine": affine.tolist()}, (3.0, 0.8, 0.8))
    assert nib.load(tmp_path / "p.nii.gz").header.get_xyzt_units()[0] == unit


# -- pictures ----------------------------------------------------------------------------------------------------------


def polyps(raw: Path, foreground: int) -> Path:
    for i in range(6):
        mask = twins.organs(np.random.default_rng(i), (30, 40), 1)
        image = np.repeat(mask[..., None] * 128, 3, 2)
        folder = raw / "TrainDataset"
        for name, pixels in (("images", image), ("masks", mask * foreground)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return raw


@pytest.mark.parametrize("foreground", [1, 255])
def test_a_binary_picture_is_written_as_its_mask(foreground: int, tmp_path: Path) -> None:
    prepare("polyp", polyps(tmp_path / "raw", foreground), tmp_path / "out", size=32, workers=1, progress=False)
    splits = prepared.load_prepared(
        prepared.PreparedSettings(root=str(tmp_path / "out"), classes=("polyp",), test_fraction=0.4, augment="none")
    )
    evaluate(Told(2), splits.volumes["test"], splits.classes, save=tmp_path / "eva", progress=False)
    files = sorted((tmp_path / "eva" / "predictions" / "train").iterdir())
    assert files
    for path in files:
        truth = np.asarray(Image.open(tmp_path / "raw" / "TrainDataset" / "masks" / path.name))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), truth)


@pytest.mark.parametrize(
    ("values", "ending", "kind"),
    [((0, 41, 50), "png", np.uint8), ((0, 1, 260), "png", np.uint16), ((0, 7, 70_000), "tif", np.int32)],
)
def test_classes_of_pictures_are_written_as_they_were(
    values: tuple[int, ...], ending: str, kind: Any, tmp_path: Path
) -> None:
    """Also where a single class came out: its file is of the same kind as all others, and no 255 is made of a 1."""
    for name, label in {"both": [[0, 1, 2]], "one": [[0, 1, 1]], "none": [[0, 0, 0]]}.items():
        plane = np.array([label], np.uint8)
        case = Case(name, np.zeros((1, 3, 1, 3), np.float32), plane, (), {"size": [1, 3]}, values=values)
        path = save_prediction(tmp_path, case, Prediction(plane), 3)
        assert path == tmp_path / f"{name}.{ending}"
        found = np.asarray(Image.open(path))
        assert found.dtype == kind and found.tolist() == [[values[k] for k in label[0]]]


def test_classes_of_pictures_without_own_values(tmp_path: Path) -> None:
    plane = np.array([[[0, 1, 1]]], np.uint8)
    case = Case("a", np.zeros((1, 3, 1, 3), np.float32), plane, (), {"size": [1, 3]})
    for classes, written in ((2, 255), (3, 1)):
        path = save_prediction(tmp_path, case, Prediction(plane), classes)
        assert np.asarray(Image.open(path)).tolist() == [[0, written, written]]


def test_an_overlay_of_many_classes(tmp_path: Path) -> None:
    label = np.zeros((1, 4, 6), np.uint16)
    label[0, 1:3, 1:4] = 260
    case = Case("a", np.zeros((1, 1, 4, 6), np.float32), label)
    save_overlay(tmp_path / "a.png", case, label)
    painted = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(painted[:, 6:12], painted[:, 12:])
    assert (painted[:, 6:12].any(-1) == (label[0] > 0)).all()


def test_classes_that_are_not_there(tmp_path: Path) -> None:
    case = Case("a", np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(DataError) as error:
        score_case(case, Prediction(np.full((1, 4, 4), 3, np.uint8)), ("background", "a"), "strict")
    assert str(error.value).startswith("a: class 3 is predicted; there are 2 classes, 0 … 1.")


def test_a_name_means_one_class(tmp_path: Path) -> None:
    layout = volumes(tmp_path / "raw", (3, 7), np.uint8)
    manifest = prepare_layout(layout, tmp_path / "raw", tmp_path / "out", workers=1, progress=False)
    with pytest.raises(DataError, match=r"data.classes names 'organ 3' twice"):
        class_table(manifest, ["organ 3", "organ 3"])
    same = manifest.model_copy(update={"labels": {3: "a", 7: "a"}})
    with pytest.raises(DataError, match=r"the prepared data names 'a' twice"):
        class_table(same, ["a"])


# -- names -------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "", ".", "..", "...", "/", "//", "a/../../b", "../../out", "/absolute", "a//b", "a/./b", "a/", "nul\0byte", "NUL",
    "con.txt", "COM1", "a\\..\\b", "C:a", "a\nb", "a ", "a.", "a", "a%2E", "%2E", "a.png/b", "x" * 300, "x" * 299 + "y",
    "ü" * 150, "ü" * 149 + "ä", "Kvasir/1", "p1_ED", "benign (1)", "\ud800",
]  # fmt: skip


def test_no_name_leaves_its_folder_or_takes_the_place_of_another(tmp_path: Path) -> None:
    home, names = tmp_path / "deep" / "in", dict.fromkeys(HOSTILE)
    plane = np.zeros((1, 2, 2), np.uint8)
    names |= {str(tmp_path / "out"): None}
    for name in names:
        for origin in ({}, {"size": [2, 2]}):
            case = Case(name, np.zeros((1, 3, 2, 2), np.float32), plane, (1.0, 1.0, 1.0), origin)
            path = save_prediction(home, case, Prediction(plane))
            assert path.resolve().is_relative_to(home.resolve()), name
            save_overlay(home / "overlays" / f"{file_name(name)}.png", case, plane)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 * len(names) and all(path.is_relative_to(home) for path in files)
    kept = ["a", "Kvasir/1", "p1_ED", "benign (1)"]
    assert [file_name(name) for name in kept] == kept


def test_two_cases_of_one_name_are_refused() -> None:
    case = Case("a", np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(DataError, match="two cases are named 'a'"):
        evaluate(Told(2), [case, case], ("background", "a"), progress=False)
