"""``lomix new`` on pictures of wide numbers: how they are scaled, and what the manifest says of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from support import own_folders as own
from support import twins
from support.mask_files import blocks, data, make, save8, save16
from support.picture_files import tiff

from lomix_search.data.manifest import read_manifest
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import data_notes

CT = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}


def test_what_a_file_holds_is_in_the_manifest(tmp_path: Path) -> None:
    found = data(tmp_path, [blocks([1], s) for s in range(3)], lambda p, m: tiff(p, m.astype(np.int32) * 100_000))
    labels = make(tmp_path, *found)
    np.testing.assert_array_equal(labels["c0"], blocks([1]))
    (case, *_) = read_manifest(tmp_path / "r" / "data").cases
    assert case.origin["values"] == [[1, 100_000]]
    assert case.origin["masks"] == "0 background, 100000 foreground"


DEEP: dict[str, tuple[Callable[[Path, NDArray[Any]], object], str, Any]] = {
    "16 bit": (lambda p, v: save16(p, v * 200), "png", lambda v: v * 200.0),
    "12 bit in 16": (lambda p, v: save16(p, v * 16), "png", lambda v: v * 16.0),
    "16 bit, other end first": (lambda p, v: tiff(p, (v * 16).astype(np.uint16), order=">"), "tif", lambda v: v * 16.0),
    "int32": (lambda p, v: tiff(p, (v * 1000).astype(np.int32)), "tif", lambda v: v * 1000.0),
    "signed": (lambda p, v: tiff(p, (v - 900).astype(np.int16)), "tif", lambda v: v - 900.0),
    "floats": (lambda p, v: tiff(p, (v / 7 - 3).astype(np.float32)), "tif", lambda v: v / 7 - 3.0),
}


@pytest.mark.parametrize("name", DEEP)
def test_wide_numbers_are_scaled_by_the_range_of_all(name: str, tmp_path: Path) -> None:
    write, ending, number = DEEP[name]
    found = data(tmp_path, [blocks([1], s) for s in range(4)], save8)
    stored = [np.random.default_rng(i).integers(10 * i, 50 + 60 * i, (40, 48)) for i in range(4)]
    for i, values in enumerate(stored):
        (found[0] / f"c{i}.png").unlink()
        write(found[0] / f"c{i}.{ending}", values)
    make(tmp_path, *found)
    low, high = number(min(v.min() for v in stored)), number(max(v.max() for v in stored))
    manifest = read_manifest(tmp_path / "r" / "data")
    assert manifest.intensity == "range"
    for i, values in enumerate(stored):
        image = np.load(tmp_path / "r" / "data" / "cases" / f"c{i}" / "image.npy")
        np.testing.assert_allclose(image[0, 0], (number(values) - low) / (high - low), atol=1e-6)
        entry = next(case for case in manifest.cases if case.name == f"c{i}")
        assert np.allclose(
            json.loads(entry.scaling.removeprefix("range ").replace("(", "[").replace(")", "]")), (low, high)
        )
    recipe = load_recipe(tmp_path / "r" / "recipe.toml")
    assert recipe.network.args["in_channels"] == 1
    (case,) = recipe.build_data().volumes["val"]
    assert case.image.shape[1] == 1 and 0 <= case.image.min() < case.image.max() <= 1
    assert f"{low:g} … {high:g}, the range of all of them" in (tmp_path / "r" / "recipe.toml").read_text()


def test_floats_within_0_and_1_stay(tmp_path: Path) -> None:
    found = data(tmp_path, [blocks([1], s) for s in range(3)], save8)
    values = np.random.default_rng(0).random((40, 48)).astype(np.float32) / 2
    for i in range(3):
        (found[0] / f"c{i}.png").unlink()
        tiff(found[0] / f"c{i}.tif", values)
    make(tmp_path, *found)
    np.testing.assert_array_equal(np.load(tmp_path / "r" / "data" / "cases" / "c0" / "image.npy")[0, 0], values)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_no_intensity_of_cases_that_test_or_validate_is_measured(dims: int, tmp_path: Path) -> None:
    """The cases that the recipe draws for training are the very ones whose foreground scales a CT."""
    folder = own.nnunet(tmp_path / "d", CT, values=(1, 2), ct=True, count=8)
    options = {"dims": dims, "size": (32,) if dims == 2 else (16, 16, 16)}
    plan = own.plan(tmp_path / "a", folder, **options)
    plan.write(progress=False)
    splits = load_recipe(tmp_path / "a" / "recipe" / "recipe.toml").build_data()
    assert plan.decided.measured == {f"p{n}" for n in range(8)} - {*splits.val.cases, *splits.test.cases}
    (row,) = [row for row in plan.decided.rows if row.what == "intensities"]
    assert row.why == f"measured in the {len(plan.decided.measured)} cases of training"
    recipe = tmp_path / "a" / "recipe"
    assert data_notes(load_recipe(recipe)) == []
    fold = load_recipe(recipe, ["data.folds=4", "data.fold=1"])
    held = plan.decided.measured & {*fold.build_data().val.cases, *fold.build_data().test.cases}
    (note,) = data_notes(fold)
    assert (
        held and f"measured in {len(plan.decided.measured)} cases" in note and f"{len(held)} of these are held" in note
    )
    own.plan(tmp_path / "c", folder, **options, window=(-150, 250)).write(progress=False)
    assert data_notes(load_recipe(tmp_path / "c" / "recipe", ["data.folds=4", "data.fold=1"])) == []
    for name in {*splits.val.cases, *splits.test.cases}:
        path = folder / "imagesTr" / f"{name}_0000.nii.gz"
        values = np.asarray(nib.load(path).dataobj)
        twins.save_nifti(path, np.where(values > -500, values + 700, values), own.AFFINE)
    other = own.plan(tmp_path / "b", folder, **options)
    other.write(progress=False)
    one, two = (read_manifest(tmp_path / of / "recipe" / "data").preparation for of in "ab")
    assert one == two and one.intensity[0].kind == ("ct" if dims == 2 else "foreground")
