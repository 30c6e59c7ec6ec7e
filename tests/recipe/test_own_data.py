"""What is wrong in somebody's files is told at once, file by file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import twins
from support.mask_files import blocks, data, save8, save16

from lomix_search.errors import DataError
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.own_data import look_at


def fault(*args: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        look_at(*args, **options)
    return str(error.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    images, masks = data(tmp_path, [blocks([1], s) for s in range(7)], save8)
    (images / "c0.png").write_bytes(b"cut")
    save8(masks / "c1.png", blocks([1])[:-1])
    (masks / "c2.png").unlink()
    (masks / "c3.png").write_bytes((images / "c3.png").read_bytes())
    save8(masks / "c4.png", blocks([1, 255]))
    (masks / "c5.png").unlink()
    (masks / "c5.png").symlink_to("nowhere")
    save16(images / "c6.png", blocks([3]))
    text = fault(images, masks)
    assert text.startswith("lomix new: 7 faults in 6 pairs; nothing was written.")
    for words in (
        f"{images}/c2.png has no mask",
        f"{images}/c0.png cannot be read",
        f"{masks}/c1.png: the mask is 39 × 48 and its picture 40 × 48 pixels",
        f"{images}/c3.png and {masks}/c3.png have the same content",
        f"{masks}/c4.png: 3 values in all masks together",
        f"{masks}/c5.png does not exist",
        "images of 2 kinds",
    ):
        assert words in text, words
    assert not (tmp_path / "r").exists()


def test_volumes_of_another_shape_are_named(tmp_path: Path) -> None:
    for i in range(3):
        for folder, rows in (("i", 20), ("m", 18 if i == 1 else 20)):
            values = np.zeros((20, rows, 4), np.int16)
            values[5:9, 5:9] = 1
            twins.save_nifti(tmp_path / folder / f"v{i}.nii.gz", values, np.diag([-1.0, -1, 3, 1]))
            if folder == "i":
                twins.save_nifti(tmp_path / "i" / f"v{i}.nii.gz", values * 90 + 7, np.diag([-1.0, -1, 3, 1]))
    text = fault(tmp_path / "i", tmp_path / "m")
    assert text.startswith(f"{tmp_path}/m/v1.nii.gz: image and label have different shapes.")


def test_names_and_patients_that_do_not_fit(tmp_path: Path) -> None:
    found = data(tmp_path, [blocks([1, 2], s) for s in range(3)], save8)
    with pytest.raises(DataError) as error:
        new_recipe(tmp_path / "r", *found, classes=["a", "a"], patient="(x)", progress=False)
    text = str(error.value)
    assert text.startswith("lomix new: 4 faults") and "'a' is taken" in text and "the case 'c2'" in text
    assert not (tmp_path / "r").exists()


def test_pictures_of_two_depths_are_refused(tmp_path: Path) -> None:
    found = data(tmp_path, [blocks([1], s) for s in range(3)], save8)
    save16(found[0] / "c1.png", blocks([999]))
    text = fault(*found)
    assert "images of 2 kinds" in text and f"1 of integers of 16 bits, first {found[0]}/c1.png" in text


def test_volumes_of_what_is_no_number_are_refused_before_anything_is_judged_by_them(tmp_path: Path) -> None:
    for i in range(4):
        values = np.full((12, 12, 4), -800.0 + i, np.float32)
        values[2, 3, 1] = np.nan if i in (1, 2) else 40
        mask = np.zeros(values.shape, np.int16)
        mask[5:9, 5:9] = 1
        for folder, array in (("i", values), ("m", mask)):
            twins.save_nifti(tmp_path / folder / f"v{i}.nii.gz", array, np.diag([-1.0, -1, 3, 1]))
    text = fault(tmp_path / "i", tmp_path / "m")
    assert text.startswith("lomix new: 2 faults in 4 pairs; nothing was written.")
    assert text.count("NaN or infinite intensities.\n") == 2 and text.count("numpy.nan_to_num(values)") == 1
    (tmp_path / "i/v1.nii.gz").unlink()
    (tmp_path / "m/v1.nii.gz").unlink()
    alone = fault(tmp_path / "i", tmp_path / "m")
    assert alone.startswith(f"{tmp_path}/i/v2.nii.gz: NaN or infinite intensities.\n  Seen: first in slice 1\n  Try:  ")


def test_a_mask_that_is_missing_in_one_folder_says_what_to_do(tmp_path: Path) -> None:
    _, masks = data(tmp_path / "d", [blocks([1], s) for s in range(4)], save8)
    (masks / "c2.png").unlink()
    with pytest.raises(DataError) as error:
        new_recipe(tmp_path / "r", tmp_path / "d")
    assert "has no mask\n  Try:  put the file that is missing beside the others" in str(error.value)
