"""What cannot be right in a folder is one clear error that names the files, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support import own_folders as own
from support.mask_files import blocks, data, save8
from support.nifti_files import header
from support.twins import save_nifti

from lomix_search.errors import DataError, LomixError, RecipeError
from lomix_search.recipe.choices import choices_of, colors_of, regions_of
from lomix_search.recipe.new import plan_recipe

CT = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}


def fault(tmp_path: Path, folder: Path, kind: type[LomixError] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as error:
        plan_recipe(tmp_path / "recipe", folder, progress=False, **options).write(progress=False)
    assert not (tmp_path / "recipe").exists()
    return str(error.value)


def test_labels_that_dataset_json_lacks(tmp_path: Path) -> None:
    folder = own.nnunet(tmp_path / "d", CT, values=(1, 2, 7), ct=True, count=3)
    text = fault(tmp_path, folder)
    assert text.startswith("3 of 3 labels have values that dataset.json lacks.")
    assert f"{folder}/labelsTr/p0.nii.gz: 7" in text and "dataset.json has 0, 1 liver, 2 tumour" in text


def test_a_dataset_json_that_contradicts_itself(tmp_path: Path) -> None:
    folder = own.nnunet(tmp_path / "d", CT, ct=True, count=3)
    for labels, words in {
        '{"background": 0, "a": 1, "b": [1, 2], "ignore": 2}': "label 2 is ignored, and belongs to b",
        '{"background": 0, "a": [0, 1]}': "region 'a' has label 0, the background",
        '{"background": 0, "a": 1, "b": 1}': "label 1 has two names",
        '{"background": 0, "a": "one"}': "need a whole number",
        '{"background": 0}': "no label beside the background",
        '{"background": 0, "a": [1, 2], "b": 2}': "region 'b' would be written as 5, which it",
    }.items():
        content = CT | {"labels": json.loads(labels), "regions_class_order": [1, 5]}
        (folder / "dataset.json").write_text(json.dumps(content))
        text = fault(tmp_path, folder)
        assert text.startswith(f"{folder}/dataset.json: ") and words in text, text
    (folder / "dataset.json").write_text(json.dumps(CT | {"channel_names": {"0": "CT", "1": "PET"}}))
    assert "dataset.json names 2 channels; the images have 1." in fault(tmp_path, folder)
    (folder / "dataset.json").write_text(json.dumps(CT | {"training": [{"image": "a.nii.gz", "label": "../b.nii.gz"}]}))
    assert "which lies outside" in fault(tmp_path, folder)


def test_regions_of_unknown_classes(tmp_path: Path) -> None:
    folder = own.nnunet(tmp_path / "d", CT, ct=True, count=3)
    text = fault(tmp_path, folder, regions=regions_of("all=liver+tumor"))
    assert text.startswith("--regions: region 'all' has a label 'tumor', which does not exist. Nearest: \"tumour\".")
    assert own.plan(tmp_path, folder, regions=regions_of("all=liver+2")).decided.regions == {"all": (1, 2)}


def test_channels_that_differ_between_cases(tmp_path: Path) -> None:
    folder = own.decathlon(tmp_path / "d")
    save_nifti(folder / "imagesTr" / "BRATS_004.nii.gz", own.volumes(1)[0][0], own.AFFINE)
    text = fault(tmp_path, folder)
    assert text.startswith(f"{folder}/imagesTr/BRATS_004.nii.gz: 1 channel; 5 of 6 images have 2.")
    folder = own.nnunet(tmp_path / "n", CT | {"channel_names": {"0": "T1", "1": "T2"}}, channels=2)
    (folder / "imagesTr" / "p3_0001.nii.gz").unlink()
    assert f"{folder}/imagesTr/p3_0000.nii.gz: its image lacks the channel 0001" in fault(tmp_path, folder)


def test_a_slice_among_volumes(tmp_path: Path) -> None:
    folder = own.nnunet(tmp_path / "d", CT, ct=True)
    for name in ("imagesTr/p2_0000.nii.gz", "labelsTr/p2.nii.gz"):
        whole = nib.load(folder / name)
        save_nifti(folder / name, np.asarray(whole.dataobj)[..., 5:6], own.AFFINE)
    text = fault(tmp_path, folder)
    assert text.startswith(f"{folder}/imagesTr/p2_0000.nii.gz: a single slice among volumes; 1 of 6 images are 2D.")
    assert "--dims 2" in text and own.plan(tmp_path, folder, dims=2).decided.dims == 2
    Image.new("L", (20, 18)).save(folder / "imagesTr" / "p2_0000.png")
    (folder / "imagesTr" / "p2_0000.nii.gz").unlink()
    assert "are a volume and a picture" in fault(tmp_path, folder)


def test_a_spacing_of_zero_and_an_image_of_one_value(tmp_path: Path) -> None:
    folder = own.nnunet(tmp_path / "d", CT, ct=True)
    path = folder / "imagesTr" / "p1_0000.nii.gz"
    path.unlink()
    header(path, pixdim=[1, 1, 1, 0, 1, 1, 1, 1], sform_code=0, qform_code=0)
    save_nifti(folder / "imagesTr" / "p4_0000.nii.gz", np.full(own.SHAPE, 7, np.int16), own.AFFINE)
    text = fault(tmp_path, folder)
    assert text.startswith("lomix new: 2 faults in 6 pairs; nothing was written.")
    assert f"{path}: the header's spacing or unit is wrong." in text
    assert f"{folder}/imagesTr/p4_0000.nii.gz: every pixel is 7; the image shows nothing." in text


def test_jpeg_masks(tmp_path: Path) -> None:
    grey = np.arange(71)[:, None].repeat(70, 1) * 3
    images, masks = data(tmp_path, [blocks([255]), grey], lambda path, mask: save8(path, mask), "jpg")
    text = fault(tmp_path, images, masks=masks)
    assert text.startswith(f"{masks}/c0.jpg: ") and "2 of the masks are JPEG, which changes values" in text
    assert "values in all masks together" in text and "--binary" in text and "--ignore" not in text


def test_colours_that_are_not_in_the_table(tmp_path: Path) -> None:
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)
    masks = [blocks([1]), blocks([2]), blocks([1, 2])]
    images, folder = data(tmp_path, masks, lambda path, mask: Image.fromarray(colours[mask]).save(path))
    assert "--dims 3 goes with volumes" in fault(tmp_path, images, masks=folder, dims=3)
    text = fault(tmp_path, images, masks=folder, colors=colors_of("liver=#ff0000"))
    assert text.startswith("2 of 3 masks do not have the colours of --colors alone.")
    assert f"{folder}/c1.png: #00ff00" in text and f"{folder}/c2.png: #00ff00" in text


@pytest.mark.slow
def test_regions_of_dicom_that_overlap_or_are_unknown(tmp_path: Path) -> None:
    folder = own.dicom_folder(tmp_path / "d", "RTSTRUCT")
    both = np.zeros((12, 18, 20), bool)
    both[4:6, 4:8, 4:8] = True
    own.contours(folder / "p0" / "label.dcm", {"liver": both, "tumour": both}, step=1.5)
    assert "liver and tumour overlap in 32 voxels" in fault(tmp_path, folder)
    assert "no label has a region 'lung'" in fault(tmp_path, folder, classes=["lung"])
    own.contours(folder / "p0" / "label.dcm", {"liver": both}, step=7.0)
    assert "does not lie in a slice of the series" in fault(tmp_path, folder)


def test_choices_that_make_no_sense() -> None:
    for words, options in {
        "three numbers": {"spacing": (1, 1)},
        "must lie below": {"window": (5, 1)},
        "size": {"size": (3,)},
        "spacing": {"spacing": (0, 1, 1)},
    }.items():
        with pytest.raises(RecipeError, match=words):
            choices_of(**options)
    for read, text in (
        (colors_of, "liver=red"),
        (colors_of, "a=#000001,b=#000001"),
        (regions_of, "a=1,a=2"),
        (regions_of, "a"),
    ):
        with pytest.raises(RecipeError):
            read(text)


@pytest.mark.slow
def test_options_that_do_not_fit_the_data(tmp_path: Path) -> None:
    folder = own.nnunet(tmp_path / "d", CT, ct=True, count=3)
    assert "--size 64 does not go with 3D" in fault(tmp_path, folder, size=64)
    assert "--size 50 is no multiple of 16" in fault(tmp_path, folder, size=(50, 64, 64))
    said = fault(tmp_path, folder, size=(16, 48, 32))
    assert "blocks of 16 × 48 × 32 are larger than every case along rows" in said and "--size 16,32,32" in said
    (row,) = [r for r in own.plan(tmp_path, folder, size=(16, 32, 16)).decided.rows if r.what == "size"]
    assert row.why.startswith("--size; 3 of 3 cases are smaller than a block of 16 × 32 × 16 and are padded; most p0")
    assert "--modality picture does not go with volumes" in fault(tmp_path, folder, modality="picture")
    assert "--ignore 9: no mask has this value." in fault(tmp_path, folder, ignore=9)
    assert "--spacing goes with 3D" in fault(tmp_path, folder, dims=2, spacing=(1, 1, 1))
    assert "--modality names 2 channels; the images have 1." in fault(tmp_path, folder, modality="T1,T2")
    save_nifti(folder / "imagesTr" / "p0_0000.nii.gz", own.volumes(1, ct=True)[0][0], own.AFFINE)
    assert own.plan(tmp_path, folder, window=(-150, 250)).decided.window == (-150, 250)
    assert "--window goes with CT" in fault(tmp_path, folder, window=(0, 1), modality="mr")
    assert "is not a folder" in fault(tmp_path, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no pair of an image and a mask" in fault(tmp_path, tmp_path / "empty")
    for name in ("a.npy", "b.npy", "c.zip"):
        (tmp_path / "empty" / name).touch()
    said = fault(tmp_path, tmp_path / "empty")
    assert "Seen: 2 of .npy, e.g. a.npy" in said and "unpack the archives first" in said and "nibabel.save(" in said


def test_frames_are_not_taken_for_channels(tmp_path: Path) -> None:
    for n, (image, label) in enumerate(own.volumes(2, channels=6)):
        save_nifti(tmp_path / "d" / f"p{n}.nii.gz", image, own.AFFINE)
        save_nifti(tmp_path / "d" / f"p{n}_gt.nii.gz", label, own.AFFINE)
    text = fault(tmp_path, tmp_path / "d")
    assert text.startswith(f"{tmp_path}/d/p0.nii.gz: 6 values a voxel; channels or frames over time?")
    assert own.plan(tmp_path, tmp_path / "d", modality="a,b,c,d,e,f").decided.modalities == tuple("abcdef")
