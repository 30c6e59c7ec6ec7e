"""What is odd about a data set is told by name, and nothing is said of one that is well."""

from pathlib import Path

from support.own_layout import TEN, case, flip, validated, written, written_ten
from support.preparing import settings

from lomix_search.data.case import Case
from lomix_search.data.kinds import prepared
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe


def test_nothing_is_said_of_data_that_are_well(tmp_path: Path) -> None:
    found = validated(written_ten(tmp_path), tmp_path)
    assert found.faults == () and found.warnings == (
        "one patient validates; what is chosen by it may not hold for others.",
    )


def test_odd_cases_are_told_by_name(tmp_path: Path) -> None:
    made = TEN | {
        "c2": Case("c2", case(2).label[:, None] * 40.0 + 3, case(2).label, (2.0, 1.0, 1.0)),  # image and mask are one
        "c3": case(3, ()),  # empty
        "c4": case(4, (1,)),  # lacks a class
        "c5": Case("c5", case(6).image, case(5).label, (2.0, 1.0, 1.0)),  # the same image as c6
        "c7": Case("c7", case(7).image, case(8).label, (2.0, 1.0, 1.0)),  # the same mask as c8
    }
    out = written(tmp_path, **made)
    part = {
        n: p for p in ("train", "val", "test") for n in getattr(prepared.splits_of(settings(out, ("one", "two")))[1], p)
    }
    warnings = validated(out, tmp_path).warnings
    assert f"c2 ({part['c2']}): image and label are one picture; there is nothing to learn." in warnings
    assert f"c3 ({part['c3']}): the label is empty." in warnings
    assert f"class 'two' is lacking in 1 of 10 cases: c4 ({part['c4']})." in warnings
    told = "what is learned from one is tested on the other" if part["c5"] != part["c6"] else "one counts twice"
    assert any(w.startswith("c5 (") and f"c6 ({part['c6']}) have the same image; {told}." in w for w in warnings)
    assert "c7, c8: different images have the same label, to the pixel." in warnings
    assert len(warnings) == 6 + sum(w.startswith("one patient validates") for w in warnings), warnings


def test_a_class_that_no_case_has(tmp_path: Path) -> None:
    made = {f"c{i}": case(i, (1,)) for i in range(10)}
    assert "class 'two' is in no case of any set." in validated(written(tmp_path, **made), tmp_path).warnings


def test_damaged_files_are_faults(tmp_path: Path) -> None:
    out = written_ten(tmp_path)
    flip(out / "cases" / "c3" / "image.npy")
    flip(out / "cases" / "c4" / "label.npy", 20)
    assert validated(out, tmp_path).faults == (
        f"{out}/cases/c3/image.npy was changed after it was prepared",
        f"{out}/cases/c4/label.npy was changed after it was prepared",
    )


def test_the_same_slice_on_both_sides_of_a_split_of_items(tmp_path: Path) -> None:
    """For data of a user's own code too: every item is read once, without augmentation."""
    (tmp_path / "parts.py").write_text(
        """
import numpy as np
from lomix_search.data.dataset import Slices, Splits

def data():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, (9, 16, 16))
    images = draw.normal(0, 1, (9, 1, 16, 16)).astype(np.float32)
    images[7], images[5], labels[3] = images[0], 4.0, 0
    def wild(image, label):
        raise RuntimeError("augmented")
    def part(start, stop, augment=None):
        names = [f"case{i}" for i in range(start, stop)]
        return Slices(images[start:stop], labels[start:stop], names, num_classes=3, augment=augment)
    return Splits(part(0, 6, wild), part(6, 8), part(8, 9), ("background", "a", "b"), 1)
"""
    )
    (tmp_path / "recipe.toml").write_text(
        '[data]\nkind = "parts.py:data"\n[network]\nbuild = "monai.networks.nets:BasicUNet"\n[space]\nname = "lomix"\n'
    )
    warnings = validate_recipe(load_recipe(tmp_path / "recipe.toml"), network=False).warnings
    assert "case5 (train): the image has one value; nothing can be seen in it." in warnings
    assert "case3 (train): the label is empty." in warnings
    both = "case0, item 0 (train), case7, item 1 (val) have the same image"
    assert f"{both}; what is learned from one is tested on the other." in warnings
