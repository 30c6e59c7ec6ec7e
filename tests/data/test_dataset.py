"""Items, order and seeds; the embedded CT; augmentation."""

import pickle
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lomix_search.data.augment import SCHEMES, augmentation
from lomix_search.data.dataset import Slices
from lomix_search.data.kinds import chest_ct
from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded
from lomix_search.errors import DataError, MissingExtraError, RecipeError


def toy(augment: str = "none", n: int = 10, **kwargs: object) -> Slices:
    rng = np.random.default_rng(0)
    images, labels = rng.random((n, 1, 32, 32), np.float32), rng.integers(0, 3, (n, 32, 32))
    options = {"num_classes": 3, "augment": augmentation(augment)} | kwargs
    return Slices(images, labels, [f"p{i // 4}" for i in range(n)], **options)


# -- items -------------------------------------------------------------------------------------------------------------


def test_item_types_and_cases() -> None:
    image, label = toy()[5]
    assert (image.dtype, tuple(image.shape)) == (torch.float32, (1, 32, 32))
    assert (label.dtype, tuple(label.shape)) == (torch.int64, (32, 32))
    assert [toy().case(i) for i in (0, 3, 4, 9)] == ["p0", "p0", "p1", "p2"]


def test_item_does_not_share_memory_with_the_source() -> None:
    data = toy()
    data[0][0].zero_()
    assert data[0][0].abs().sum() > 0


def bad(image: object = None, label: object = None, **kwargs: object) -> Slices:
    images = np.zeros((1, 1, 4, 4), np.float32) if image is None else image
    labels = np.zeros((1, 4, 4), np.int64) if label is None else label
    return Slices(images, labels, ["p7"], num_classes=3, names=["p7.nii.gz, slice 12"], **kwargs)


def test_message_nan() -> None:
    image = np.zeros((1, 1, 4, 4), np.float32)
    image[0, 0, 1, 2] = np.nan
    with pytest.raises(DataError) as error:
        bad(image)[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: the image has NaN or infinite pixels; all must be finite.\n"
        "  Seen: 1 of 16 pixels\n"
        "  Try:  image = numpy.nan_to_num(image, nan=image_background)   # or leave the slice out"
    )


def test_message_label_outside() -> None:
    label = np.zeros((1, 4, 4), np.int64)
    label[0, 0, :2] = 7, 255
    with pytest.raises(DataError) as error:
        bad(label=label)[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: label 7, 255 outside the classes 0 … 2.\n"
        "  Try:  map it to a class, raise the number of classes, or ignore it: loss.ignore_index=255"
    )
    label[label == 7] = 0
    assert bad(label=label, ignore_index=255)[0][1].max() == 255
    with pytest.raises(DataError, match="label -1 outside"):
        bad(label=label * 0 - 1)[0]


def test_message_float_label() -> None:
    with pytest.raises(DataError) as error:
        bad(label=np.full((1, 4, 4), 0.5))[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: the label is float64; class numbers must be integers.\n"
        "  Seen: values such as 0.5\n"
        "  Try:  resize and turn labels by the nearest neighbour, so that they keep their class numbers"
    )


def test_message_shapes() -> None:
    with pytest.raises(DataError) as error:
        bad(label=np.zeros((1, 4, 5), np.int64))[0]
    assert str(error.value) == (
        "p7.nii.gz, slice 12: image and label have different shapes.\n  Seen: image 4 × 4, label 4 × 5"
    )
    with pytest.raises(DataError, match="2 images, 1 labels and 1 case names do not pair up"):
        bad(np.zeros((2, 1, 4, 4)))


def test_error_survives_a_worker() -> None:
    label = np.full((1, 4, 4), 9)
    with pytest.raises(DataError, match="label 9 outside the classes 0 … 2"):
        next(iter(DataLoader(bad(label=label), num_workers=1)))


# -- seeds and order ---------------------------------------------------------------------------------------------------


