"""``lomix new`` on whole folders: what it takes from their files, what it decides, and what it writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import own_folders as own
from support.mask_files import blocks, data, photo, save8

from lomix_search.data.manifest import read_manifest
from lomix_search.errors import DataError
from lomix_search.recipe.choices import colors_of
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.recipe import load_recipe

CT = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}}
REGIONS = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
}


def prepared(tmp_path: Path, data: Path, **options: Any) -> tuple[dict[str, str], Any]:
    """Return what was decided, and the manifest of what was written."""
    plan = own.plan(tmp_path, data, **options)
    plan.write(progress=False)
    return own.decided(plan), read_manifest(tmp_path / "recipe" / "data")


def labels_of(tmp_path: Path, case: str) -> Any:
    return np.load(tmp_path / "recipe" / "data" / "cases" / case / "label.npy")


def test_nnunet_with_an_ignored_label(tmp_path: Path) -> None:
    data = own.nnunet(tmp_path / "d", CT, values=(1, 2, 3), ct=True)
    found, manifest = prepared(tmp_path, data)
    assert found["form"] == "nnU-Net raw" and found["classes"] == "1 liver, 2 tumour" and found["ignored label"] == "3"
    assert found["modality"] == "ct" and found["channels"] == "1 (CT)" and found["2D or 3D"] == "3D"
    assert (manifest.dims, manifest.ignore, manifest.modalities) == (3, 3, ("CT",))
    assert manifest.labels == {1: "liver", 2: "tumour"} and len(manifest.cases) == 6
    np.testing.assert_array_equal(labels_of(tmp_path, "p0"), own.volumes(1, (1, 2, 3))[0][1].transpose(2, 1, 0))
    text = (tmp_path / "recipe" / "recipe.toml").read_text()
    assert "ignore = 3" in text and "1 images in imagesTs are left to lomix predict RUN" in text


@pytest.mark.slow
def test_nnunet_with_regions_and_channels(tmp_path: Path) -> None:
    data = own.nnunet(tmp_path / "d", REGIONS, values=(1, 2, 3), channels=2)
    found, manifest = prepared(tmp_path, data, dims=2)
    assert found["regions"] == "whole = 1 + 2 + 3; core = 2 + 3; enhancing = 3" and found["channels"] == "2 (T1, FLAIR)"
    assert manifest.regions == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert manifest.cases[0].shape == (12, 2, 18, 20)
    recipe = load_recipe(tmp_path / "recipe" / "recipe.toml")
    assert recipe.network.args["in_channels"] == 2 and recipe.network.args["out_channels"] == 3
    splits = recipe.build_data()
    assert splits.multilabel and splits.classes == ("whole", "core", "enhancing")
    _, label = splits.train[5]
    assert label.shape == (3, 64, 64) and (label[0] >= label[1]).all() and label[2].any()


def test_regions_are_written_as_dataset_json_says(tmp_path: Path) -> None:
    order = {"labels": {"background": 0, "core": [2, 3], "whole": [1, 3]}, "regions_class_order": [2, 1]}
    plan = own.plan(tmp_path, own.nnunet(tmp_path / "d", REGIONS | order, values=(1, 2, 3), channels=2), dims=2)
    (row,) = [row for row in plan.decided.rows if row.what == "written as"]
    assert (row.value, row.why) == ("core as 2, then whole as 1", "regions_class_order of dataset.json")
    plan.write(progress=False)
    splits = load_recipe(tmp_path / "recipe" / "recipe.toml").build_data()
    assert splits.classes == ("core", "whole") and splits.written == (2, 1)
    other = plan.chosen(regions={"a": ("1", "3"), "b": ("2", "3")})
    assert own.decided(other)["written as"] == "one mask for each region"


@pytest.mark.slow
def test_the_decathlon_of_4d_files(tmp_path: Path) -> None:
    found, manifest = prepared(tmp_path, own.decathlon(tmp_path / "d"), size=(16, 32, 32), spacing=(2, 1, 1))
    assert found["form"] == "Medical Segmentation Decathlon" and found["channels"] == "2 (FLAIR, T1w)"
    assert found["classes"] == "1 edema, 2 tumour" and found["modality"] == "mr" and found["spacing"] == "2 × 1 × 1 mm"
    assert manifest.preparation.spacing == (2, 1, 1) and manifest.cases[0].shape == (12, 2, 18, 20)


FORMATS = {
    "nrrd": (own.nrrd_folder, "1.5 × 1 × 1 mm"),
    "metaimage": (own.metaimage_folder, "1.5 × 1 × 1 mm"),
    "tiff": (own.tiff_folder, "not known"),
}


@pytest.mark.parametrize("name", ["nrrd", "metaimage", pytest.param("tiff", marks=pytest.mark.slow)])
def test_folders_of_volumes(name: str, tmp_path: Path) -> None:
    make, spacing = FORMATS[name]
    found, manifest = prepared(tmp_path, make(tmp_path / "d"), classes=["a", "b"])
    assert (found["form"], found["spacing"], found["2D or 3D"]) == ("folders", spacing, "3D")
    assert manifest.labels == {1: "a", 2: "b"} and manifest.dims == 3
    np.testing.assert_array_equal(labels_of(tmp_path, "p1"), own.volumes(2)[1][1].transpose(2, 1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_dicom_with_contours_or_segments(kind: str, tmp_path: Path) -> None:
    found, manifest = prepared(tmp_path, own.dicom_folder(tmp_path / "d", kind), dims=2)
    assert found["classes"] == "1 liver, 2 tumour" and found["modality"] == "ct"
    assert manifest.labels == {1: "liver", 2: "tumour"} and manifest.cases[0].name == "p0"
    np.testing.assert_array_equal(labels_of(tmp_path, "p1"), own.volumes(2)[1][1].transpose(2, 1, 0))


def test_regions_of_dicom_that_are_named_are_taken(tmp_path: Path) -> None:
    plan = own.plan(tmp_path, own.dicom_folder(tmp_path / "d", "SEG"), classes=["tumour"])
    assert own.decided(plan)["classes"] == "1 tumour" and plan.look.coding.masks == {1: 2}


@pytest.mark.slow
def test_a_folder_a_patient(tmp_path: Path) -> None:
    found, manifest = prepared(tmp_path, own.patients(tmp_path / "d"))
    assert found["patients"] == "4" and {case.patient for case in manifest.cases} == {"P0", "P1", "P2", "P3"}
    assert [case.name for case in manifest.cases][:2] == ["P0/scan_0", "P0/scan_1"]


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_dicom_files_say_whose_they_are(known: bool, tmp_path: Path) -> None:
    """Two studies of one patient are in one set; what the files call the patient is written nowhere."""
    for n, (image, label) in enumerate(own.volumes(4)):
        planes, mask = image.transpose(2, 1, 0), label.transpose(2, 1, 0)
        own.series(tmp_path / "d" / f"study{n}", planes, step=1.5, patient=f"DOE^{n // 2}" if known else "ANON")
        own.segmentation(tmp_path / "d" / f"study{n}" / "label.dcm", {"liver": mask == 1}, step=1.5)
    plan = own.plan(tmp_path, tmp_path / "d", dims=2)
    (row,) = [row for row in plan.decided.rows if row.what == "patients"]
    assert own.decided(plan.chosen(patient="folder"))["patients"] == "4"
    if not known:
        assert row.value == "4" and "each case is taken for one" in row.why
        return
    assert (row.value, row.why) == ("2", "PatientID of the DICOM files")
    plan.write(progress=False)
    manifest = read_manifest(tmp_path / "recipe" / "data")
    assert [case.patient for case in manifest.cases] == ["study0", "study0", "study2", "study2"]
    assert not any(b"DOE^" in path.read_bytes() for path in (tmp_path / "recipe").rglob("*") if path.is_file())


def test_flat_volumes_are_slices(tmp_path: Path) -> None:
    for n, (image, label) in enumerate(own.volumes(shape=(20, 18, 12))):
        own.twins.save_nifti(tmp_path / "d" / f"p{n}.nii.gz", image, np.diag([-1.0, -1, 5, 1]))
        own.twins.save_nifti(tmp_path / "d" / f"p{n}_seg.nii.gz", label, np.diag([-1.0, -1, 5, 1]))
    plan = own.plan(tmp_path, tmp_path / "d")
    (row,) = [row for row in plan.decided.rows if row.what == "2D or 3D"]
    assert row.value == "2D" and row.why == "12 slices at the median (3D from 8), spacing ratio 5 (3D below 3)"
    assert own.decided(own.plan(tmp_path, tmp_path / "d", dims=3))["2D or 3D"] == "3D"


def test_nnunets_preprocessed_form(tmp_path: Path) -> None:
    found, manifest = prepared(tmp_path, own.preprocessed(tmp_path / "d"))
    assert (found["form"], found["spacing"], found["modality"]) == ("nnU-Net preprocessed", "1.5 × 1 × 1 mm", "CT")
    assert found["intensities"] == "as nnU-Net has left them" and manifest.preparation.intensity[0].kind == "kept"
    image = np.load(tmp_path / "recipe/data/cases/p0/image.npy")
    with np.load(tmp_path / "d/nnUNetPlans_3d_fullres/p0.npz") as stored:
        np.testing.assert_array_equal(image, stored["data"].swapaxes(0, 1).astype(np.float16))
    wanted = own.volumes(1)[0][1].transpose(2, 1, 0).copy()
    wanted[0] = 0  # was outside the body
    np.testing.assert_array_equal(labels_of(tmp_path, "p0"), wanted)
    assert manifest.cases[0].spacing == (1.5, 1, 1) and manifest.labels == {1: "liver", 2: "tumour"}
    with pytest.raises(DataError, match="--modality: goes with raw images; nnU-Net has scaled these"):
        own.plan(tmp_path / "b", tmp_path / "d", modality="ct")


def test_folders_of_kinds_are_not_taken_for_patients(tmp_path: Path) -> None:
    for n in range(33):
        folder = tmp_path / "d" / ("benign", "malignant", "normal")[n % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(n)).save(folder / f"c{n}.png")
        save8(folder / f"c{n}_mask.png", blocks([1], n))
    plan = own.plan(tmp_path, tmp_path / "d")
    assert own.decided(plan)["patients"] == "33" and [q.option for q in plan.decided.open] == ["patient"]
    assert own.decided(plan.chosen(patient="folder"))["patients"] == "3"


COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)


def test_colours_are_named(tmp_path: Path) -> None:
    masks = [blocks([1, 2], seed) for seed in range(4)]
    images, folder = data(tmp_path, masks, lambda path, mask: Image.fromarray(COLOURS[mask]).save(path))
    path = new_recipe(tmp_path / "r", images, folder, colors=colors_of("spleen=#00ff00,liver=#ff0000"), progress=False)
    assert read_manifest(tmp_path / "r" / "data").labels == {1: "spleen", 2: "liver"}
    label = np.load(tmp_path / "r" / "data" / "cases" / "c0" / "label.npy")[0]
    np.testing.assert_array_equal(label, np.array([0, 2, 1])[masks[0]])
    assert "colours #00ff00 spleen, #ff0000 liver" in path.read_text()
    white = np.array([(255, 255, 255), (255, 0, 0), (0, 255, 0)], np.uint8)
    for n, mask in enumerate(masks):
        Image.fromarray(white[mask]).save(folder / f"c{n}.png")
    table = colors_of("background=#ffffff,liver=#ff0000,spleen=#00ff00")
    new_recipe(tmp_path / "w", images, folder, colors=table, progress=False)
    label = np.load(tmp_path / "w" / "data" / "cases" / "c0" / "label.npy")[0]
    np.testing.assert_array_equal(label, masks[0])


def test_a_colour_that_counts_nowhere(tmp_path: Path) -> None:
    colours = np.array([(0, 0, 0), (255, 0, 0), (255, 255, 255)], np.uint8)
    masks = [blocks([1, 2], seed) for seed in range(4)]
    images, folder = data(tmp_path, masks, lambda path, mask: Image.fromarray(colours[mask]).save(path))
    plan = own.plan(tmp_path, images, folder, colors=colors_of("ignore=#ffffff,liver=#ff0000"))
    assert (plan.decided.ignore, plan.decided.names) == (2, {1: "liver"})
    plan.write(progress=False)
    np.testing.assert_array_equal(labels_of(tmp_path, "c0")[0], masks[0])
    with pytest.raises(DataError, match="a mask in colours; --ignore 255 goes with numbers"):
        own.plan(tmp_path / "x", images, folder, ignore=255)


def test_channels_in_pictures_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "d" / "images").mkdir(parents=True), (tmp_path / "d" / "masks").mkdir()
    for n in range(4):
        red, green, _ = photo(n).transpose(2, 0, 1)
        Image.fromarray(red).save(tmp_path / "d" / "images" / f"c{n}_0000.png")
        Image.fromarray(green).save(tmp_path / "d" / "images" / f"c{n}_0001.png")
        save8(tmp_path / "d" / "masks" / f"c{n}.png", blocks([1], n))
    found, manifest = prepared(tmp_path, tmp_path / "d")
    assert found["channels"] == "2" and manifest.cases[0].shape == (1, 2, 40, 48)
    image = np.load(tmp_path / "recipe" / "data" / "cases" / "c1" / "image.npy")
    np.testing.assert_array_equal(image[0], photo(1).transpose(2, 0, 1)[:2])


def test_an_ignored_value_of_pictures(tmp_path: Path) -> None:
    images, folder = data(tmp_path, [blocks([1, 2, 255], seed) for seed in range(4)], save8)
    new_recipe(tmp_path / "r", images, folder, ignore=255, progress=False)
    manifest = read_manifest(tmp_path / "r" / "data")
    assert manifest.ignore == 255 and manifest.labels == {1: "class 1", 2: "class 2"}
    splits = load_recipe(tmp_path / "r" / "recipe.toml").build_data()
    assert splits.ignore_index is not None and int(splits.ignore_index) in splits.train[0][1].unique()


def test_sets_that_folders_name_are_the_split(tmp_path: Path) -> None:
    for n in range(6):
        for kind, values in (("images", photo(n)), ("masks", blocks([1], n).astype(np.uint8))):
            folder = tmp_path / "d" / ("train" if n < 4 else "test") / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / f"c{n}.png")
    path = new_recipe(tmp_path / "r", tmp_path / "d", progress=False)
    splits = load_recipe(path).build_data()
    assert set(splits.test.cases) == {"test/c4", "test/c5"}
    assert {*splits.train.cases, *splits.val.cases} == {f"train/c{n}" for n in range(4)}


@pytest.mark.slow
def test_labels_of_another_format_and_orientation(tmp_path: Path) -> None:
    """DICOM slices with labels as a converter writes them: on the same grid, rows the other way round."""
    turned_over = own.AFFINE @ np.array([[1.0, 0, 0, 0], [0, -1, 0, own.SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    for n, (image, label) in enumerate(own.volumes(2)):
        own.series(tmp_path / "i" / f"p{n}", image.transpose(2, 1, 0), step=1.5)
        own.twins.save_nifti(tmp_path / "m" / f"p{n}.nii.gz", label[:, ::-1], turned_over)
    plan = own.plan(tmp_path, tmp_path / "i", masks=tmp_path / "m", dims=2)
    plan.write(progress=False)
    np.testing.assert_array_equal(labels_of(tmp_path, "p1"), own.volumes(2)[1][1].transpose(2, 1, 0))
    moved = turned_over @ np.diag([1.0, 1, 1, 1]) + np.array([[0, 0, 0, 3.0]] + [[0] * 4] * 3)
    own.twins.save_nifti(tmp_path / "m" / "p1.nii.gz", own.volumes(2)[1][1][:, ::-1], moved)
    with pytest.raises(DataError, match="image and label lie on different grids"):
        own.plan(tmp_path / "x", tmp_path / "i", masks=tmp_path / "m")
