"""Prepared volumes opened by a recipe's ``[data]``: what must be said of blocks, and what cannot be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.volume_files import cases, prepared

from lomix_search.data.kinds.prepared import PreparedSettings, block_fit_of, load_prepared
from lomix_search.data.manifest import verify
from lomix_search.errors import DataError


def settings(root: Path, **more: object) -> PreparedSettings:
    return PreparedSettings.model_validate({"root": str(root), "classes": ("one", "two"), "size": (8, 16, 12), **more})


def test_blocks_to_train_on_and_whole_volumes_to_validate_on(tmp_path: Path) -> None:
    out, _ = prepared(tmp_path)
    splits = load_prepared(settings(out, val_fraction=0.2, test_fraction=0.2))
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [6, 2, 2]
    image, label = splits.train[0]
    assert image.shape == (1, 8, 16, 12) and label.shape == (8, 16, 12) and splits.spacing == (1, 1, 1)
    name = splits.val.case(0)
    whole, truth = splits.val[0][0], splits.val.truth(0)
    assert whole.shape[1:] == truth.label.shape == np.load(out / "cases" / name / "label.npy").shape  # type: ignore[union-attr]
    case = splits.volumes["val"][0]
    assert case.dims == 3 and isinstance(case.small, np.memmap) and case.label.max() == 2
    fit = block_fit_of(settings(out, val_fraction=0.2, test_fraction=0.2))
    assert fit is not None and list(fit.shapes) == sorted(splits.train.cases) and fit.padded == ["c0", "c7", "c9"]
    fit.check("data.size=")


def test_a_class_that_the_recipe_leaves_out_is_background(tmp_path: Path) -> None:
    out, _ = prepared(tmp_path)
    splits = load_prepared(settings(out, classes=("two",), augment="none", size=(16, 16, 16)))
    _, label = splits.train[0]
    assert set(label.unique().tolist()) == {0, 1}
    raw = np.load(out / "cases" / splits.train.case(0) / "label_volume.npy")
    assert (label == 1).sum() == (raw == 2).sum()


def test_a_damaged_volume_is_noticed(tmp_path: Path) -> None:
    out, _ = prepared(tmp_path)
    splits = load_prepared(settings(out))
    path = out / "cases" / splits.train.case(0) / "image_volume.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"image_volume\.npy was changed or damaged"):
        splits.train[0]
    assert verify(out)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"size": None}, r"data\.size must be the block(.|\n)*data\.size=\[16, 16, 16\]"),
        ({"size": 64}, r"data\.size must be the block"),
        ({"augment": "paper"}, "is for slices"),
        ({"normalize": "imagenet"}, "is for pictures"),
    ],
)
def test_settings_of_slices_are_refused(tmp_path: Path, more: dict, message: str) -> None:
    out, _ = prepared(tmp_path)
    with pytest.raises(DataError, match=message):
        load_prepared(settings(out, **more))


def test_settings_of_volumes_are_refused_for_slices(tmp_path: Path) -> None:
    out, _ = prepared(tmp_path, dims=2, size=16)
    with pytest.raises(DataError, match=r"data\.size=16   # these are slices, not volumes"):
        load_prepared(settings(out))
    with pytest.raises(DataError, match='"volume" is for volumes'):
        load_prepared(settings(out, size=16, augment="volume"))
    with pytest.raises(ValueError, match='flip belongs to augment = "volume"'):
        settings(out, flip=("rows",), augment="none")


def test_channels_that_differ_between_cases_are_refused_by_name(tmp_path: Path) -> None:
    given = cases(4)
    given[2] = replace(given[2], image=np.repeat(given[2].image, 2, 1))
    for dims in (2, 3):
        with pytest.raises(DataError, match=r"channels(.|\n)*c2"):
            prepared(tmp_path / str(dims), given, dims=dims, size=16)
        assert not (tmp_path / str(dims) / "out" / "manifest.json").exists()


def test_volumes_with_and_without_spacing_are_not_mixed(tmp_path: Path) -> None:
    given = cases(4)
    given[1] = replace(given[1], spacing=())
    with pytest.raises(DataError, match=r"some volumes have a spacing and some have none(.|\n)*c1\.bin has none"):
        prepared(tmp_path, given)
    out, manifest = prepared(tmp_path / "none", [replace(case, spacing=()) for case in given])
    assert manifest.preparation.spacing == () and load_prepared(settings(out)).spacing == ()


def test_a_spacing_of_0_and_a_slice_among_volumes_are_named(tmp_path: Path) -> None:
    given = cases(4)
    given[1] = replace(given[1], spacing=(1.0, 0.0, 1.0))
    with pytest.raises(DataError, match=r"c1\.bin: the spacing must be a positive number"):
        prepared(tmp_path / "a", given)
    given[1] = replace(cases(4)[1], image=cases(4)[1].image[:1], label=cases(4)[1].label[:1])
    with pytest.raises(DataError, match=r"c1\.bin: a single slice; volumes are needed"):
        prepared(tmp_path / "b", given)
