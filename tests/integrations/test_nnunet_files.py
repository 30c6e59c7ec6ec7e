"""Files as nnU-Net's own writer leaves them since 2.6: read as what they hold, never computed or unpickled."""

import os
from pathlib import Path

import numpy as np
import pytest
import support.shims.sitecustomize  # noqa: F401 — nnU-Net imports torchvision
from support import own_folders as own

from lomix_search.data.folders.new_images import find_new_images, read_new_image
from lomix_search.data.readers.preprocessed_file import read_image_array
from lomix_search.errors import DataError, LomixError

pytestmark = pytest.mark.nnunet


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of ``own.preprocessed``, written anew by nnU-Net; its properties would do harm if they were loaded."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    made = own.preprocessed(tmp_path / "d")
    folder = made / "nnUNetPlans_3d_fullres"
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            data, seg = arrays["data"], arrays["seg"].astype(np.int8)
        blocks = {"chunks": (1, 6, 9, 10), "blocks": (1, 3, 9, 5)}
        nnUNetDatasetBlosc2.save_case(data, seg, {"spacing": Bomb()}, str(folder / path.stem), **blocks)
        path.rename(made / path.name)
    return made


def test_packed_files_are_read_as_those_of_before(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = own.plan(tmp_path, root)
    plan.write(progress=False)
    found = own.decided(plan)
    assert (found["cases"], found["spacing"], found["modality"]) == ("6", "1.5 × 1 × 1 mm", "CT")
    assert found["intensities"] == "as nnU-Net has left them" and found["2D or 3D"] == "3D"
    for name, files in find_new_images(root).items():
        with np.load(root / f"{name}.npz") as before:
            image, label = before["data"].swapaxes(0, 1), np.where(before["seg"][0] < 0, 0, before["seg"][0])
        np.testing.assert_array_equal(read_new_image(files).image, image)
        case = tmp_path / "recipe/data/cases" / name
        np.testing.assert_array_equal(np.load(case / "image.npy"), image.astype(np.float16))
        np.testing.assert_array_equal(np.load(case / "label.npy"), label)
    assert not (tmp_path / "exploded").exists()


def test_what_would_be_computed_or_holds_no_numbers_is_refused(tmp_path: Path) -> None:
    import blosc2

    folder = tmp_path / "nnUNetPlans_3d_fullres"
    folder.mkdir()
    (tmp_path / "nnUNetPlans.json").write_text("{}")
    one = blosc2.ones((1, 4, 4, 4), urlpath=str(tmp_path / "one.b2nd"), mode="w")
    (one + 1).save(urlpath=str(folder / "lazy.b2nd"), mode="w")
    blosc2.ones((4, 4, 4), urlpath=str(folder / "flat.b2nd"), mode="w")
    blosc2.zeros((1, 4, 4, 4), dtype="S3", urlpath=str(folder / "words.b2nd"), mode="w")
    blosc2.zeros((1, 1 << 20, 1 << 20, 64), dtype="f8", urlpath=str(folder / "large.b2nd"), mode="w")
    (folder / "cut.b2nd").write_bytes((tmp_path / "one.b2nd").read_bytes()[:90])
    for name, said in (
        ("lazy", "cannot be read"), ("flat", "need channels, slices, rows and columns"),
        ("words", "need one real number a voxel"), ("large", "more than this machine's memory holds"),
        ("cut", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said) as caught:
            read_image_array(folder / f"{name}.b2nd")
        assert isinstance(caught.value, LomixError) and f"{name}.b2nd" in str(caught.value)
