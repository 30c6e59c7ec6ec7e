"""One image without a label, in whatever form it comes: what is read, what it is called, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import twins
from support.dicom_files import series

from lomix_search.data.readers.image import find_images, read_image
from lomix_search.data.readers.nifti import read_nifti_pair, write_nifti
from lomix_search.errors import DataError

RNG = np.random.default_rng(0)
AFFINE = np.diag([-0.5, 0.7, 2.0, 1.0])


def volume(path: Path, shape: tuple[int, ...] = (6, 5, 4), seed: int = 0) -> Path:
    values = np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)
    twins.save_nifti(path, values, AFFINE)
    return path


def fault(act: object, *args: object) -> str:
    with pytest.raises(DataError) as error:
        act(*args)  # type: ignore[operator]
    return str(error.value)


def test_a_nifti_volume_is_read_as_in_a_pair_and_written_back(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.nii.gz")
    twins.save_nifti(tmp_path / "l.nii.gz", np.ones((6, 5, 4), np.uint8), AFFINE)
    found, pair = read_image(path), read_nifti_pair("a", path, tmp_path / "l.nii.gz")
    np.testing.assert_array_equal(found.image, pair.image)
    assert (found.spacing, found.depth) == (pair.spacing, "volumes") and found.origin == pair.origin
    write_nifti(tmp_path / "back.nii.gz", (found.image[:, 0] + 900).astype(np.uint16), found.origin, found.spacing)
    np.testing.assert_array_equal(read_image(tmp_path / "back.nii.gz").image, found.image + 900)


def test_channels_of_one_file_or_of_several_are_the_same(tmp_path: Path) -> None:
    whole = RNG.normal(0, 1, (6, 5, 4, 3)).astype(np.float32)
    twins.save_nifti(tmp_path / "whole.nii.gz", whole, AFFINE)
    for n in range(3):
        twins.save_nifti(tmp_path / "parts" / f"p_{n:04d}.nii.gz", whole[..., n], AFFINE)
    ((name, files),) = find_images(tmp_path / "parts").items()
    assert name == "p" and [path.name for path in files] == [f"p_{n:04d}.nii.gz" for n in range(3)]
    one, parts = read_image(tmp_path / "whole.nii.gz"), read_image(files)
    assert one.image.shape == (4, 3, 5, 6) and one.spacing == pytest.approx((2.0, 0.7, 0.5))
    np.testing.assert_array_equal(one.image, parts.image)
    assert one.origin["shape"] == [6, 5, 4] and one.origin["affine"] == parts.origin["affine"]


def test_channels_that_do_not_lie_on_one_grid_are_refused(tmp_path: Path) -> None:
    one = volume(tmp_path / "a_0000.nii.gz")
    twins.save_nifti(tmp_path / "a_0001.nii.gz", np.zeros((6, 5, 4), np.int16), np.diag([-0.5, 0.7, 3.0, 1.0]))
    text = fault(read_image, [one, tmp_path / "a_0001.nii.gz"])
    assert text.startswith(f"{tmp_path}/a_0001.nii.gz: channel and channel lie on different grids")
    text = fault(read_image, [one, volume(tmp_path / "b.nii.gz", (6, 5, 3))])
    assert text.startswith(f"{tmp_path}/b.nii.gz: channel and channel have different shapes.")


def test_pictures_keep_their_numbers(tmp_path: Path) -> None:
    grey, wide = RNG.integers(0, 256, (8, 9)).astype(np.uint8), RNG.integers(0, 65536, (8, 9)).astype(np.uint16)
    for name, values in {"grey_0000": grey, "grey_0001": 255 - grey, "wide": wide}.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    found = read_image(tmp_path / "wide.png")
    np.testing.assert_array_equal(found.image[0, 0], wide)
    assert (found.image.dtype, found.depth) == (np.uint16, "integers of 16 bits")
    assert found.origin == {"size": [8, 9]} and found.spacing == ()
    assert read_image(tmp_path / "grey_0000.png").image.shape == (1, 3, 8, 9)
    both = read_image([tmp_path / "grey_0000.png", tmp_path / "grey_0001.png"]).image
    np.testing.assert_array_equal(both[0], np.stack([grey, 255 - grey]))


def test_all_images_of_a_folder_are_found_by_name(tmp_path: Path) -> None:
    volume(tmp_path / "x" / "p1_0000.nii.gz"), volume(tmp_path / "x" / "p2_0000.nii.gz")
    Image.new("L", (4, 4)).save(tmp_path / "cell_7.png")
    (tmp_path / "notes.txt").write_text("no image")
    slices = series(tmp_path / "scan", np.zeros((3, 4, 5), np.int16))
    found = find_images(tmp_path)
    assert list(found) == ["cell_7", "scan", "x/p1", "x/p2"] and sorted(found["scan"]) == sorted(slices)


def test_labels_beside_images_are_left_out(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a_seg.nii.gz", "labels/b.nii.gz", "p/image.nii.gz", "p/label.nii.gz", "lone_mask.nii.gz"):
        volume(tmp_path / name)
    (tmp_path / "a.seg.nrrd").write_bytes(b"a label")
    assert list(find_images(tmp_path)) == ["a", "lone_mask", "p/image"]


def test_numbers_of_frames_are_no_channels(tmp_path: Path) -> None:
    for n in range(6):
        Image.new("L", (4, 4)).save(tmp_path / f"frame_{n:04d}.png")
    assert list(find_images(tmp_path)) == [f"frame_{n:04d}" for n in range(6)]


def test_what_is_missing_or_there_twice_is_named(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000"):
        volume(tmp_path / f"{name}.nii.gz")
    assert "b lacks 0001" in fault(find_images, tmp_path)
    volume(tmp_path / "b_0001.nii.gz"), volume(tmp_path / "b_0001.nii")
    assert "are of one name" in fault(find_images, tmp_path)
    assert "is not a folder" in fault(find_images, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert fault(find_images, tmp_path / "empty").startswith(f"{tmp_path}/empty holds no images that are read here.")
    (tmp_path / "text.txt").write_text("x")
    assert "is of a kind that is not read here" in fault(read_image, tmp_path / "text.txt")
    (tmp_path / "arrays/labels").mkdir(parents=True)
    for name in ("a.npz", "b.npz", "c.H5", "labels/a.nii.gz", ".hidden.gif"):
        (tmp_path / "arrays" / name).touch()
    said = fault(find_images, tmp_path / "arrays")
    assert "Seen: 2 of .npz, e.g. a.npz\n" in said and "1 of .h5, e.g. c.H5" in said and ".gif" not in said
    assert "1 look like labels" in said and "nibabel.save(" in said and "lomix prepare acdc RAW OUT" in said


def test_a_dicom_series_is_a_volume_on_its_own_grid(tmp_path: Path) -> None:
    values = RNG.integers(0, 1000, (3, 4, 5)).astype(np.int16)
    series(tmp_path / "s", values, step=2.5, pixel=(0.7, 0.5))
    found = read_image(tmp_path / "s")
    np.testing.assert_array_equal(found.image[:, 0], values)  # axial: rows to the back, columns to the left
    assert found.spacing == pytest.approx((2.5, 0.7, 0.5)) and found.origin["modality"] == "MR"
    upright = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)  # coronal: rows run down from the head
    series(tmp_path / "c", values, turned=upright)
    np.testing.assert_array_equal(read_image(tmp_path / "c").image[:, 0], values[:, ::-1].transpose(1, 0, 2))


def test_a_series_that_is_no_grid_is_refused(tmp_path: Path) -> None:
    files = series(tmp_path / "s", np.zeros((6, 4, 5), np.int16))
    files[2].unlink()
    text = fault(read_image, tmp_path / "s")
    assert "do not form one grid" in text and "slice distances 1 … 2 mm" in text
    series(tmp_path / "z", np.zeros((3, 4, 5), np.int16), pixel=(0.0, 0.0))
    assert "PixelSpacing must be above 0" in fault(read_image, tmp_path / "z")
    series(tmp_path / "s", np.zeros((6, 4, 5), np.int16), name="other")
    assert "2 series" in fault(read_image, tmp_path / "s")
