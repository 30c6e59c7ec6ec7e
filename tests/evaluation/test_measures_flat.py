"""Surfaces of flat things: a picture, or one slice however it lies, is measured in its plane."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.typing import NDArray

from lomix_search.data.case import Case
from lomix_search.errors import DataError
from lomix_search.evaluation import measures
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.protocols import PROTOCOLS
from lomix_search.evaluation.score_case import score_case

Mask = NDArray[np.bool_]


def disc(radius: float, size: int = 101) -> Mask:
    rows, columns = np.mgrid[:size, :size] - size // 2
    return np.asarray(np.hypot(rows, columns) <= radius)


def holed(size: int = 101) -> Mask:
    mask = disc(40, size)
    mask[size // 2 - 10 : size // 2 + 10, size // 2 - 10 : size // 2 + 10] = False
    return mask


def outline(mask: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Where a mask's pixels lie that touch what is not in it, sharing a side."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis, step in product(range(mask.ndim), (-1, 1)):
        inner &= np.roll(padded, step, axis)
    return (np.argwhere(padded & ~inner) - 1) * np.asarray(spacing)


def by_hand(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> dict[str, float]:
    """Every distance between every two pixels of the outlines."""
    one, other = outline(prediction, spacing), outline(truth, spacing)
    apart = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
    there, back = apart.min(1), apart.min(0)
    pooled = np.concatenate([there, back])
    return {
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "pooled": np.percentile(pooled, 95),
        "asd": pooled.mean(),
        "there": there.mean(),
    }


def test_hand_geometry() -> None:
    """The issue's numbers; rings 10 apart are about 10 apart, which no pixel inside them changes."""
    for one, other in ((disc(30), disc(40)), (disc(30)[None], disc(40)[None]), (disc(30)[:, None], disc(40)[:, None])):
        spacing = (1.0,) * one.ndim
        assert measures.asd(one, other, spacing) == pytest.approx(9.793, abs=1e-3)
        assert measures.hd95(one, other, spacing) == pytest.approx(10.198, abs=1e-3)
    filled, hole = disc(40), holed()
    assert measures.hd95(hole, filled, (1, 1)) == pytest.approx(by_hand(hole, filled, (1, 1))["hd95"])
    assert measures.hd95(hole[None], filled[None], (7, 1, 1)) > 28, "the rim of the hole is far from any surface"


def pairs() -> dict[str, tuple[Mask, Mask]]:
    rng = np.random.default_rng(0)
    spots = [rng.random((40, 33)) > 0.7 for _ in range(2)]
    border, full = np.zeros((30, 30), bool), np.ones((30, 30), bool)
    border[:, :9] = True
    return {
        "discs": (disc(12, 41), disc(16, 41)),
        "a hole": (holed(95)[::2, ::2], disc(40, 95)[::2, ::2]),
        "spots": (spots[0], spots[1]),
        "at the border": (border, np.roll(border, 4, 1)),
        "all of the array": (full, border),
        "a pixel": (np.pad([[True]], (5, 9)), np.pad([[True]], (9, 5))),
        "a line": (disc(12, 41)[20:21], disc(9, 41)[20:21]),
    }


PAIRS = pairs()


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.5)])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("name", PAIRS)
def test_flat_masks_by_hand_and_by_monai(name: str, axis: int | None, spacing: tuple[float, ...]) -> None:
    """As (rows, columns), and as a volume whose depth of 5 mm must not matter, along any axis."""
    one, other = PAIRS[name]
    wanted = by_hand(one.squeeze(), other.squeeze(), spacing[-one.squeeze().ndim :])
    grid = spacing
    if axis is not None:
        one, other = np.expand_dims(one, axis), np.expand_dims(other, axis)
        grid = (*spacing[:axis], 5.0, *spacing[axis:])
    assert measures.hd95(one, other, grid) == pytest.approx(wanted["hd95"])
    assert measures.hd95_pooled(one, other, grid) == pytest.approx(wanted["pooled"])
    assert measures.asd(one, other, grid) == pytest.approx(wanted["asd"])
    if name != "a line":
        stacked = [torch.from_numpy(mask.squeeze()[None, None]) for mask in (one, other)]
        theirs = compute_hausdorff_distance(*stacked, include_background=True, percentile=95, spacing=list(spacing))
        assert measures.hd95(one, other, grid) == pytest.approx(float(theirs), abs=1e-4)
        there = compute_average_surface_distance(*stacked, include_background=True, spacing=list(spacing))
        assert measures.surface_distances(one, other, grid)[0].mean() == pytest.approx(float(there), abs=1e-4)


