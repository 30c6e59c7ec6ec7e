"""The layouts of hippocampus and nuclei, in each form that their users have."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.twins import hippocampus_raw, nuclei_raw

from lomix_search.data.benchmarks.table import LAYOUTS
from lomix_search.data.prepare import prepare
from lomix_search.errors import DataError


def test_hippocampus_from_the_task_folder_and_from_plain_folders(tmp_path: Path) -> None:
    raw = hippocampus_raw(tmp_path / "raw")
    names = [source.name for source in LAYOUTS["hippocampus"].find(raw)]
    assert names == [f"hippocampus_00{n}" for n in (1, 2, 3)]  # neither hidden files nor those without labels
    assert [s.name for s in LAYOUTS["hippocampus"].find(raw / "Task04_Hippocampus")] == names
    for task, plain in (("imagesTr", "images"), ("labelsTr", "labels")):
        shutil.copytree(raw / "Task04_Hippocampus" / task, tmp_path / "plain" / plain)
    manifest = prepare("hippocampus", tmp_path / "plain", tmp_path / "out", progress=False)
    assert [entry.name for entry in manifest.cases] == names and manifest.preparation.spacing == (1, 1, 1)
    for name in names:  # ranges that differ 10,000-fold are alike once they are prepared
        image = np.load(tmp_path / "out" / "cases" / name / "image_volume.npy").astype(float)
        assert abs(image.mean()) < 0.01 and abs(image.std() - 1) < 0.01


def test_a_hippocampus_volume_without_label_is_named(tmp_path: Path) -> None:
    raw = hippocampus_raw(tmp_path / "raw")
    (raw / "Task04_Hippocampus" / "labelsTr" / "hippocampus_002.nii.gz").unlink()
    with pytest.raises(DataError, match=r"imagesTr/hippocampus_002\.nii\.gz has no label"):
        LAYOUTS["hippocampus"].find(raw)


def test_nuclei_of_a_picture_are_one_foreground(tmp_path: Path) -> None:
    raw = nuclei_raw(tmp_path / "raw")
    sources = LAYOUTS["nuclei"].find(raw)
    assert len(sources) == 3 and all(len(source.files) == 4 for source in sources)
    case = sources[0].read()
    masks = [np.asarray(Image.open(path)) > 0 for path in sources[0].files[1:]]
    np.testing.assert_array_equal(case.label[0] > 0, np.any(masks, 0))


def test_nuclei_with_one_mask_a_picture(tmp_path: Path) -> None:
    for name, value in (("images", 90), ("masks", 1)):
        (tmp_path / name).mkdir()
        picture = np.zeros((20, 24), np.uint8)
        picture[4:9, 5:11] = value
        Image.fromarray(picture).save(tmp_path / name / "00071198d059.png")
    (source,) = LAYOUTS["nuclei"].find(tmp_path)
    assert source.read().label.sum() == 30 and source.read().image.shape == (1, 3, 20, 24)
    (tmp_path / "masks" / "00071198d059.png").unlink()
    with pytest.raises(DataError, match=r"00071198d059\.png has no label"):
        LAYOUTS["nuclei"].find(tmp_path)


def test_spacing_is_for_volumes_and_size_for_slices(tmp_path: Path) -> None:
    raw = hippocampus_raw(tmp_path / "raw")
    manifest = prepare("hippocampus", raw, tmp_path / "out", spacing=(2, 1, 0.5), progress=False)
    assert manifest.preparation.spacing == (2, 1, 0.5)
    case = tmp_path / "out" / "cases" / "hippocampus_001"
    native, small = (np.load(case / f"label{end}.npy").shape for end in ("", "_volume"))
    assert small == (native[0] // 2, native[1], 2 * native[2])
    with pytest.raises(DataError, match="volumes are brought to one spacing, not to a size"):
        prepare("hippocampus", raw, tmp_path / "out", size=32, progress=False)
    with pytest.raises(DataError, match="the spacing must be a positive number"):
        prepare("hippocampus", raw, tmp_path / "out", spacing=(0, 1, 1), progress=False)
    with pytest.raises(DataError, match="slices are brought to one size, not to a spacing"):
        prepare("polyp", raw, tmp_path / "out", spacing=(1, 1, 1), progress=False)


def test_two_pictures_in_a_folder_of_one_are_refused(tmp_path: Path) -> None:
    raw = nuclei_raw(tmp_path / "raw")
    picture = LAYOUTS["nuclei"].find(raw)[0].files[0]
    shutil.copy(picture, picture.with_name("another.png"))
    with pytest.raises(DataError, match="holds 2 pictures; a folder of the set holds one"):
        LAYOUTS["nuclei"].find(raw)
