"""NRRD, MetaImage and TIFF stacks: each is read as the NIfTI file of the same voxels, or refused by name."""

from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import grid_files, twins
from support.picture_files import tiff

from lomix_search.data.readers.formats import format_of
from lomix_search.data.readers.image import RawImage, read_image
from lomix_search.data.readers.nrrd_file import segment_names
from lomix_search.errors import DataError

RNG = np.random.default_rng(0)
VALUES = RNG.integers(-900, 900, (6, 5, 4)).astype(np.int16)
TURNED = nib.orientations.inv_ornt_aff([[1, -1], [0, 1], [2, -1]], VALUES.shape) * [0.5, 0.7, 2, 1]
AFFINE = TURNED @ np.diag([1.0, 1, 1, 1])
LPS = grid_files.lps(AFFINE)


def as_nifti(folder: Path, values: NDArray[Any] = VALUES) -> RawImage:
    twins.save_nifti(folder / "same.nii.gz", values, AFFINE)
    return read_image(folder / "same.nii.gz")


def save_nrrd(path: Path, values: NDArray[Any] = VALUES, **more: Any) -> Path:
    return grid_files.save_nrrd(path, values, AFFINE, **more)


def save_meta(path: Path, values: NDArray[Any] = VALUES, packed: bool = False, **more: str) -> Path:
    return grid_files.save_meta(path, values, AFFINE, packed, **more)


def same(found: RawImage, wanted: RawImage) -> None:
    np.testing.assert_array_equal(found.image, wanted.image)
    assert found.spacing == pytest.approx(wanted.spacing) and found.depth == "volumes"
    np.testing.assert_allclose(found.origin["affine"], wanted.origin["affine"], atol=1e-5)
    assert found.origin["shape"] == wanted.origin["shape"]


def fault(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_image(path)
    return str(error.value)


def test_nrrd(tmp_path: Path) -> None:
    wanted = as_nifti(tmp_path)
    same(read_image(save_nrrd(tmp_path / "a.nrrd")), wanted)
    ras = {"space": "RAS", "space directions": AFFINE[:3, :3].T, "space origin": AFFINE[:3, 3]}
    same(read_image(save_nrrd(tmp_path / "b.nrrd", **ras)), wanted)
    many = np.stack([VALUES, -VALUES])
    directions = np.vstack([np.full(3, np.nan), LPS[:3, :3].T])
    kinds = ["list", "domain", "domain", "domain"]
    both = read_image(save_nrrd(tmp_path / "c.nrrd", many, **{"space directions": directions, "kinds": kinds}))
    np.testing.assert_array_equal(both.image, np.concatenate([wanted.image, -wanted.image], 1))
    unknown = {"space": None, "space directions": None, "space origin": None}
    assert read_image(save_nrrd(tmp_path / "d.nrrd", **unknown)).spacing == ()


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "packed.mha", "packed.mhd"])
def test_metaimage(name: str, tmp_path: Path) -> None:
    same(read_image(save_meta(tmp_path / name, packed=name.startswith("packed"))), as_nifti(tmp_path))


def test_metaimage_of_other_orders(tmp_path: Path) -> None:
    swapped = save_meta(tmp_path / "b.mha", VALUES.byteswap(), BinaryDataByteOrderMSB="True")
    same(read_image(swapped), as_nifti(tmp_path))
    both = save_meta(tmp_path / "c.mha", np.stack([VALUES, -VALUES]), ElementNumberOfChannels="2")
    wanted = read_image(tmp_path / "b.mha").image
    np.testing.assert_array_equal(read_image(both).image, np.concatenate([wanted, -wanted], 1))


def test_a_tiff_of_several_pages_is_a_volume(tmp_path: Path) -> None:
    for kind in (np.uint8, np.uint16, np.float32):
        values = RNG.integers(0, 250, (3, 8, 9)).astype(kind)
        pages = [Image.fromarray(page) for page in values]
        pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:])
        found = read_image(tmp_path / "s.tif")
        np.testing.assert_array_equal(found.image[:, 0], values)
        assert found.image.dtype == kind and found.depth == "volumes" and found.origin == {"pages": 3}
    pages[0].save(tmp_path / "o.tif", save_all=True, append_images=[pages[1].resize((4, 4))])
    assert fault(tmp_path / "o.tif").startswith(f"{tmp_path}/o.tif: page 2 is not like the first")
    assert read_image(tiff(tmp_path / "one.tif", values[0])).depth == "floats of 32 bits"


def test_segments_keep_numbers_and_names(tmp_path: Path) -> None:
    label = RNG.integers(0, 3, (6, 5, 4)).astype(np.uint8)
    named = {
        "Segment0_Name": "liver",
        "Segment0_LabelValue": "1",
        "Segment1_Name": "tumour",
        "Segment1_LabelValue": "2",
    }
    path = save_nrrd(tmp_path / "s.seg.nrrd", label, **named)
    kind = format_of(path)
    assert kind is not None and kind.read_label is not None
    np.testing.assert_array_equal(kind.read_label(path)[0], as_nifti(tmp_path, label).image[:, 0])
    assert segment_names(path) == {1: "liver", 2: "tumour"}
    many = {"space directions": np.vstack([np.full(3, np.nan), LPS[:3, :3].T]), "kinds": ["list"] + ["domain"] * 3}
    with pytest.raises(DataError, match="segments that overlap, in 2 layers"):
        kind.read_label(save_nrrd(tmp_path / "o.seg.nrrd", np.stack([label, label]), **many))


def test_what_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    path = save_nrrd(tmp_path / "zero.nrrd", **{"space directions": LPS[:3, :3].T * [[0], [1], [1]]})
    assert fault(path).startswith(f"{path}: the header's spacing or unit is wrong.")
    path = save_meta(tmp_path / "zero.mha", ElementSpacing="0 1 1")
    assert fault(path).startswith(f"{path}: the header's spacing or unit is wrong.")
    path = save_meta(tmp_path / "cut.mha")
    path.write_bytes(path.read_bytes()[:-1])
    assert "its header says 240 bytes of values, and cut.mha has 239" in fault(path)
    path = save_meta(tmp_path / "far.mhd", ElementDataFile="there.raw")
    path.write_text(path.read_text().replace("there.raw", "../there.raw"))
    assert "another folder are not followed" in fault(path)
    path = save_nrrd(tmp_path / "cut.nrrd")
    path.write_bytes(path.read_bytes()[:-30])
    assert f"{path} cannot be read" in fault(path)
    detached = tmp_path / "d.nhdr"
    nrrd.write(str(detached), VALUES)
    detached.rename(tmp_path / "d.nrrd")
    assert "lie in another file, which is not followed" in fault(tmp_path / "d.nrrd")
    assert "a volume has 3" in fault(save_nrrd(tmp_path / "flat.nrrd", VALUES[0], **{
        "space": None, "space directions": None, "space origin": None}))  # fmt: skip
    (tmp_path / "no.mha").write_bytes(b"\x00" * 2000)
    assert f"{tmp_path}/no.mha cannot be read" in fault(tmp_path / "no.mha")