def test_seeded_depends_on_the_key_alone() -> None:
    data = Seeded(toy("paper"), seed=3)
    first = [data[(draw, 4)] for draw in range(12)]
    np.random.rand(17)
    again = [data[(draw, 4)] for draw in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert len({one[0].numpy().tobytes() for one in first}) > 3, "every draw augments anew"
    other = Seeded(toy("paper"), seed=4)
    assert any(not torch.equal(first[draw][0], other[(draw, 4)][0]) for draw in range(12))


def test_seeded_restores_the_global_states() -> None:
    class Noisy(Slices):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            random.random(), np.random.rand(), torch.rand(1)
            return super().__getitem__(index)

    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    Seeded(Noisy(np.zeros((1, 1, 2, 2)), np.zeros((1, 2, 2), int), ["a"], num_classes=1), 0)[(0, 0)]
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tobytes() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_is_the_same_whatever_the_workers_and_the_resume_point(workers: int) -> None:
    data, order = Seeded(toy("chest_ct"), 1), Order(10, 4, seed=1)
    whole = list(DataLoader(data, batch_sampler=order.batches(0, 6)))
    rest = list(DataLoader(data, batch_sampler=order.batches(3, 6), num_workers=workers))
    assert len(whole) == 6 and len(rest) == 3
    for one, two in zip(whole[3:], rest, strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_order_covers_an_epoch_once_and_reshuffles() -> None:
    order = Order(12, 4, seed=0)
    epochs = [[i for step in range(e * 3, e * 3 + 3) for _, i in order.batch(step)] for e in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    draws = [draw for step in range(9) for draw, _ in order.batch(step)]
    assert draws == list(range(36))
    assert Order(12, 4, seed=1).batch(0) != order.batch(0)


def test_order_drops_the_rest_of_an_epoch() -> None:
    order = Order(10, 4, seed=0)
    assert order.steps_per_epoch == 2
    one, two = ({i for step in steps for _, i in order.batch(step)} for steps in ((0, 1), (2, 3)))
    assert len(one) == len(two) == 8 and one != two


def test_order_wraps_when_a_batch_needs_more_than_there_is() -> None:
    batch = Order(3, 8, seed=0).batch(5)
    assert len(batch) == 8
    assert sorted(np.bincount([i for _, i in batch])) == [2, 3, 3]


def test_order_of_nothing() -> None:
    with pytest.raises(DataError, match="the training set is empty"):
        Order(0, 4, 0)


# -- augmentation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(SCHEMES) - {"none"}))
def test_scheme_keeps_form_and_moves_image_and_label_together(name: str) -> None:
    label = torch.zeros(64, 64, dtype=torch.int64)
    label[20:44, 16:40] = 1
    label[24:30, 20:36] = 2
    scheme = augmentation(name)
    assert scheme is not None
    changed = 0
    for seed in range(20):
        np.random.seed(seed)
        image, moved = scheme(label[None] / 2, label)
        assert image.dtype == torch.float32 and moved.dtype == torch.int64
        assert image.shape == (1, 64, 64) and moved.shape == (64, 64)
        assert set(moved.unique().tolist()) <= {0, 1, 2}
        agreement = ((image[0] * 2).round().long().clamp(0, 2) == moved).float().mean()
        assert agreement > 0.95, f"image and label went apart: {agreement}"
        changed += int(not torch.equal(moved, label))
    assert changed > 10


def test_paper_scheme_has_its_shares() -> None:
    scheme, square = augmentation("paper"), torch.arange(64.0).reshape(1, 8, 8)
    assert scheme is not None
    np.random.seed(0)
    results = [scheme(square, square[0].long())[0] for _ in range(600)]
    turns = [torch.rot90(square, k, (-2, -1)).flip(axis) for k in range(4) for axis in (-2, -1)]
    same = sum(torch.equal(r, square) for r in results) / 600
    turned = sum(any(torch.equal(r, t) for t in turns) for r in results) / 600
    assert abs(turned - 0.5) < 0.06 and abs(same - 0.25) < 0.06


def test_paper_scheme_keeps_non_square_shapes() -> None:
    scheme = augmentation("paper")
    assert scheme is not None
    np.random.seed(0)
    for _ in range(20):
        image, label = scheme(torch.zeros(1, 16, 24), torch.zeros(16, 24, dtype=torch.int64))
        assert image.shape == (1, 16, 24) and label.shape == (16, 24)


def test_chest_scheme_never_mirrors() -> None:
    """The right lung's side stays left in the picture, whatever is drawn."""
    data = Seeded(chest_ct.load_chest_ct(chest_ct.ChestCTSettings(augment="chest_ct")).train, 0)
    for draw in range(20):
        label = data[(draw, 12)][1]
        right, left = ((label == c).nonzero()[:, 1].float().mean() for c in (3, 4))
        assert right + 10 < left


def test_scheme_is_fast_and_pickles() -> None:
    data = Seeded(toy("chest_ct"), 0)
    data = pickle.loads(pickle.dumps(data))
    data[(0, 0)]
    start = time.process_time()
    for draw in range(10):
        data[(draw, 0)]
    assert time.process_time() - start < 0.5, "an item should take a few milliseconds of one core"


def test_unknown_scheme() -> None:
    with pytest.raises(RecipeError) as error:
        augmentation("papper")
    assert str(error.value) == 'augment = "papper": unknown. Nearest: "paper". Known: chest_ct, none, paper.'


# -- the embedded CT ---------------------------------------------------------------------------------------------------


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
