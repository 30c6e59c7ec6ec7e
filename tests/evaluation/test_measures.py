"""Measures against independent implementations and by hand."""

import numpy as np
import pytest
import torch
from monai.metrics import HausdorffDistanceMetric, SurfaceDistanceMetric
from numpy.typing import NDArray
from scipy import ndimage

from lomix_search.evaluation import measures

SPACING = (5.0, 0.8, 0.7)


def blobs(seed: int, shape: tuple[int, ...] = (12, 24, 26)) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two smooth random masks that overlap."""
    rng = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(rng.random(shape), 2) > 0.5
    noise = ndimage.gaussian_filter(rng.random(shape), 1.5)
    return truth ^ (noise > 0.58), truth


def channels(*masks: NDArray[np.bool_]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in masks]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
def test_distances_agree_with_monai(seed: int, spacing: tuple[float, ...]) -> None:
    prediction, truth = blobs(seed)
    one, other = channels(prediction, truth)
    theirs = HausdorffDistanceMetric(include_background=False, percentile=95)(one, other, spacing=spacing).item()
    assert measures.hd95(prediction, truth, spacing) == pytest.approx(theirs, rel=1e-5)
    directed = [
        SurfaceDistanceMetric(include_background=False)(a, b, spacing=spacing).item()
        for a, b in ((one, other), (other, one))
    ]
    to, back = measures.surface_distances(prediction, truth, spacing)
    assert [to.mean(), back.mean()] == pytest.approx(directed, rel=1e-5)
    pooled = (directed[0] * len(to) + directed[1] * len(back)) / (len(to) + len(back))
    assert measures.asd(prediction, truth, spacing) == pytest.approx(pooled, rel=1e-5)
    assert measures.hd95_pooled(prediction, truth, spacing) <= measures.hd95(prediction, truth, spacing) + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_near_surface_distance(seed: int) -> None:
    """DeepMind's library weighs surface elements by area and puts them between voxels: close, never equal."""
    library = pytest.importorskip("surface_distance")
    prediction, truth = blobs(seed)
    theirs = library.compute_surface_distances(truth, prediction, SPACING)
    voxel = float(np.linalg.norm(SPACING))
    hd = library.compute_robust_hausdorff(theirs, 95)
    assert abs(measures.hd95(prediction, truth, SPACING) - hd) < voxel
    average = np.mean(library.compute_average_surface_distance(theirs))
    assert abs(measures.asd(prediction, truth, SPACING) - average) < voxel / 2
    assert measures.dice(prediction, truth) == pytest.approx(library.compute_dice_coefficient(truth, prediction))


def test_distances_by_hand() -> None:
    """Two boxes of one voxel, three rows apart; and a point against a line of five."""
    one, other = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9), bool)
    one[0, 1, 4], other[0, 4, 4] = True, True
    for of in (measures.hd95, measures.hd95_pooled, measures.asd):
        assert of(one, other, (5, 2, 1)) == 6
    line = np.zeros((1, 9, 9), bool)
    line[0, 1, 4:9] = True
    assert measures.asd(one, line, (1, 1, 1)) == pytest.approx((0 + 0 + 1 + 2 + 3 + 4) / 6)
    assert measures.hd95(one, line, (1, 1, 1)) == pytest.approx(np.percentile([0, 1, 2, 3, 4], 95))
    assert measures.hd95_pooled(one, line, (1, 1, 1)) == pytest.approx(np.percentile([0, 0, 1, 2, 3, 4], 95))


def test_distances_at_the_edge_of_the_volume() -> None:
    """Cropping to what is there changes nothing, also where a mask touches the border."""
    prediction, truth = blobs(0)
    prediction[:4] = True
    padded = [np.pad(mask, 5) for mask in (prediction, truth)]
    plain = measures.surface_distances(prediction, truth, SPACING)
    wide = measures.surface_distances(*padded, SPACING)
    for one, other in zip(plain, wide, strict=True):
        np.testing.assert_allclose(np.sort(one), np.sort(other))


def scores(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(rng.random((40, 50)), 4) > 0.5
    soft = np.clip(0.6 * truth + 0.4 * ndimage.gaussian_filter(rng.random((40, 50)), 1), 0, 1)
    return (soft - soft.min()) / (soft.max() - soft.min()), truth


def test_saliency_measures_golden() -> None:
    """What pysodmetrics 1.6.2, an independent implementation, gives for this map."""
    soft, truth = scores(0)
    soft = (soft * 255).astype(np.uint8) / 255
    assert measures.s_measure(soft, truth) == pytest.approx(0.9651366169536086, abs=1e-12)
    assert measures.mae(soft, truth) == pytest.approx(0.10829019607843138, abs=1e-12)
    assert measures.e_measure_curve(soft, truth).mean() == pytest.approx(0.8362707331745081, abs=1e-12)


def test_e_measure_curve_is_the_measure_at_each_threshold() -> None:
    soft, truth = scores(1)
    curve = measures.e_measure_curve(soft, truth)
    levels = (soft * 255).astype(int)
    for threshold in (0, 1, 90, 128, 200, 255):
        assert curve[threshold] == pytest.approx(measures.e_measure(levels >= threshold, truth))
    for constant in (np.zeros_like(truth), np.ones_like(truth)):
        assert measures.e_measure_curve(soft, constant)[100] == pytest.approx(
            measures.e_measure(levels >= 100, constant)
        )


def test_threshold_curves() -> None:
    soft, truth = scores(2)
    dice, iou = measures.threshold_curve(soft, truth)
    for threshold in (0, 17, 128, 250):
        cut = (soft * 255).astype(int) >= threshold
        assert dice[threshold] == pytest.approx(measures.dice(cut, truth))
        assert iou[threshold] == pytest.approx(measures.iou(cut, truth))


def test_s_measure_of_constants() -> None:
    empty, full = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    soft = np.full((8, 8), 0.25)
    assert measures.s_measure(soft, empty) == 0.75 and measures.s_measure(soft, full) == 0.25
    half = np.zeros((8, 8), bool)
    half[:, 4:] = True
    assert measures.s_measure(half.astype(float), half) == pytest.approx(1, abs=1e-6)
