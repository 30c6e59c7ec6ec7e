"""The embedded CT: its splits, values and orientation, and what is said where its files are not what they were."""

import re
from pathlib import Path

import numpy as np
import pytest

from lomix_search.data.kinds import chest_ct
from lomix_search.errors import DataError, MissingExtraError


def test_chest_ct_splits() -> None:
    splits = chest_ct.load_chest_ct(chest_ct.ChestCTSettings())
    assert (len(splits.train), len(splits.val), len(splits.test)) == (20, 4, 6)
    assert splits.classes == ("background", "ribs", "spine", "right lung", "left lung", "soft tissue")
    assert splits.channels == 1 and splits.spacing == pytest.approx((10, 3.046876, 3.046876))
    numbers = [[int(name.split()[-1]) for name in part.names] for part in (splits.train, splits.val, splits.test)]
    assert numbers[1] == [25, 26, 27, 28] and numbers[2] == [16, 17, 18, 19, 20, 21]
    for one in range(3):
        for other in range(one):
            assert min(abs(a - b) for a in numbers[one] for b in numbers[other]) >= 2, "neighbours across sets"
    for part in (splits.val, splits.test):
        assert all(set(part[i][1].unique().tolist()) == set(range(6)) for i in range(len(part)))


def test_chest_ct_values_and_orientation() -> None:
    image, label, _ = chest_ct.read_chest_ct()
    assert image.shape == label.shape == (34, 128, 128)
    assert image.min() == 0 and image.max() == 1
    means = [float(image[label == c].mean()) * 2000 - 1000 for c in range(6)]
    assert means[3] < -700 and means[4] < -700, "lungs are air"
    assert means[1] > 100 and means[2] > 100, "bone"
    assert -100 < means[5] < 100, "soft tissue"
    centre = {c: np.argwhere(label == c).mean(0) for c in (2, 3, 4)}
    assert centre[3][2] < centre[4][2] - 20, "the patient's right lies on the left of the picture"
    assert centre[2][1] > centre[3][1] + 10, "the spine lies at the back, below the lungs in the picture"
    assert np.argwhere(label[0] == 3).size == 0 and (label[16] == 3).any(), "slices run from the feet to the head"


def test_chest_ct_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="slice 15, 16 is a test slice or next to one; take 0–14 or 23–33"):
        chest_ct.ChestCTSettings(validation_slices=(14, 15, 16))
    with pytest.raises(ValueError, match="at least one slice"):
        chest_ct.ChestCTSettings(validation_slices=())
    with pytest.raises(DataError, match="no training slices are left"):
        chest_ct.load_chest_ct(chest_ct.ChestCTSettings(validation_slices=(*range(15), *range(23, 34))))


def test_chest_ct_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chest_ct.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as error:
        chest_ct.load_chest_ct(chest_ct.ChestCTSettings())
    assert str(error.value) == (
        "the embedded CT lies in the package slicerio, which is not installed.\n"
        '  Try:  pip install "lomix-search[demo]"'
    )


def test_chest_ct_refuses_another_grid_and_other_names() -> None:
    head = {"space": "lps", "sizes": [1, 2], "space directions": np.eye(3), "space origin": np.zeros(3)}
    with pytest.raises(DataError, match="does not lie on the grid"):
        chest_ct._check_grid(head, head | {"space origin": np.array([0, 0, 3.0])})
    with pytest.raises(DataError, match="names other structures than expected"):
        chest_ct._class_table({"Segment0_Name": "heart", "Segment0_LabelValue": "1"})


@pytest.mark.parametrize("file", ["CTChest4.nrrd", "Segmentation.seg.nrrd"])
def test_chest_ct_names_a_file_that_is_damaged(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in chest_ct._folder().glob("*.nrrd"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(chest_ct, "_folder", lambda: tmp_path)
    content = (tmp_path / file).read_bytes()
    for spoiled in (content[:200], content[:-500], b"", content.replace(b"space origin", b"space orjgin")):
        (tmp_path / file).write_bytes(spoiled)
        with pytest.raises(DataError, match=re.escape(str(tmp_path / file))):
            chest_ct.read_chest_ct()
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match="does not exist"):
        chest_ct.read_chest_ct()
