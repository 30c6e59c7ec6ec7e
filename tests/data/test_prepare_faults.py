"""Raw files that are broken, missing or of another kind: each a clear error that names the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support import twins
from support.nifti_files import header
from support.preparing import PATIENTS, fails, go, settings

from lomix_search.data.kinds import prepared
from lomix_search.data.masks.decide import decide
from lomix_search.data.masks.mask_file import open_mask
from lomix_search.data.masks.picture_pair import read_mask
from lomix_search.data.readers.nifti import read_nifti, write_nifti
from lomix_search.errors import DataError


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
        "{path}: labels must lie in 0 … 2³² − 1.",
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
    assert "  Try:  mend or remove these files and run the same command again; it goes on from there" in lines
    assert sorted(p.name for p in (tmp_path / "out" / "cases").iterdir()) == ["case0001", "case0005"]


def test_one_bad_file_of_any_kind_does_not_stop_the_others(tmp_path: Path) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0003", "case0005", "case0006"], size=32)
    header(raw / "img" / "img0003.nii.gz", dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    (raw / "label" / "label0005.nii.gz").unlink()
    (raw / "label" / "label0005.nii.gz").symlink_to(raw / "img" / "img0005.nii.gz")
    text = fails("synapse", raw, tmp_path / "out")
    assert text.startswith("prepare synapse: 2 of 4 cases failed; the other 2 are kept")
    assert "img0003.nii.gz" in text and "label0005.nii.gz" in text
    assert sorted(p.name for p in (tmp_path / "out" / "cases").iterdir()) == ["case0001", "case0006"]


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
    """One patient's fault does not stop the others; two faults are both told."""
    raw = twins.acdc_raw(tmp_path / "raw", PATIENTS)
    folder = raw / "training"
    (folder / "patient001" / "Info.cfg").write_text("Group: DCM\n")
    for path in (folder / "patient005").glob("*_gt.nii.gz"):
        path.unlink()
    assert fails("acdc", raw, tmp_path / "out").splitlines() == [
        f"prepare acdc: 2 of 8 cases failed; the other 6 are kept in {tmp_path}/out.",
        f"  Seen: {folder}/patient001/Info.cfg does not name the frames of ED and ES.",
        "          Try:  ED: 1",
        "                ES: 12",
        f"        {folder}/patient005 has images and no label (…_gt.nii.gz).",
        "          Try:  move it away, or find its labels",
        "  Try:  mend or remove these files and run the same command again; it goes on from there",
    ]
    assert len(list((tmp_path / "out" / "cases").iterdir())) == 6


def test_npz_faults(tmp_path: Path) -> None:
    raw = twins.synapse_npz(tmp_path / "raw", train=2, test=1)
    (raw / "train_npz" / "case0005_slice002.npz").unlink()
    np.savez(raw / "train_npz" / "case0006_slice001.npz", image=np.zeros((40, 40)), mask=np.zeros((40, 40)))
    lines = fails("synapse", raw, tmp_path / "out").splitlines()
    assert lines[1:5] == [
        f"  Seen: {raw}/train_npz/case0006_slice001.npz has no label.",
        "          Seen: it has image, mask",
        "          Try:  save it with these names: numpy.savez(path, image=…, label=…)",
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
    classes = open_mask(tmp_path / "classes.png")
    np.testing.assert_array_equal(decide([classes.look()]).read(classes), mask * 3)


def test_dicom_contours_lie_on_the_pixels(tmp_path: Path) -> None:
    go("chest_nodules", twins.nodules_raw(tmp_path / "raw"), tmp_path / "out")
    splits = prepared.load_prepared(settings(tmp_path / "out", ("nodule",), leave_out="pat_3"))
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
        prepared.load_prepared(settings(tmp_path / "out2", ("nodule",), leave_out="pat_9"))


def test_busi_masks_are_united(tmp_path: Path) -> None:
    raw = twins.busi_raw(tmp_path / "raw")
    go("busi", raw, tmp_path / "out")
    label = np.load(tmp_path / "out" / "cases" / "benign (2)" / "label.npy")[0]
    masks = [read_mask(p) for p in raw.rglob("benign (2)_mask*.png")]
    assert len(masks) == 2
    np.testing.assert_array_equal(label, masks[0] | masks[1])


def test_an_image_of_one_value_is_refused_by_name(tmp_path: Path) -> None:
    """Of slices as of volumes: nothing can be learned from it, and nothing of it is left behind."""
    raw = twins.isic_raw(tmp_path / "raw")
    picture = next(raw.rglob("*.jpg"))
    Image.new("RGB", (50, 36), "gray").save(picture)
    assert f"{picture}: every voxel is 128; nothing can be seen in it." in fails("isic2018", raw, tmp_path / "out")
    assert not (tmp_path / "out/cases" / picture.stem).exists()
