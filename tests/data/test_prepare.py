"""From raw files of every layout to prepared slices, again after a stop, a change or a full disk."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from support import twins
from support.preparing import ACDC, PATIENTS, SPLITS, fails, go, settings

from lomix_search.data import prepare_case as preparing
from lomix_search.data.kinds import prepared
from lomix_search.data.manifest import read_manifest, verify
from lomix_search.data.readers.nifti import read_nifti, read_nifti_pair, write_nifti
from lomix_search.errors import DataError

EIGHT = ("spleen", "right kidney", "left kidney", "gallbladder", "pancreas", "liver", "stomach", "aorta")


# -- every layout ------------------------------------------------------------------------------------------------------

TWINS: dict[str, tuple[str, Callable[[Path], Path], tuple[str, ...], dict[str, Any]]] = {
    "synapse": (
        "synapse",
        lambda root: twins.synapse_raw(root, size=24),
        EIGHT,
        {"split": str(SPLITS / "synapse/split.toml")},
    ),
    "synapse npz": ("synapse", twins.synapse_npz, EIGHT, {}),
    "acdc": ("acdc", lambda root: twins.acdc_raw(root, PATIENTS), ACDC, {}),
    "acdc npz": ("acdc", twins.acdc_npz, ACDC, {}),
    "polyp": (
        "polyp",
        twins.polyp_raw,
        ("polyp",),
        {"split": str(SPLITS / "polyp/split.toml"), "normalize": "imagenet"},
    ),
    "isic2018": ("isic2018", twins.isic_raw, ("lesion",), {"split": str(SPLITS / "isic2018/split.toml")}),
    "busi": ("busi", twins.busi_raw, ("tumour",), {}),
    "chest_nodules": ("chest_nodules", twins.nodules_raw, ("nodule",), {"leave_out": "pat_2", "val_fraction": 0.34}),
}


@pytest.mark.parametrize("name", TWINS)
def test_every_layout_is_prepared_and_read(name: str, tmp_path: Path) -> None:
    benchmark, write, classes, keys = TWINS[name]
    manifest = go(benchmark, write(tmp_path / "raw"), tmp_path / "out")
    assert read_manifest(tmp_path / "out") == manifest and verify(tmp_path / "out") == []
    splits = prepared.load_prepared(settings(tmp_path / "out", classes, **keys))
    assert splits.classes == ("background", *classes)
    patients = {entry.name: entry.patient for entry in manifest.cases}
    assert {name: splits.patients.get(name, name) for name in patients} == patients
    sets = [{patients[part.case(i)] for i in range(len(part))} for part in (splits.train, splits.val, splits.test)]
    assert all(sets) and not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2]), "a patient in two sets"
    image, label = splits.train[0]
    assert image.shape == (splits.channels, 32, 32) and label.shape == (32, 32)
    seen = set(torch.cat([splits.train[i][1].flatten() for i in range(len(splits.train))]).unique().tolist())
    assert seen == set(range(len(splits.classes)))
    case = splits.volumes["test"][0]
    assert case.image.dtype == np.float32 and case.image.shape[1] == splits.channels
    assert case.label.shape == case.image.shape[:1] + case.image.shape[2:]
    assert case.name == splits.test.case(0) and len(splits.volumes["test"]) == len(set(splits.test.cases))


def test_one_set_of_several_is_split_by_itself(tmp_path: Path) -> None:
    manifest = go("polyp", twins.polyp_raw(tmp_path / "raw", 1, 4), tmp_path / "out")
    keys = {"split": "random", "test_fraction": 0.34, "val_fraction": 0.34}
    kvasir = [entry.name for entry in manifest.cases if entry.group == "Kvasir"]
    chosen = prepared.load_prepared(settings(tmp_path / "out", ("polyp",), groups=["Kvasir"], **keys))
    assert {*chosen.train.cases, *chosen.val.cases, *chosen.test.cases} == {*kvasir}
    with pytest.raises(DataError, match=r'data.groups: no case is of group "Kvasri". Nearest: "Kvasir".'):
        prepared.load_prepared(settings(tmp_path / "out", ("polyp",), groups=["Kvasri"], **keys))


def test_slices_are_the_files_own(tmp_path: Path) -> None:
    """What training sees is what the file holds: clipped, scaled, in the canonical axes, labels in class numbers."""
    cases = list(twins.SYNAPSE.train[:8])
    go("synapse", twins.synapse_raw(tmp_path / "raw", cases, size=32), tmp_path / "out")
    splits = prepared.load_prepared(settings(tmp_path / "out", EIGHT, augment="none"))
    names = [splits.train.case(i) for i in range(len(splits.train))]
    for case in list(dict.fromkeys(names))[:4]:
        file = nib.as_closest_canonical(nib.load(tmp_path / "raw" / "img" / f"img{case[4:]}.nii.gz"))
        hounsfield = np.squeeze(file.get_fdata())[::-1, ::-1]  # from right-front-head to left-back-head
        mask = nib.as_closest_canonical(nib.load(tmp_path / "raw" / "label" / f"label{case[4:]}.nii.gz"))
        raw = np.squeeze(mask.get_fdata())[::-1, ::-1]
        for z in (0, 3):
            image, label = splits.train[names.index(case) + z]
            expected = (np.clip(hounsfield[:, :, z].T, -125, 275) + 125) / 400
            np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-3)
            values = raw[:, :, z].T.round().astype(int)
            wanted = {1: 1, 2: 2, 3: 3, 4: 4, 11: 5, 6: 6, 7: 7, 8: 8}
            np.testing.assert_array_equal(label.numpy(), np.vectorize(lambda v, w=wanted: w.get(v, 0))(values))


def test_the_13_organ_variant(tmp_path: Path) -> None:
    manifest = go("synapse", twins.synapse_npz(tmp_path / "raw"), tmp_path / "out")
    splits = prepared.load_prepared(settings(tmp_path / "out", tuple(manifest.labels.values())))
    assert len(splits.classes) == 14 and splits.volumes["test"][0].label.max() == 13


def test_renumbered_labels_need_their_names(tmp_path: Path) -> None:
    raw = twins.synapse_npz(tmp_path / "raw", classes=8)
    assert fails("synapse", raw, tmp_path / "out") == (
        "synapse: no label above 8 in any case; these files number their organs anew, and several orders are in use.\n"
        "  Seen: the cases are prepared; only the names of their labels are missing\n"
        "  Try:  name 1, 2, … in the order of your files, e.g. "
        "(the liver has the most pixels, the gallbladder fewest)\n"
        '        --labels "spleen,right kidney,left kidney,gallbladder,liver,stomach,aorta,pancreas"'
    )
    manifest = go("synapse", raw, tmp_path / "out", label_names=["aorta", *"bcdefgh"])
    assert manifest.labels[1] == "aorta"
    with pytest.raises(DataError) as error:
        prepared.load_prepared(settings(tmp_path / "out", ("aorta", "pancres")))
    assert str(error.value).startswith("the prepared synapse data has no label 'pancres'.")


@pytest.mark.parametrize("unit", ["mm", "meter", "micron"])
def test_units_become_millimetres(unit: str, tmp_path: Path) -> None:
    factor = {"mm": 1, "meter": 1e-3, "micron": 1e3}[unit]
    path = tmp_path / "a.nii.gz"
    twins.save_nifti(path, np.zeros((4, 5, 6), np.float32), np.diag([0.7 * factor, 0.8 * factor, 5 * factor, 1]), unit)
    values, spacing, _ = read_nifti(path)
    assert values.shape == (6, 5, 4) and spacing == pytest.approx((5, 0.8, 0.7))


def test_scaled_slopes(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.Nifti1Image(stored, np.diag([-1, -1, 1, 1]))
    image.header.set_slope_inter(2.0, -1024)
    nib.save(image, path)
    on_disk = nib.load(path)
    np.testing.assert_allclose(read_nifti(path)[0], np.asarray(on_disk.dataobj).transpose(2, 1, 0))


@pytest.mark.parametrize("seed", range(6))
def test_a_prediction_goes_back_to_the_files_own_grid(seed: int, tmp_path: Path) -> None:
    """Any axis order and direction: written with the image's affine, every voxel is where it was."""
    rng = np.random.default_rng(seed)
    order, signs = rng.permutation(3), rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[order] * signs[:, None] * [0.7, 0.8, 4.0]
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    label = rng.integers(0, 4, (4, 5, 6)).astype(np.uint8)
    for name in ("image", "label"):
        twins.save_nifti(tmp_path / f"{name}.nii.gz", label.astype(np.float32), affine)
    case = read_nifti_pair("a", tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    write_nifti(tmp_path / "prediction.nii.gz", case.label, case.origin)
    back = nib.load(tmp_path / "prediction.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), label)
    np.testing.assert_allclose(back.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(case.image[:, 0], case.label)
    canonical = nib.as_closest_canonical(nib.load(tmp_path / "image.nii.gz"))
    np.testing.assert_array_equal(case.label, canonical.get_fdata()[::-1, ::-1].transpose(2, 1, 0))
    assert case.spacing == pytest.approx(canonical.header.get_zooms()[::-1])


# -- going on, changes, a full disk ------------------------------------------------------------------------------------


def test_run_again_it_does_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, out = twins.isic_raw(tmp_path / "raw"), tmp_path / "out"
    go("isic2018", raw, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")}
    Image.new("L", (50, 36), 255).save(next(raw.rglob("ISIC_0000003_segmentation.png")))
    (out / "cases" / "ISIC_0000005" / "label.npy").unlink()
    manifest = go("isic2018", raw, out)
    changed = {p.parent.name for p, time in before.items() if not p.exists() or p.stat().st_mtime_ns != time}
    assert changed == {"ISIC_0000003", "ISIC_0000005"}
    assert {e.name: e.labels for e in manifest.cases}["ISIC_0000003"] == {1: 50 * 36}


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    go("isic2018", twins.isic_raw(tmp_path / "raw"), tmp_path / "out")
    path = tmp_path / "out" / "cases" / "ISIC_0000002" / "label.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (tmp_path / "out" / "cases" / "ISIC_0000004" / "image.npy").unlink()
    assert verify(tmp_path / "out") == [
        f"{path} was changed after it was prepared",
        f"{tmp_path}/out/cases/ISIC_0000004/image.npy is missing",
    ]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, out, save, count = twins.isic_raw(tmp_path / "raw"), tmp_path / "out", np.save, [0]

    def full(path: Path, array: Any) -> None:
        count[0] += 1
        if count[0] > 10:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, array)

    monkeypatch.setattr(preparing.np, "save", full)
    text = fails("isic2018", raw, out, workers=1)
    assert text.startswith(
        f"prepare isic2018: 7 of 9 cases failed; the other 2 are kept in {out}.\n  Seen: the disk of "
    )
    assert "free some space and run the same command again; it goes on where it stopped" in text
    assert sorted(p.name for p in (out / "cases").iterdir()) == ["ISIC_0000001", "ISIC_0000002"]
    with pytest.raises(DataError, match="holds no finished preparation"):
        read_manifest(out)
    monkeypatch.undo()
    assert len(go("isic2018", raw, out).cases) == 9


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    raw, left = twins.isic_raw(tmp_path / "raw"), tmp_path / "out" / "cases" / ".unfinished.x"
    left.mkdir(parents=True)
    go("isic2018", raw, tmp_path / "out")
    assert not left.exists()


def test_what_was_prepared_anew_in_one_process_is_read_anew(tmp_path: Path) -> None:
    """Training and evaluation in a notebook see the new files, not the old memory map."""
    raw, out = twins.isic_raw(tmp_path / "raw"), tmp_path / "out"
    go("isic2018", raw, out)
    loaded = settings(out, ("lesion",), augment="none")
    before = prepared.load_prepared(loaded)
    name = before.train.case(0)
    assert before.train[0][1].max() == 1 and before.train[0][0].min() < 0.9
    mask, picture = next(raw.rglob(f"{name}_segmentation.png")), next(raw.rglob(f"{name}.jpg"))
    Image.new("1", (50, 36)).save(mask)
    white = Image.new("RGB", (50, 36), "white")
    white.putpixel((49, 35), (0, 0, 0))  # an image of one value is refused
    white.save(picture)
    go("isic2018", raw, out)
    splits = prepared.load_prepared(loaded)
    image, label = splits.train[0]
    assert splits.train.case(0) == name and label.max() == 0 and image.mean() > 0.9


def test_a_name_belongs_to_one_label(tmp_path: Path) -> None:
    raw = twins.synapse_npz(tmp_path / "raw", classes=3)
    assert "label name 'a' is taken" in fails("synapse", raw, tmp_path / "out", label_names=["a", "b", "a"])