@pytest.mark.parametrize("shape", [(2, 20, 24), (20, 2, 24), (9, 14, 11)])
def test_volumes_stay_volumes(shape: tuple[int, ...]) -> None:
    """Two slices have neighbours: theirs is the surface of a body, as MONAI measures it, also at the border."""
    rng = np.random.default_rng(0)
    one, other = (rng.random(shape) > 0.5 for _ in range(2))
    wanted = by_hand(one, other, (5.0, 0.8, 0.7))
    assert measures.hd95(one, other, (5.0, 0.8, 0.7)) == pytest.approx(wanted["hd95"])
    assert measures.asd(one, other, (5.0, 0.8, 0.7)) == pytest.approx(wanted["asd"])
    stacked = [torch.from_numpy(mask[None, None]) for mask in (one, other)]
    theirs = compute_hausdorff_distance(*stacked, include_background=True, percentile=95, spacing=[5.0, 0.8, 0.7])
    assert measures.hd95(one, other, (5.0, 0.8, 0.7)) == pytest.approx(float(theirs), abs=1e-4)


def test_a_single_voxel() -> None:
    one = np.ones((1, 1, 1), bool)
    assert measures.hd95(one, one, (1, 1, 1)) == 0 and measures.asd(one[0, 0], one[0, 0], (1,)) == 0


def case_of(truth: NDArray[np.uint8], spacing: tuple[float, ...]) -> Case:
    return Case("a", np.zeros((len(truth), 1, *truth.shape[1:]), np.float32), truth, spacing)


@pytest.mark.parametrize("protocol", ["strict", "transunet"])
def test_protocols_measure_one_slice_in_its_plane(protocol: str) -> None:
    one, other = disc(30)[None].astype(np.uint8), disc(40)[None].astype(np.uint8)
    spacing = (6.0, 0.5, 0.5)
    (row,) = score_case(case_of(other, spacing), Prediction(one), ("background", "a"), protocol)
    grid = (0.5, 0.5) if protocol == "strict" else (1.0, 1.0)
    wanted = by_hand(one[0] > 0, other[0] > 0, grid)
    assert row.scores["hd95"] == pytest.approx(wanted["hd95" if protocol == "strict" else "pooled"])
    assert row.scores["asd"] == pytest.approx(wanted["asd" if protocol == "strict" else "there"])


def test_a_miss_costs_the_diagonal_of_what_is_there() -> None:
    truth = disc(30)[None].astype(np.uint8)
    (row,) = score_case(case_of(truth, (6.0, 0.5, 2.0)), Prediction(truth * 0), ("background", "a"), "strict")
    assert row.scores["hd95"] == row.scores["asd"] == pytest.approx(np.hypot(101 * 0.5, 101 * 2.0))
    thick = np.repeat(truth, 3, 0)
    (row,) = score_case(case_of(thick, (6.0, 0.5, 2.0)), Prediction(thick * 0), ("background", "a"), "strict")
    assert row.scores["hd95"] == pytest.approx(np.linalg.norm([18, 50.5, 202]))


@pytest.mark.parametrize("protocol", ["polyp", "isic2018"])
def test_protocols_of_pictures(protocol: str) -> None:
    """A picture as (rows, columns) or as one slice is one thing; of a volume they would score the first slice alone."""
    score, one, other = PROTOCOLS[protocol].score, disc(30), disc(40)
    flat, sliced = score(one, other, (), None), score(one[None], other[None], (), None)
    assert flat == sliced and flat["dice"] == pytest.approx(2 * one.sum() / (one.sum() + other.sum()))
    with pytest.raises(DataError, match="scores pictures"):
        score(np.stack([one, one]), np.stack([other, other]), (), None)
    volume = case_of(np.stack([other, one]).astype(np.uint8), ())
    with pytest.raises(DataError) as error:
        evaluate(torch.nn.Identity(), [volume], ("background", "a"), protocol=protocol, progress=False)
    assert str(error.value) == (
        f'a: protocol {protocol} scores pictures, and this is a volume of 2 slices.\n  Try:  evaluate.protocol="strict"'
    )


def test_what_cannot_be_measured() -> None:
    one, empty = disc(9), disc(9) & False
    for arguments in ((one, empty, (1, 1)), (one, one[:50], (1, 1)), (one, one, (1, 1, 1))):
        with pytest.raises(DataError, match="need two masks of one shape, none empty, and a spacing for each axis"):
            measures.hd95(*arguments)
    truth = one[None].astype(np.uint8)
    with pytest.raises(DataError, match="the prediction has another shape than the label"):
        score_case(case_of(truth, ()), Prediction(truth[:, :50]), ("background", "a"), "strict")
    with pytest.raises(DataError, match="the spacing must be a positive number for each axis"):
        score_case(case_of(truth, (1.0, 1.0)), Prediction(truth), ("background", "a"), "strict")
