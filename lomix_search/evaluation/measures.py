"""Measures of one mask against another: overlap, surface distances, and those of the saliency and polyp literature."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import DataError, require

_Array = NDArray[Any]
_Mask = NDArray[np.bool_]


def dice(prediction: _Mask, truth: _Mask) -> float:
    """Return 2·|P∩T| / (|P| + |T|); NaN where both are empty.

    Args:
        prediction: Any shape.
        truth: The same shape.

    Returns:
        0 … 1, or NaN.
    """
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else float("nan")


def iou(prediction: _Mask, truth: _Mask) -> float:
    """Return |P∩T| / |P∪T| (the Jaccard index); NaN where both are empty.

    Args:
        prediction: Any shape.
        truth: The same shape.

    Returns:
        0 … 1, or NaN.
    """
    union = int((prediction | truth).sum())
    return int((prediction & truth).sum()) / union if union else float("nan")


def surface_distances(prediction: _Mask, truth: _Mask, spacing: Sequence[float]) -> tuple[_Array, _Array]:
    """Return the distance of every surface voxel to the other mask's surface.

    A surface voxel is one that an erosion by its direct neighbours removes; beyond the array lies background. An axis
    of length 1 has no neighbours, so the surface of a picture, or of a volume of one slice, is its outline.

    Args:
        prediction: Not empty.
        truth: Not empty, the same shape.
        spacing: Size of a voxel along each axis.

    Returns:
        Distances from the prediction to the truth, and from the truth to the prediction; in the unit of ``spacing``.

    Raises:
        DataError: a mask is empty, or shapes and spacing do not fit each other.
    """
    ndimage = require("scipy.ndimage", "data")
    if prediction.shape != truth.shape or len(spacing) != truth.ndim or not (prediction.any() and truth.any()):
        empty = " and ".join(n for n, mask in (("prediction", prediction), ("truth", truth)) if not mask.any())
        seen = f"prediction {prediction.shape}, truth {truth.shape}, spacing {tuple(spacing)}"
        raise DataError(
            "surface distances need two masks of one shape, none empty, and a spacing for each axis.",
            seen=[seen, *([f"empty: {empty}"] if empty else [])],
            hint="if prediction.any() and truth.any():   # of an empty mask there is no surface"
            if empty
            else f"surface_distances(prediction, truth, {(1.0,) * truth.ndim})   # both of {truth.shape}",
        )
    axes = [axis for axis, length in enumerate(truth.shape) if length > 1] or [0]
    prediction, truth = (np.asarray(m, bool).reshape([m.shape[axis] for axis in axes]) for m in (prediction, truth))
    spacing = [spacing[axis] for axis in axes]
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[
        0
    ]  # background outside of the box of both masks changes nothing
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (prediction, truth)]
    to = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return to[1][surfaces[0]], to[0][surfaces[1]]


def hd95(prediction: _Mask, truth: _Mask, spacing: Sequence[float]) -> float:
    """Return the 95 % Hausdorff distance: the larger of the two directed 95th percentiles, as MONAI computes it.

    Args:
        prediction: Not empty.
        truth: Not empty.
        spacing: Size of a voxel along each axis.

    Returns:
        A distance in the unit of ``spacing``.
    """
    return float(max(np.percentile(d, 95) for d in surface_distances(prediction, truth, spacing)))


def hd95_pooled(prediction: _Mask, truth: _Mask, spacing: Sequence[float]) -> float:
    """Return the 95th percentile of both directions' distances together, as the Synapse literature computes it.

    Args:
        prediction: Not empty.
        truth: Not empty.
        spacing: Size of a voxel along each axis.

    Returns:
        A distance in the unit of ``spacing``; never above :func:`hd95`.
    """
    return float(np.percentile(np.hstack(surface_distances(prediction, truth, spacing)), 95))


def asd(prediction: _Mask, truth: _Mask, spacing: Sequence[float]) -> float:
    """Return the average symmetric surface distance: the mean of both directions' distances together.

    Args:
        prediction: Not empty.
        truth: Not empty.
        spacing: Size of a voxel along each axis.

    Returns:
        A distance in the unit of ``spacing``.
    """
    return float(np.hstack(surface_distances(prediction, truth, spacing)).mean())


def threshold_curve(score: _Array, truth: _Mask) -> tuple[_Array, _Array]:
    """Return Dice and IoU at the 256 thresholds 0, 1/255, … 1 of a score scaled to 0 … 1.

    Args:
        score: Foreground score of each pixel, 0 … 1.
        truth: The same shape.

    Returns:
        Two arrays of 256 values.
    """
    levels = np.clip((score * 255).astype(int), 0, 255)  # 8-bit pictures, as the benchmarks' tools read them
    hits = np.bincount(levels[truth], minlength=256)[::-1].cumsum()[::-1]
    predicted = np.bincount(levels.ravel(), minlength=256)[::-1].cumsum()[::-1]
    total = int(truth.sum())
    return 2 * hits / np.maximum(predicted + total, 1), hits / np.maximum(predicted + total - hits, 1)


def mae(score: _Array, truth: _Mask) -> float:
    """Return the mean absolute error of a score map.

    Args:
        score: 0 … 1.
        truth: The same shape.

    Returns:
        0 … 1; 0 is perfect.
    """
    return float(np.abs(score - truth).mean())


def s_measure(score: _Array, truth: _Mask, alpha: float = 0.5, counted: _Mask | None = None) -> float:
    """Return the structure measure: object-aware and region-aware similarity, half and half.

    Source: Fan et al., Structure-measure: A new way to evaluate foreground maps (ICCV 2017).

    Args:
        score: (rows, columns), 0 … 1.
        truth: (rows, columns).
        alpha: Share of the object-aware part.
        counted: Pixels that count, all of them by default. ``truth`` holds no other pixels.

    Returns:
        0 … 1.
    """
    counted = np.ones(truth.shape, bool) if counted is None else counted
    share = float(truth[counted].mean())
    if share == 0:
        return float(1 - score[counted].mean())
    if share == 1:
        return float(score[counted].mean())
    objects = share * _object_score(score[truth]) + (1 - share) * _object_score(1 - score[~truth & counted])
    return max(0.0, alpha * objects + (1 - alpha) * _region_score(score, truth, counted))


def e_measure(prediction: _Mask, truth: _Mask) -> float:
    """Return the enhanced-alignment measure of a binary map.

    Source: Fan et al., Enhanced-alignment measure for binary foreground map evaluation (IJCAI 2018); like the authors'
    evaluation, the sum is divided by the number of pixels less one.

    Args:
        prediction: (rows, columns).
        truth: (rows, columns).

    Returns:
        0 … 1.
    """
    if not truth.any():
        enhanced = 1.0 - prediction
    elif truth.all():
        enhanced = prediction.astype(float)
    else:
        one, other = prediction - prediction.mean(), truth - truth.mean()
        aligned = 2 * one * other / (one**2 + other**2 + np.finfo(float).eps)
        enhanced = (aligned + 1) ** 2 / 4
    return float(enhanced.sum() / (truth.size - 1 + np.finfo(float).eps))


def e_measure_curve(score: _Array, truth: _Mask) -> _Array:
    """Return the enhanced-alignment measure at the 256 thresholds 0, 1/255, … 1.

    The measure of a binary map depends only on its numbers of true and false foreground pixels, so the whole curve
    costs as much as one histogram.

    Args:
        score: (rows, columns), 0 … 1.
        truth: (rows, columns).

    Returns:
        256 values.
    """
    levels = np.clip((score * 255).astype(int), 0, 255)  # 8-bit pictures, as the benchmarks' tools read them
    hits = np.bincount(levels[truth], minlength=256)[::-1].cumsum()[::-1].astype(float)
    predicted = np.bincount(levels.ravel(), minlength=256)[::-1].cumsum()[::-1].astype(float)
    size, total = float(truth.size), float(truth.sum())
    if total in (0, size):
        return (size - predicted if total == 0 else predicted) / (size - 1 + np.finfo(float).eps)
    counts = (hits, predicted - hits, total - hits, size - total - predicted + hits)  # TP, FP, FN, TN
    enhanced = np.zeros(256)
    for count, (is_predicted, is_true) in zip(counts, ((1, 1), (1, 0), (0, 1), (0, 0)), strict=True):
        one, other = is_predicted - predicted / size, is_true - total / size
        enhanced += count * (2 * one * other / (one**2 + other**2 + np.finfo(float).eps) + 1) ** 2 / 4
    return np.asarray(enhanced / (size - 1 + np.finfo(float).eps))


def _object_score(values: _Array) -> float:
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation + np.finfo(float).eps)


def _region_score(score: _Array, truth: _Mask, counted: _Mask) -> float:
    """Weigh the similarity of the four quarters around the centroid of the truth by their sizes."""
    rows, columns = np.argwhere(truth).mean(0).round().astype(int) + 1
    total = 0.0
    for row in (slice(None, rows), slice(rows, None)):
        for column in (slice(None, columns), slice(columns, None)):
            inside = counted[row, column]
            part, mask = score[row, column][inside], truth[row, column][inside].astype(float)
            if part.size:
                total += part.size / int(counted.sum()) * _similarity(part, mask)
    return total


def _similarity(one: _Array, other: _Array) -> float:
    """Structural similarity of two regions, without constants, as in the paper."""
    n, eps = one.size, np.finfo(float).eps
    x, y = float(one.mean()), float(other.mean())
    var_x = float(((one - x) ** 2).sum()) / (n - 1 + eps)
    var_y = float(((other - y) ** 2).sum()) / (n - 1 + eps)
    covariance = float(((one - x) * (other - y)).sum()) / (n - 1 + eps)
    numerator = 4 * x * y * covariance
    if numerator != 0:
        return numerator / ((x**2 + y**2) * (var_x + var_y) + eps)
    return 1.0 if (x**2 + y**2) * (var_x + var_y) == 0 else 0.0
