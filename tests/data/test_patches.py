"""Blocks of volumes: where they are cut, what lies outside, what is read, and that draws repeat."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lomix_search.data.dataset import block
from lomix_search.data.patches import Patches, foreground_voxels
from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded
from lomix_search.errors import DataError


def patches(label: np.ndarray, size: tuple[int, ...], image: np.ndarray | None = None, **more: object) -> Patches:
    """Blocks of one volume whose image says where each voxel was."""
    places = foreground_voxels(label)
    numbered = 1 + np.arange(label.size, dtype=np.float64).reshape(1, *label.shape) if image is None else image
    return Patches(
        [numbered],
        [label],
        ["c"],
        size=size,
        numbers=lambda raw: raw,
        places=lambda _: places,
        values=(1, 2),
        num_classes=3,
        **more,  # type: ignore[arg-type]
    )


def test_a_block_is_cut_with_0_outside() -> None:
    values = np.arange(1, 25).reshape(2, 3, 4)
    for corner in [(0, 0), (-1, 2), (2, -3), (5, 5), (-4, -4)]:
        wide = np.zeros((2, 3 + 20, 4 + 20), int)
        wide[:, 10:13, 10:14] = values
        expected = wide[:, 10 + corner[0] :, 10 + corner[1] :][:, :3, :5]
        np.testing.assert_array_equal(block(values, corner, (3, 5)), expected)


def test_blocks_repeat_with_their_draw_and_differ_between_draws() -> None:
    label = np.zeros((9, 9, 9), np.uint8)
    label[4, 4, 4] = 1
    items = Seeded(patches(label, (4, 4, 4)), 0)
    first, again = items[(3, 0)], items[(3, 0)]
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    drawn = {items[(draw, 0)][0].numpy().tobytes() for draw in range(20)}
    assert len(drawn) > 10
    assert all(len({i for _, i in Order(1, 2, 0).batch(step)}) == 1 for step in range(3))  # an item is a case


@pytest.mark.slow
def test_a_third_of_the_blocks_lie_round_a_class_and_rare_ones_as_often_as_others() -> None:
    label = np.zeros((40, 40, 40), np.uint8)
    label[2:12, 2:12, 2:12] = 1
    label[30, 30, 30] = 2
    items = Seeded(patches(label, (4, 4, 4)), 0)
    held = np.array([[(items[(d, 0)][1] == c).any().item() for c in (1, 2)] for d in range(600)]).mean(0)
    by_chance = (10 + 3) ** 3 / 37**3
    assert abs(held[0] - (1 / 6 + 5 / 6 * by_chance)) < 0.06 and abs(held[1] - 1 / 6) < 0.06


def test_blocks_stay_inside_and_are_labelled_where_their_image_is() -> None:
    label = np.random.default_rng(0).integers(0, 3, (7, 8, 9)).astype(np.uint8)
    items, corners = Seeded(patches(label, (3, 4, 5)), 0), set()
    for draw in range(60):
        image, found = items[(draw, 0)]
        where = np.unravel_index(image[0].long().numpy() - 1, label.shape)
        np.testing.assert_array_equal(found, label[where])
        corners.add(tuple(int(axis.min()) for axis in where))
    assert {c[0] for c in corners} == set(range(5)) and {c[2] for c in corners} == set(range(5))


def test_a_block_larger_than_its_volume_has_it_in_the_middle_with_background_round_it() -> None:
    label = np.ones((3, 8, 4), np.uint8)
    image, found = patches(label, (6, 4, 8))[0]
    assert image.shape == (1, 6, 4, 8) and found.shape == (6, 4, 8)
    inside = torch.zeros(6, 4, 8, dtype=torch.bool)
    inside[1:4, :, 2:6] = True
    assert torch.equal(found == 1, inside) and torch.equal(image[0] > 0, inside)


def test_only_the_block_is_read_from_disk(tmp_path: Path) -> None:
    """The rest of the file may be anything, even what would be refused."""
    image, label = np.full((4, 1, 600, 8), np.nan, np.float16), np.full((4, 600, 8), 200, np.uint8)
    image[:, :, :6], label[:, :6] = 1, 1
    np.save(tmp_path / "image.npy", image), np.save(tmp_path / "label.npy", label)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("image", "label")]
    whole = Patches(
        [mapped[0].swapaxes(0, 1)[:, :, :6]],
        [mapped[1][:, :6]],
        ["c"],
        size=(2, 3, 4),
        numbers=lambda raw: raw,
        places=lambda _: np.zeros((0, 4), np.int32),
        values=(1,),
        num_classes=2,
    )
    found, numbers = whole[0]
    assert found.dtype == torch.float32 and (found == 1).all() and (numbers == 1).all()


def test_places_are_few_are_where_they_say_and_are_the_same_again() -> None:
    label = np.zeros((20, 20, 20), np.int64)
    label[:15], label[15, 0, :3] = 1, 300
    places = foreground_voxels(label)
    assert (places[:, 0] == 1).sum() == 1000 and (places[:, 0] == 300).sum() == 3
    assert all(label[tuple(p[1:])] == p[0] for p in places)
    np.testing.assert_array_equal(places, foreground_voxels(label))
    assert foreground_voxels(np.zeros((2, 2, 2), np.uint8)).shape == (0, 4)


def test_image_and_label_of_other_sizes_are_refused_by_name() -> None:
    odd = patches(np.zeros((4, 4, 4), np.uint8), (2, 2, 2), image=np.zeros((1, 4, 4, 5)))
    with pytest.raises(DataError, match="c, item 0"):
        odd[0]
