"""Volumes of every type and header: read as what they are, or refused by name. Right values come from the arrays that
were written, or from nibabel's own reading."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from support import twins
from support.nifti_files import AFFINE, header, refused, save

from lomix_search.data.readers.nifti import read_nifti, read_nifti_label, read_nifti_pair
from lomix_search.data.readers.values import whole_labels
from lomix_search.recipe.own_data import look_at


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_images_of_every_type(dtype: str, order: str, tmp_path: Path) -> None:
    values = np.arange(60).reshape(3, 4, 5).astype(np.dtype(dtype).newbyteorder(order))
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(values.dtype)
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(values, AFFINE, header, dtype=values.dtype), path)
    read, spacing, _ = read_nifti(path)
    np.testing.assert_array_equal(read, values.transpose(2, 1, 0))
    np.testing.assert_array_equal(read_nifti_label(path)[0], values.transpose(2, 1, 0))
    assert spacing == (2, 1, 1) and read.dtype.kind == "f"


@pytest.mark.parametrize("value", [255, 256, 260, 511, 65535, 65536, 16_777_217, 312_782_604, 2**32 - 1])
def test_labels_of_any_width_keep_their_value(value: int, tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), np.int64)
    values[1, 2, 3], values[0, 0, 0] = value, value - 1
    read = read_nifti_label(save(tmp_path / "a.nii.gz", values))[0]
    assert read[3, 2, 1] == value and read[0, 0, 0] == value - 1 and read.dtype.kind == "u"
    np.testing.assert_array_equal(whole_labels(values.astype(np.float64), Path("a")), values)


def test_labels_above_255_are_prepared(tmp_path: Path) -> None:
    for name in ("i", "m"):
        (tmp_path / name).mkdir()
    values = np.zeros((3, 4, 5), np.int32)
    values[0], values[2] = 260, 4
    save(tmp_path / "i" / "a.nii.gz", values.astype(np.int16))
    save(tmp_path / "m" / "a.nii.gz", values)
    assert look_at(tmp_path / "i", tmp_path / "m").labels == (4, 260)


def test_slope_and_intercept_of_images_and_labels(tmp_path: Path) -> None:
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5) % 7
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(2.0, 4.0)  # nibabel stores (values − 4) / 2
    nib.save(image, tmp_path / "a.nii.gz")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata().transpose(2, 1, 0)
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii.gz")[0], expected)
    np.testing.assert_array_equal(read_nifti_label(tmp_path / "a.nii.gz")[0], np.rint(expected))
    raw = bytearray(nib.Nifti1Image(stored, AFFINE).to_bytes())
    raw[112:120] = struct.pack("<2f", 0.25, 0)  # scl_slope, scl_inter: the labels mean 0, 0.25, …
    (tmp_path / "b.nii").write_bytes(raw)
    assert "labels must be whole numbers" in refused(read_nifti_label, tmp_path / "b.nii")
    for odd in (0.0, np.nan):  # "no scaling" in the format's words
        raw[112:120] = struct.pack("<2f", odd, 5)
        (tmp_path / "c.nii").write_bytes(raw)
        np.testing.assert_array_equal(read_nifti_label(tmp_path / "c.nii")[0], stored.transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", ["a.nii", "a.nii.gz", "a.img", "a2.nii.gz"])
def test_forms_of_the_format(suffix: str, tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    kind = {"a.img": nib.Nifti1Pair, "a2.nii.gz": nib.Nifti2Image}.get(suffix, nib.Nifti1Image)
    read, spacing, _ = read_nifti(save(tmp_path / suffix, values, kind=kind))
    np.testing.assert_array_equal(read, values.transpose(2, 1, 0))
    assert spacing == (2, 1, 1)


def test_frames(tmp_path: Path) -> None:
    values = np.arange(180, dtype=np.int16).reshape(3, 4, 5, 3)
    path, one = save(tmp_path / "4d.nii.gz", values), save(tmp_path / "one.nii.gz", values[..., :1])
    five = save(tmp_path / "five.nii.gz", values[..., :1, None])
    vector = save(tmp_path / "vector.nii.gz", values[..., None, :])
    for file in (one, five):
        np.testing.assert_array_equal(read_nifti(file)[0], values[..., 0].transpose(2, 1, 0))
    np.testing.assert_array_equal(read_nifti(path, 2)[0], values[..., 2].transpose(2, 1, 0))
    assert f"{path} has 3 frames; number 4 is wanted." in refused(read_nifti, path, 3)
    assert f"{one} has 1 frame; number 2 is wanted." in refused(read_nifti, one, 1)
    assert "a volume has 3 axes" in refused(read_nifti, path)
    for frame in (None, 0):
        assert "a volume has 3 axes" in refused(read_nifti, vector, frame)
    flat = save(tmp_path / "flat.nii.gz", values[..., 0, 0])
    assert f"{flat}: 3 × 4 values; a volume has 3 axes." in refused(read_nifti, flat)


def _rgb(path: Path) -> None:
    values = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(values, AFFINE), path)


def _affine(rows: Any) -> Callable[[Path], None]:
    rows = np.asarray(rows, float)

    def write(path: Path) -> None:
        header(path, sform_code=2, srow_x=rows[0], srow_y=rows[1], srow_z=rows[2])

    return write


NOISE = np.random.default_rng(0).normal(size=(9, 9, 9))
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "colours": (_rgb, "colours"),
    "complex": (lambda p: save(p, np.zeros((3, 4, 5), np.complex64)), "complex numbers"),
    "a folder": (lambda p: p.mkdir(), "is a folder"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "nothing but a gzip header": (lambda p: p.write_bytes(gzip.compress(b"")), "cannot be read"),
    "cut": (lambda p: p.write_bytes(save(p, NOISE).read_bytes()[:900]), "cannot be read"),
    "text": (lambda p: p.write_text("<html>"), "cannot be read"),
    "no gzip": (lambda p: p.write_bytes(nib.Nifti1Image(np.zeros((3, 4, 5)), AFFINE).to_bytes()), "cannot be read"),
    "no such file": (lambda p: None, "does not exist"),
    "a header of 32767³": (lambda p: header(p, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "header is wrong"),
    "one of 2000³": (lambda p: header(p, dim=[3, 2000, 2000, 2000, 1, 1, 1, 1]), "header is wrong"),
    "one of 0 slices": (lambda p: header(p, dim=[3, 3, 4, 0, 1, 1, 1, 1]), ""),
    "one of negative size": (lambda p: header(p, dim=[3, 3, 4, -5, 1, 1, 1, 1]), ""),
    "unknown type": (lambda p: header(p, datatype=77), ""),
    "two axes in one direction": (_affine([[-1, -1, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0]]), "fall together"),
    "axes nearly in one direction": (_affine([[-1, -1, 0, 0], [0, 1e-5, 0, 0], [0, 0, 2, 0]]), "fall together"),
    "an axis of length 0": (_affine([[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 0]]), "spacing or unit is wrong"),
    "all zero": (_affine(np.zeros((3, 4))), "spacing or unit is wrong"),
    "NaN in the affine": (_affine([[-1, np.nan, 0, 0], [0, -1, 0, 0], [0, 0, 2, 0]]), "spacing or unit is wrong"),
    "NaN in the corner": (_affine([[-1, 0, 0, np.nan], [0, -1, 0, 0], [0, 0, 2, 0]]), "spacing or unit is wrong"),
    "infinite": (_affine([[-np.inf, 0, 0, 0], [0, -1, 0, 0], [0, 0, 2, 0]]), "spacing or unit is wrong"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_volume_is_refused_by_name(name: str, tmp_path: Path) -> None:
    write, expected = BROKEN[name]
    path = tmp_path / "a.nii.gz"
    write(path)
    for read in (read_nifti, read_nifti_label):
        text = refused(read, path)
        assert expected in text and str(path) in text.splitlines()[0], text


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path, own = save(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16)), os.geteuid()
    path.chmod(0)
    if own == 0:  # root reads every file
        os.seteuid(65534)
    try:
        assert f"{path} may not be read." in refused(read_nifti, path)
    finally:
        os.seteuid(own)


def test_a_true_volume_beyond_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda key: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 900}[key])
    text = refused(read_nifti, save(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16)))
    assert text.startswith(f"{tmp_path}/a.nii.gz: 3 × 4 × 5 values are more than this machine's memory holds.")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, -1.0, 2.0**33])
def test_values_that_no_label_has(value: float, tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5))
    values[1, 1, 1] = value
    path = save(tmp_path / "a.nii.gz", values)
    assert refused(read_nifti_label, path).startswith(f"{path}: labels must ")


MOVED: dict[str, Any] = {
    "shifted by a voxel": [[-1, 0, 0, 1], [0, -1, 0, 0], [0, 0, 2, 0]],
    "shifted by half a voxel": [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 2, 1]],
    "left and right exchanged": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 2, 0]],
    "two axes exchanged": [[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 2, 0]],
    "turned a little": [[-0.999, 0.0447, 0, 0], [-0.0447, -0.999, 0, 0], [0, 0, 2, 0]],
    "other slice distance": [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 2.2, 0]],
}


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("unit", ["mm", "meter", "micron"])
def test_a_label_on_another_grid_is_refused(name: str, unit: str, tmp_path: Path) -> None:
    """Also where the numbers are small, because the file counts in metres."""
    factor = {"mm": 1, "meter": 1e-3, "micron": 1e3}[unit]
    values, size = np.zeros((4, 4, 6), np.uint8), np.array([[factor], [factor], [factor], [1]])
    moved = np.vstack([MOVED[name], [0, 0, 0, 1]]) * size
    twins.save_nifti(tmp_path / "image.nii.gz", values, AFFINE * size, unit)
    twins.save_nifti(tmp_path / "label.nii.gz", values, moved, unit)
    text = refused(read_nifti_pair, "a", tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    assert text.startswith(f"{tmp_path}/label.nii.gz: image and label lie on different grids")


def test_rounded_headers_and_other_units_are_one_grid(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 6), np.uint8)
    twins.save_nifti(tmp_path / "image.nii.gz", values, AFFINE)
    twins.save_nifti(tmp_path / "label.nii.gz", values, AFFINE + np.full((4, 4), 4e-3) * (AFFINE != 0))
    twins.save_nifti(tmp_path / "metres.nii.gz", values, np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, "meter")
    for name in ("label", "metres"):
        read_nifti_pair("a", tmp_path / "image.nii.gz", tmp_path / f"{name}.nii.gz")


def test_a_shape_mismatch_is_named_by_new(tmp_path: Path) -> None:
    for name, shape in (("i", (4, 4, 6)), ("m", (4, 4, 5))):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "a.nii.gz", np.ones(shape, np.uint8))
    text = refused(look_at, tmp_path / "i", tmp_path / "m")
    assert text.startswith(f"{tmp_path}/m/a.nii.gz: image and label have different shapes.")
