"""Augmentation schemes: what they keep, how often they act, how fast they are."""

import pickle
import time

import numpy as np
import pytest
import torch
from support.toy_slices import toy

from lomix_search.data.augment import SCHEMES, augmentation
from lomix_search.data.kinds import chest_ct
from lomix_search.data.seeding import Seeded
from lomix_search.errors import RecipeError


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


@pytest.mark.slow
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
    assert (
        str(error.value)
        == 'augment = "papper": unknown. Nearest: "paper". Known: chest_ct, none, paper.\n  Try:  data.augment=none'
    )
