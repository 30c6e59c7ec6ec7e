"""From raw files of every layout to prepared slices; each kind of bad file; splits."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import twins
from PIL import Image

from lomix_search.data import manifest as manifests
from lomix_search.data import prepare as preparing
from lomix_search.data import prepared
from lomix_search.data.manifest import read_manifest, verify
from lomix_search.data.pictures import read_classes, read_mask
from lomix_search.data.prepare import prepare
from lomix_search.data.split import Plan, make_split
from lomix_search.data.volumes import read_nifti, read_nifti_pair, write_nifti
from lomix_search.errors import DataError
from lomix_search.shelf import shelf

SPLITS = shelf("recipes")
EIGHT = ("spleen", "right kidney", "left kidney", "gallbladder", "pancreas", "liver", "stomach", "aorta")
ACDC = ("right ventricle", "myocardium", "left ventricle")
PATIENTS = ["patient001", "patient004", "patient005", "patient019", "patient002"]


def go(benchmark: str, raw: Path, out: Path, **options: Any) -> Any:
    return prepare(benchmark, raw, out, **({"size": 32, "workers": 2, "progress": False} | options))


def fails(*args: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        go(*args, **options)
    return str(error.value)


def settings(root: Path, classes: tuple[str, ...], **keys: Any) -> prepared.Settings:
    return prepared.Settings(root=str(root), classes=classes, **keys)


# -- every layout ------------------------------------------------------------------------------------------------------

TWINS: dict[str, tuple[str, Callable[[Path], Path], tuple[str, ...], dict[str, Any]]] = {
    "synapse": ("synapse", twins.synapse_raw, EIGHT, {"split": str(SPLITS / "synapse/split.toml")}),
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
    splits = prepared.load(settings(tmp_path / "out", classes, **keys))
    assert splits.classes == ("background", *classes)
    patients = {entry.name: entry.patient for entry in manifest.cases}
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


def test_slices_are_the_files_own(tmp_path: Path) -> None:
    """What training sees is what the file holds: clipped, scaled, in the canonical axes, labels in class numbers."""
    go("synapse", twins.synapse_raw(tmp_path / "raw", size=32), tmp_path / "out")
    splits = prepared.load(settings(tmp_path / "out", EIGHT, split=str(SPLITS / "synapse/split.toml"), augment="none"))
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
    splits = prepared.load(settings(tmp_path / "out", tuple(manifest.labels.values())))
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
        prepared.load(settings(tmp_path / "out", ("aorta", "pancres")))
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


# -- bad files ---------------------------------------------------------------------------------------------------------


def spoil_cut(raw: Path) -> Path:
    path = raw / "label" / "label0003.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    return path


def spoil_empty(raw: Path) -> Path:
    path = raw / "img" / "img0003.nii.gz"
    path.write_bytes(b"")
    return path


def spoil_text(raw: Path) -> Path:
    path = raw / "img" / "img0003.nii.gz"
    path.write_text("<html>Please log in</html>")
    return path


def respoil(raw: Path, name: str, change: Callable[[np.ndarray], np.ndarray], shift: float = 0) -> Path:
    path = raw / name
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    twins.save_nifti(path, change(np.asarray(image.dataobj)), affine)
    return path


SPOILED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut": (spoil_cut, "{path} cannot be read; it is cut short or not what its name says."),
    "empty": (spoil_empty, "{path} is empty."),
    "text": (spoil_text, "{path} cannot be read; it is cut short or not what its name says."),
    "shape": (
        lambda raw: respoil(raw, "label/label0003.nii.gz", lambda v: v[:-1]),
        "{path}: image and label have different shapes.",
    ),
    "affine": (
        lambda raw: respoil(raw, "label/label0003.nii.gz", lambda v: v, shift=5),
        "{path}: image and label lie on different grids (their affines differ).",
    ),
    "label value": (
        lambda raw: respoil(raw, "label/label0003.nii.gz", lambda v: v * 0 + 14),
        "{path}: unknown label 14.",
    ),
    "fraction": (
        lambda raw: respoil(raw, "label/label0003.nii.gz", lambda v: v.astype(np.float32) * 0.5),
        "{path}: labels must be whole numbers.",
    ),
    "negative": (
        lambda raw: respoil(raw, "label/label0003.nii.gz", lambda v: v.astype(np.int16) - 1),
        "{path}: labels must lie in 0 … 255.",
    ),
    "units": (
        lambda raw: respoil(raw, "img/img0003.nii.gz", lambda v: v + 1024),
        "{path}: a CT must be in Hounsfield units (air −1000, water 0) or already scaled to 0 … 1.",
    ),
    "nan": (
        lambda raw: respoil(raw, "img/img0003.nii.gz", lambda v: np.where(v > 0, np.nan, v).astype(np.float32)),
        "{path}: NaN or infinite intensities.",
    ),
    "4D": (
        lambda raw: respoil(raw, "img/img0003.nii.gz", lambda v: np.stack([v.squeeze(), v.squeeze()], -1)),
        "{path}: 32 × 32 × 6 × 2 values; a volume has 3 axes.",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_bad_volume_is_named_and_the_rest_is_kept(name: str, tmp_path: Path) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0003", "case0005"], size=32)
    spoil, expected = SPOILED[name]
    path = spoil(raw)
    lines = fails("synapse", raw, tmp_path / "out").splitlines()
    assert lines[0] == f"prepare synapse: 1 of 3 cases failed; the other 2 are kept in {tmp_path}/out."
    assert lines[1] == "  Seen: " + expected.format(path=path)
    assert lines[-1] == "  Try:  mend or remove these files and run the same command again; it goes on from there"
    assert sorted(p.name for p in (tmp_path / "out" / "cases").iterdir()) == ["case0001", "case0005"]


def test_wrong_spacing(tmp_path: Path) -> None:
    twins.save_nifti(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), np.float32), np.diag([0.0008, 0.0008, 0.005, 1]))
    with pytest.raises(DataError) as error:
        read_nifti(tmp_path / "a.nii.gz")
    assert str(error.value).splitlines()[:2] == [
        f"{tmp_path}/a.nii.gz: the header's spacing or unit is wrong.",
        "  Seen: voxels of 0.0008 × 0.0008 × 0.005 mm, unit 'mm'",
    ]


def test_missing_and_extra_cases(tmp_path: Path) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0003"], size=32)
    (raw / "label" / "label0003.nii.gz").rename(raw / "label" / "label0004.nii.gz")
    assert fails("synapse", raw, tmp_path / "out") == (
        f"{raw}: images and labels do not pair up.\n"
        f"  Seen: {raw}/img/img0003.nii.gz has no label\n"
        f"        {raw}/label/label0004.nii.gz has no image\n"
        "  Try:  expected img/img0001.nii.gz with label/label0001.nii.gz, or train_npz/ with test_vol_h5/"
    )


def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").write_text("")
    for benchmark in ("synapse", "acdc", "polyp", "isic2018", "busi"):
        text = fails(benchmark, tmp_path / "raw", tmp_path / "out")
        assert "Seen: notes.txt" in text and "expected" in text, text
    assert "is not a folder" in fails("acdc", tmp_path / "nowhere", tmp_path / "out")
    assert fails("synaps", tmp_path, tmp_path / "out").startswith('no benchmark "synaps". Nearest: "synapse".')


def test_acdc_without_its_info(tmp_path: Path) -> None:
    raw = twins.acdc_raw(tmp_path / "raw", PATIENTS[:1])
    (raw / "training" / "patient001" / "Info.cfg").write_text("Group: DCM\n")
    assert fails("acdc", raw, tmp_path / "out") == (
        f"{raw}/training/patient001/Info.cfg does not name the frames of ED and ES.\n  Try:  ED: 1\n        ES: 12"
    )


def test_npz_faults(tmp_path: Path) -> None:
    raw = twins.synapse_npz(tmp_path / "raw", train=2, test=1)
    (raw / "train_npz" / "case0005_slice002.npz").unlink()
    np.savez(raw / "train_npz" / "case0006_slice001.npz", image=np.zeros((40, 40)), mask=np.zeros((40, 40)))
    lines = fails("synapse", raw, tmp_path / "out").splitlines()
    assert lines[1:4] == [
        f"  Seen: {raw}/train_npz/case0006_slice001.npz has no label.",
        "          Seen: it has image, mask",
        f"        {raw}/train_npz: case0005 lacks slice 2.",
    ]


MASKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "size": (lambda p: Image.new("L", (30, 36)).save(p), "{path}: the mask is 36 × 30 and its picture 36 × 50 pixels."),
    "colours": (
        lambda p: Image.fromarray(np.random.default_rng(0).integers(0, 255, (36, 50, 3), np.uint8)).save(p),
        "{path}: an RGB mask in colours; a mask has one channel.",
    ),
    "grey": (
        lambda p: Image.fromarray(np.tile(np.arange(50, dtype=np.uint8) * 5, (36, 1))).save(p),
        "{path}: not a binary mask: 76% of its pixels are neither black nor white.",
    ),
    "cut": (
        lambda p: p.write_bytes(p.read_bytes()[:60]),
        "{path} cannot be read; it is cut short or not what its name says.",
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_bad_mask_is_named(name: str, tmp_path: Path) -> None:
    raw = twins.isic_raw(tmp_path / "raw")
    path = next(raw.rglob("ISIC_0000003_segmentation.png"))
    spoil, expected = MASKS[name]
    spoil(path)
    assert expected.format(path=path) in fails("isic2018", raw, tmp_path / "out")


def test_masks_of_every_kind_are_read_alike(tmp_path: Path) -> None:
    mask = twins.organs(np.random.default_rng(0), (40, 48), 1)
    forms = {
        "255.png": mask * 255,
        "1.png": mask,
        "rgb.png": np.repeat(mask[..., None] * 255, 3, 2),
        "rgba.png": np.dstack([np.repeat(mask[..., None] * 255, 3, 2), np.full_like(mask, 255)]),
        "bool.png": mask.astype(bool),
        "16bit.png": mask.astype(np.uint16) * 65535,
        "255.bmp": mask * 255,
        "255.tif": mask * 255,
    }
    for name, values in forms.items():
        Image.fromarray(values).save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), mask, err_msg=name)
    Image.fromarray(mask * 255).save(tmp_path / "noisy.jpg", quality=60)
    assert np.mean(read_mask(tmp_path / "noisy.jpg") != mask) < 0.01
    palette = Image.fromarray(mask * 3).convert("P")
    palette.putpalette([0, 0, 0] * 3 + [255, 0, 0])
    Image.fromarray(mask * 3).save(tmp_path / "classes.png")
    np.testing.assert_array_equal(read_classes(tmp_path / "classes.png"), mask * 3)


def test_dicom_contours_lie_on_the_pixels(tmp_path: Path) -> None:
    go("chest_nodules", twins.nodules_raw(tmp_path / "raw"), tmp_path / "out")
    splits = prepared.load(settings(tmp_path / "out", ("nodule",), leave_out="pat_3"))
    (case,) = splits.volumes["test"]
    assert case.patient == "pat_3" and case.spacing == pytest.approx((3, 0.8, 0.9))
    expected = np.zeros((6, 40, 44), np.uint8)
    expected[2:4, 8:20, 10:25] = 1
    expected[2:4, 12:16, 14:18] = 0
    np.testing.assert_array_equal(case.label, expected)
    np.testing.assert_array_equal(
        case.image[:, 0] > 0.3,
        np.isin(np.arange(40), range(8, 20))[None, :, None]
        & np.isin(np.arange(44), range(10, 25))[None, None]
        & np.ones((6, 1, 1), bool),
    )
    write_nifti(tmp_path / "p.nii.gz", case.label, case.origin)
    affine = nib.load(tmp_path / "p.nii.gz").affine
    np.testing.assert_allclose(
        affine @ [10, 8, 2, 1], [53 - 9, 40 - 6.4, -294, 1], atol=1e-4
    )  # left-back to right-front


def test_dicom_faults(tmp_path: Path) -> None:
    raw = twins.nodules_raw(tmp_path / "raw", patients=3)
    (raw / "pat_1" / "IMG3.dcm").unlink()
    (raw / "pat_2" / "RS.dcm").unlink()
    (raw / "pat_3" / "IMG0.dcm").write_bytes(b"not dicom" * 40)
    text = fails("chest_nodules", raw, tmp_path / "out")
    assert f"{raw}/pat_1: the slices do not form one grid." in text
    assert f"{raw}/pat_2: 6 CT slices and 0 RTSTRUCT files; need some and one." in text
    assert f"{raw}/pat_3/IMG0.dcm cannot be read; it is cut short or not what its name says." in text
    with pytest.raises(DataError, match=r'leave_out = "pat_9": no such patient\. Nearest: "pat_'):
        go("chest_nodules", twins.nodules_raw(tmp_path / "raw2"), tmp_path / "out2")
        prepared.load(settings(tmp_path / "out2", ("nodule",), leave_out="pat_9"))


def test_busi_masks_are_united(tmp_path: Path) -> None:
    raw = twins.busi_raw(tmp_path / "raw")
    go("busi", raw, tmp_path / "out")
    label = np.load(tmp_path / "out" / "cases" / "benign (2)" / "label.npy")[0]
    masks = [read_mask(p) for p in raw.rglob("benign (2)_mask*.png")]
    assert len(masks) == 2
    np.testing.assert_array_equal(label, masks[0] | masks[1])


# -- splits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("acdc")
    everybody = [*twins.ACDC.train[:12], *twins.ACDC.val[:3], *twins.ACDC.test[:5]]
    return go("acdc", twins.acdc_raw(folder / "raw", everybody, size=16), folder / "out", size=16), folder / "out"


def people(names: tuple[str, ...]) -> set[str]:
    return {name.partition("_")[0] for name in names}


def test_official_splits_have_their_numbers() -> None:
    assert (len(twins.SYNAPSE.train), len(twins.SYNAPSE.test)) == (18, 12)
    assert (len(twins.ACDC.train), len(twins.ACDC.val), len(twins.ACDC.test)) == (70, 10, 20)
    for split in (twins.SYNAPSE, twins.ACDC):
        everybody = [*split.train, *split.val, *split.test]
        assert len(set(everybody)) == len(everybody)


def test_folds_cover_everybody_once(acdc: Any) -> None:
    entries = acdc[0].cases
    folds = [people(make_split(entries, Plan(folds=4, fold=k, test_fraction=0.25)).val) for k in range(4)]
    splits = [make_split(entries, Plan(folds=4, fold=k, test_fraction=0.25)) for k in range(4)]
    assert len({people(s.test) == people(splits[0].test) for s in splits}) == 1
    assert sum(len(fold) for fold in folds) == len(set().union(*folds)) == 15
    assert all(not people(s.train) & people(s.val) for s in splits)
    with pytest.raises(DataError, match="fold 5 of 5: folds count from 0, and there are 18 patients"):
        make_split(entries, Plan(fold=5))


def test_label_fractions_are_nested(acdc: Any) -> None:
    entries, sets = acdc[0].cases, []
    for fraction in (0.05, 0.1, 0.5, 1.0):
        split = make_split(entries, Plan(label_fraction=fraction))
        sets.append(people(split.train))
        assert split.val == make_split(entries, Plan()).val, "the yardstick stays"
    assert sets[0] <= sets[1] < sets[2] < sets[3] and len(sets[0]) == 1 and len(sets[2]) == 8
    assert people(make_split(entries, Plan(label_fraction=0.5, seed=1)).train) != sets[2]


def test_a_patient_in_two_sets(acdc: Any, tmp_path: Path) -> None:
    one = acdc[0].cases[0].patient
    path = tmp_path / "split.toml"
    path.write_text(f'source = "mine"\ntrain = ["{one}_ED"]\nval = ["patient0*_ES"]\ntest = []\n')
    with pytest.raises(DataError) as error:
        make_split(acdc[0].cases, Plan(path))
    assert str(error.value) == (
        "1 patients are in two sets; what is learned from one would be tested on itself.\n"
        f"  Seen: {one}: train, val\n"
        "  Try:  name each patient in one of train, val and test"
    )


def test_a_split_that_names_what_is_not_there(acdc: Any) -> None:
    with pytest.raises(DataError) as error:
        make_split(acdc[0].cases, Plan(SPLITS / "acdc" / "split.toml"))
    assert str(error.value).startswith(
        f"{SPLITS}/acdc/split.toml: 80 of its items are not in the prepared data.\n  Seen: "
    )
    assert str(error.value).splitlines()[1].endswith("and 72 more")


def test_a_size_that_was_not_prepared(acdc: Any) -> None:
    with pytest.raises(DataError) as error:
        prepared.load(settings(acdc[1], ACDC, size=224))
    assert str(error.value) == (
        f"{acdc[1]} was prepared at 16 × 16, and the recipe wants 224.\n"
        f"  Try:  lomix prepare acdc RAW {acdc[1]} --size 224"
    )


def test_nothing_prepared_and_a_broken_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        prepared.load(settings(tmp_path, ACDC))
    assert str(error.value) == (f"{tmp_path} holds no prepared data.\n  Try:  lomix prepare BENCHMARK RAW {tmp_path}")
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 2, "benchmark": "x"}))
    with pytest.raises(DataError, match="has 5 faults"):
        prepared.load(settings(tmp_path, ACDC))
    assert manifests.sha256(tmp_path / "manifest.json") != ""
