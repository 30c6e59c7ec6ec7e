"""Volumes of every type and header: read as what they are, or refused by name. Right values come from the arrays that
were written, or from nibabel's own reading."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from support import twins
from support.preparing import PATIENTS, fails, go

from lomix_search.data.benchmarks.acdc import find_acdc
from lomix_search.data.intensities import scale_intensities
from lomix_search.data.readers.nifti import read_nifti, read_nifti_label, read_nifti_pair
from lomix_search.data.readers.npz_h5 import read_h5, read_npz
from lomix_search.data.readers.values import whole_labels
from lomix_search.errors import DataError
from lomix_search.recipe.own_data import look_at

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])  # the canonical axes but for their order


def refused(read: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(DataError) as error:
        read(*args)
    return str(error.value)


def save(path: Path, values: Any, affine: Any = AFFINE, kind: Any = nib.Nifti1Image, **header: Any) -> Path:
    image = kind(values, affine, dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    if "slope" in header:
        image.header.set_slope_inter(header["slope"], header.get("intercept", 0))
    nib.save(image, path)
    return path


# -- values ------------------------------------------------------------------------------------------------------------


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


def test_wide_numbers_keep_their_contrast(tmp_path: Path) -> None:
    """A billion and a little more: float32 has steps of 64 there."""
    values = (1_000_000_000 + np.arange(60).reshape(3, 4, 5)).astype(np.int32)
    read = read_nifti(save(tmp_path / "a.nii.gz", values))[0]
    np.testing.assert_array_equal(read, values.transpose(2, 1, 0))
    scaled = scale_intensities(read[:, None], "mr", Path("a"))
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(scaled[:, 0], ((values.transpose(2, 1, 0) - low) / (high - low)).clip(0, 1), atol=1e-3)


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


def _header(path: Path, **fields: Any) -> None:
    """Write a file whose header says something else than its data."""
    raw = bytearray(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), AFFINE).to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))


def _affine(rows: Any) -> Callable[[Path], None]:
    rows = np.asarray(rows, float)

    def write(path: Path) -> None:
        _header(path, sform_code=2, srow_x=rows[0], srow_y=rows[1], srow_z=rows[2])

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
    "a header of 32767³": (lambda p: _header(p, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "header is wrong"),
    "one of 2000³": (lambda p: _header(p, dim=[3, 2000, 2000, 2000, 1, 1, 1, 1]), "header is wrong"),
    "one of 0 slices": (lambda p: _header(p, dim=[3, 3, 4, 0, 1, 1, 1, 1]), ""),
    "one of negative size": (lambda p: _header(p, dim=[3, 3, 4, -5, 1, 1, 1, 1]), ""),
    "unknown type": (lambda p: _header(p, datatype=77), ""),
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


# -- grids of image and label ------------------------------------------------------------------------------------------

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


# -- intensities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1e-5, 1e-3, 4e-3, 6e-3, 0.03])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_small_bright_body_is_not_lost(share: float, sign: int) -> None:
    """Few voxels differ from the air around them: they keep their order and most of their contrast."""
    rng, image = np.random.default_rng(0), np.zeros(100_000, np.float32)
    body = rng.choice(image.size, round(share * image.size), replace=False)
    image[body] = rng.uniform(100, 200, len(body))
    scaled = scale_intensities(sign * image.reshape(10, 1, 100, 100), "mr", Path("a")).ravel().astype(float)
    assert scaled.min() == 0 and scaled.max() == 1
    expected = image / np.percentile(image[body], 99.5)
    np.testing.assert_allclose(scaled if sign > 0 else 1 - scaled, expected.clip(0, 1), atol=2e-3)


def test_other_mr_volumes_are_scaled_by_their_percentiles() -> None:
    rng = np.random.default_rng(0)
    for image in (
        rng.normal(50, 9, (4, 1, 30, 30)),
        rng.uniform(0, 1e-7, (4, 1, 30, 30)),
        rng.normal(0, 1e9, (4, 1, 30, 30)),
    ):
        low, high = np.percentile(image, (0.5, 99.5))
        expected = ((image - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(scale_intensities(image.astype(np.float32), "mr", Path("a")), expected, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e9])
def test_a_constant_volume_is_scaled_to_a_constant(value: float) -> None:
    assert np.ptp(scale_intensities(np.full((2, 1, 5, 5), value, np.float32), "mr", Path("a"))) == 0


# -- npz and h5 --------------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def _liar(path: Path) -> None:
    """An array whose header claims 32767³ values."""
    import io
    import zipfile

    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (32767,) * 3})
    with zipfile.ZipFile(path, "w") as archive:
        for key in ("image", "label"):
            archive.writestr(f"{key}.npy", content.getvalue() + b"\0" * 64)


VOLUME = np.ones((2, 3, 4), np.float32)
NPZ: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no label": (lambda p: np.savez(p, image=VOLUME), "has no label"),
    "other case": (lambda p: np.savez(p, Image=VOLUME, Label=VOLUME), "has no image and no label"),
    "objects": (lambda p: np.savez(p, image=VOLUME, label=np.array([Evil()], object)), "never loaded"),
    "strings": (lambda p: np.savez(p, image=np.array(["a"]), label=VOLUME), "one real number"),
    "complex": (lambda p: np.savez(p, image=VOLUME * 1j, label=VOLUME), "complex"),
    "records": (lambda p: np.savez(p, image=np.zeros(3, [("a", "f4")]), label=VOLUME), "records"),
    "swapped": (lambda p: np.savez(p, image=VOLUME, label=VOLUME * 0.3), "labels must be whole"),
    "shapes": (lambda p: np.savez(p, image=VOLUME, label=VOLUME[1:]), "different shapes"),
    "a slice": (lambda p: np.savez(p, image=VOLUME[0], label=VOLUME[0]), "a volume has 3 axes"),
    "channels": (lambda p: np.savez(p, image=VOLUME[None], label=VOLUME[None]), "a volume has 3 axes"),
    "nothing": (lambda p: np.savez(p, image=VOLUME[:0], label=VOLUME[:0]), "a volume has 3 axes"),
    "npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01\0v\0"), "cannot be read"),
    "a header of 32767³": (_liar, "cannot be read"),
    "cut": (lambda p: (np.savez(p, image=VOLUME, label=VOLUME), p.write_bytes(p.read_bytes()[:300])), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", NPZ)
def test_npz_faults_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npz"
    NPZ[name][0](path)
    text = refused(read_npz, path, "image", 3)
    assert NPZ[name][1] in text and str(path) in text.splitlines()[0], text
    assert not (tmp_path / "evil").exists()


def _h5(**content: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path.parent / "other.h5", "w") as other:
            other["image"] = VOLUME
        (path.parent / "secret.bin").write_bytes(VOLUME.tobytes())
        with h5py.File(path, "w") as file:
            for key, value in ({"image": VOLUME, "label": VOLUME} | content).items():
                if callable(value):
                    value(file, key)
                elif value is not None:
                    file[key] = value

    return write


def _virtual(file: Any, key: str) -> None:
    layout = h5py.VirtualLayout(VOLUME.shape, "f4")
    layout[:] = h5py.VirtualSource("other.h5", "image", VOLUME.shape)
    file.create_virtual_dataset(key, layout)


H5: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no label": (_h5(label=None), "has no label"),
    "external link": (_h5(image=h5py.ExternalLink("other.h5", "/image")), "is a link"),
    "soft link": (_h5(image=h5py.SoftLink("/label")), "is a link"),
    "broken link": (_h5(label=h5py.ExternalLink("/etc/passwd", "/label")), "is a link"),
    "virtual": (_h5(image=_virtual), "lies in other files"),
    "raw storage": (
        _h5(
            image=lambda f, k: f.create_dataset(k, VOLUME.shape, "f4", external=[("secret.bin", 0, h5py.h5f.UNLIMITED)])
        ),
        "lies in other files",
    ),
    "a group": (_h5(label=lambda f, k: f.create_group(k)), "no array"),
    "text": (_h5(image="hello"), "one real number"),
    "objects": (_h5(image=lambda f, k: f.create_dataset(k, (3,), h5py.vlen_dtype(np.int32))), "never loaded"),
    "complex": (_h5(image=VOLUME * 1j), "complex"),
    "shapes": (_h5(label=VOLUME[1:]), "different shapes"),
    "fractions": (_h5(label=VOLUME * 0.5), "labels must be whole"),
    "a number": (_h5(image=np.float32(1), label=np.float32(1)), "a volume has 3 axes"),
    "nothing": (_h5(image=h5py.Empty("f4")), ""),
    "never written": (_h5(image=lambda f, k: f.create_dataset(k, (32767,) * 3, "f4", chunks=True)), "never written"),
    "text file": (lambda p: p.write_text("hello"), "cannot be read"),
    "cut": (lambda p: (_h5()(p), p.write_bytes(p.read_bytes()[:1000])), "cannot be read"),
}


@pytest.mark.parametrize("name", H5)
def test_h5_faults_are_named_and_other_files_never_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    H5[name][0](path)
    text = refused(read_h5, path)
    assert H5[name][1] in text and str(path) in text.splitlines()[0], text


def test_npz_and_h5_keep_their_values(tmp_path: Path) -> None:
    label = np.arange(24, dtype=np.int64).reshape(2, 3, 4) * 100
    np.savez(tmp_path / "a.npz", image=VOLUME.astype(np.float16), label=label)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = VOLUME
        file.create_dataset("label", data=label, compression="gzip")
    for image, read in (read_npz(tmp_path / "a.npz", "image", 3), read_h5(tmp_path / "a.h5")):
        np.testing.assert_array_equal(read, label)
        assert image.dtype == np.float32


# -- folders -----------------------------------------------------------------------------------------------------------


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0003"], size=32)
    (raw / "again").mkdir()
    again = raw / "again" / "img0003.nii.gz"
    again.write_bytes((raw / "img" / "img0003.nii.gz").read_bytes())
    assert fails("synapse", raw, tmp_path / "out") == (
        f"{again} and {raw}/img/img0003.nii.gz are of one name; it must be clear which is meant.\n"
        "  Try:  move one of them away"
    )
    again.rename(raw / "img" / "img3.nii.gz")
    assert "are of one name" in fails("synapse", raw, tmp_path / "out")


def test_plain_and_packed_frames_of_one_name_are_refused(tmp_path: Path) -> None:
    raw = twins.acdc_raw(tmp_path / "raw", PATIENTS[:2])
    label = raw / "training" / "patient001" / "patient001_frame01_gt.nii.gz"
    nib.save(nib.load(label), label.with_suffix(""))
    text = fails("acdc", raw, tmp_path / "out")
    assert text.startswith("prepare acdc: 1 of 3 cases failed") and "are of one name" in text


def test_every_acdc_npz_is_read(tmp_path: Path) -> None:
    """Volumes named with and without a line between; a name of another form is told, not dropped."""
    raw = twins.acdc_npz(tmp_path / "raw")
    names = {source.name for source in find_acdc(raw)}
    assert len(names) == 12 and {f"{p}_{phase}" for p in twins.ACDC.test[:2] for phase in ("ED", "ES")} <= names
    (raw / "test" / "case_777_whole.npz").write_bytes(b"")
    assert "case_777_whole.npz" in refused(find_acdc, raw)


def test_slices_of_one_number_in_two_folders_are_refused(tmp_path: Path) -> None:
    raw = twins.acdc_npz(tmp_path / "raw")
    path = next((raw / "train").glob("*sliceED_1.npz"))
    (raw / "valid" / path.name).write_bytes(path.read_bytes())
    assert "are of one name" in refused(find_acdc, raw)
    path.unlink()
    text = fails("acdc", raw, tmp_path / "out")
    assert "lie in several folders" in text and "1 of 12 cases failed" in text


def test_a_dicom_folder_may_be_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = twins.nodules_raw(tmp_path / "raw", patients=1)
    monkeypatch.chdir(raw / "pat_1")
    assert [e.name for e in go("chest_nodules", Path(), tmp_path / "out").cases] == ["pat_1"]


def test_one_bad_file_of_any_kind_does_not_stop_the_others(tmp_path: Path) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0003", "case0005", "case0006"], size=32)
    _header(raw / "img" / "img0003.nii.gz", dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    (raw / "label" / "label0005.nii.gz").unlink()
    (raw / "label" / "label0005.nii.gz").symlink_to(raw / "img" / "img0005.nii.gz")
    text = fails("synapse", raw, tmp_path / "out")
    assert text.startswith("prepare synapse: 2 of 4 cases failed; the other 2 are kept")
    assert "img0003.nii.gz" in text and "label0005.nii.gz" in text
    assert sorted(p.name for p in (tmp_path / "out" / "cases").iterdir()) == ["case0001", "case0006"]
