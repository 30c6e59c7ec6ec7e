"""nnU-Net's preprocessed folders: what the plans say is taken, what they do not say is not made up."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import own_folders as own

from lomix_search.data.folders.new_images import find_new_images, read_new_image
from lomix_search.data.folders.preprocessed import find_preprocessed, preprocessed_home, read_preprocessed
from lomix_search.data.image_form import ImageForm
from lomix_search.data.manifest import ChannelScaling, Preparation
from lomix_search.data.readers.image import RawImage
from lomix_search.data.readers.preprocessed_file import case_files
from lomix_search.errors import DataError, MissingExtraError

CASES = [f"p{n}" for n in range(6)]


def planned(root: Path, **settings: Any) -> Path:
    """The folder of ``own.preprocessed``, whose plans say more of its configuration."""
    own.preprocessed(root)
    plans = json.loads((root / "nnUNetPlans.json").read_text())
    (found,) = plans["configurations"].values()
    found |= {"normalization_schemes": ["CTNormalization"]} | settings
    measured = {"percentile_00_5": -20.0, "percentile_99_5": 210.0, "mean": 90.0, "std": 40.0}
    plans |= {"transpose_forward": [1, 0, 2], "foreground_intensity_properties_per_channel": {"0": measured}}
    (root / "nnUNetPlans.json").write_text(json.dumps(plans))
    return root


def test_what_was_done_is_read_from_the_plans(tmp_path: Path) -> None:
    root = planned(tmp_path / "d")
    taken = root / "nnUNetPlans_3d_fullres"
    for folder in (root, taken):
        found = find_preprocessed(folder)
        how = found.preprocessed
        assert how is not None and found.root == root and list(found.pairs) == CASES
        assert (how.configuration, how.spacing, how.channels) == ("3d_fullres", (1.5, 1.0, 1.0), ("CT",))
        assert how.statistics == ((-20.0, 210.0, 90.0, 40.0),) and how.transpose == (1, 0, 2) and not how.slices
        assert list(find_new_images(folder)) == CASES
    assert preprocessed_home(tmp_path) is None and preprocessed_home(taken) == root
    (root / "nnUNetPlans_2d").mkdir()
    (taken / "p1.npz").rename(root / "nnUNetPlans_2d/p1.npz")
    assert find_preprocessed(root).notes[0].startswith("nnUNetPlans_3d_fullres is read, not nnUNetPlans_2d")
    assert (
        list(find_new_images(root, "nnUNetPlans_2d"))
        == list(find_preprocessed(root / "nnUNetPlans_2d").pairs)
        == ["p1"]
    )


def test_slices_lie_as_far_apart_as_the_fingerprint_says_of_cases_like_these(tmp_path: Path) -> None:
    root = planned(tmp_path / "d", spacing=[0.5, 0.7])
    path = root / "nnUNetPlans_3d_fullres/p2.npz"
    assert read_preprocessed("p2", path).spacing == ()
    listed = {"spacings": [[9.0, n + 1.0, 9.0] for n in range(6)], "shapes_after_crop": [[9, 12, 9]] * 6}
    for shapes, wanted in (([[9, 12, 9]] * 6, (3.0, 0.5, 0.7)), ([[9, 13, 9]] * 6, ()), ([[9, 12, 9]] * 5, ())):
        (root / "dataset_fingerprint.json").write_text(json.dumps(listed | {"shapes_after_crop": shapes}))
        assert read_preprocessed("p2", path).spacing == wanted
    (root / "dataset_fingerprint.json").write_text(json.dumps(listed | {"spacings": [[1, 0, 1]] * 6}))
    with pytest.raises(DataError, match=r"p2\.npz: the spacing must be a positive number"):
        read_preprocessed("p2", path)
    assert find_preprocessed(root).preprocessed.slices  # type: ignore[union-attr]


def test_images_of_other_plans_and_raw_ones_are_refused(tmp_path: Path) -> None:
    files = next(iter(find_new_images(planned(tmp_path / "a")).values()))
    raw, kept = read_new_image(files), (ChannelScaling(kind="kept"),)
    how = Preparation(dims=3, spacing=(1.5, 1, 1), channels=1, intensity=kept, preprocessed=raw.preprocessed)
    form = ImageForm(preparation=how, scaled_by="nnU-Net")
    case = form.prepare(raw, "p0", files)
    np.testing.assert_array_equal(case.image, raw.image.astype(np.float16))
    assert case.spacing == (1.5, 1, 1) and "preprocessed grid" in form.note
    other = read_new_image(next(iter(find_new_images(planned(tmp_path / "b", spacing=[2, 1, 1])).values())))
    with pytest.raises(
        DataError, match=r"otherwise than nnUNetPlans_3d_fullres(.|\n)*\(1\.5, 1\.0, 1\.0\), and \(2\.0"
    ):
        form.prepare(other, "p0", files)
    with pytest.raises(DataError, match="the network was trained on files that nnU-Net had cropped"):
        form.prepare(RawImage(raw.image, (1.5, 1, 1)), "p0", files)
    plain = ImageForm(preparation=how.model_copy(update={"preprocessed": None}))
    with pytest.raises(DataError, match="nnU-Net has cropped, resampled and scaled it"):
        plain.prepare(raw, "p0", files)
    with pytest.raises(DataError, match="there are no plans of nnU-Net in"):
        (tmp_path / "b/nnUNetPlans.json").unlink()
        read_new_image((tmp_path / "b/nnUNetPlans_3d_fullres/p0.npz",))


def test_names_that_end_like_those_of_labels(tmp_path: Path) -> None:
    for name in ("a.b2nd", "a_seg.b2nd", "b_seg.b2nd", "b_seg_seg.b2nd", "c.b2nd", "c.npz", "d.npz", "e_seg.npz"):
        (tmp_path / name).touch()
    found = case_files(tmp_path)
    assert {name: path.suffix for name, path in found.items()} == {
        "a": ".b2nd", "b_seg": ".b2nd", "c": ".b2nd", "d": ".npz", "e_seg": ".npz",
    }  # fmt: skip


def test_without_blosc2_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blosc2", None)
    root = own.preprocessed(tmp_path / "d")
    for path in (root / "nnUNetPlans_3d_fullres").glob("*.npz"):
        path.rename(path.with_suffix(".b2nd"))
    with pytest.raises(DataError, match="p0_seg.b2nd is missing"):
        own.plan(tmp_path, root)
    for path in (root / "nnUNetPlans_3d_fullres").glob("*.b2nd"):
        path.with_name(f"{path.stem}_seg.b2nd").write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=r"since 2\.6; to read it, blosc2 is needed(.|\n)*\[nnunet-files\]"):
        own.plan(tmp_path, root)
