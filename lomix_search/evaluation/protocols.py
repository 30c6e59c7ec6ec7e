"""Named protocols: which measures, and what an empty mask counts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import DataError, nearest
from lomix_search.evaluation import measures

_Array = NDArray[Any]
_Scores = dict[str, float]
_Score = Callable[[_Array, _Array, tuple[float, ...], _Array | None, _Array | None], _Scores]


@dataclass(frozen=True)
class Protocol:
    """How a case is predicted and scored.

    Args:
        name: Its name.
        measures: Names of what it reports, the one to compare by first.
        resize: How a prediction gets back to the case's size: ``nearest`` (class numbers) or ``linear`` (logits).
        score: (prediction, truth, spacing, foreground score, pixels that count or None for all) of one class → values
            by name; neither prediction nor truth holds pixels that do not count.
        about: What it stands for, in one line.
        plane: Made for pictures: (rows, columns), or a volume of one slice.
    """

    name: str
    measures: tuple[str, ...]
    resize: Literal["nearest", "linear"]
    score: _Score
    about: str
    plane: bool = False


def find_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Args:
        name: ``strict``, ``transunet``, ``polyp`` or ``isic2018``.

    Returns:
        The protocol.

    Raises:
        DataError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise DataError(f'no protocol "{name}". {nearest(name, PROTOCOLS)}')
    return PROTOCOLS[name]


def check_shape(protocol: Protocol, label: _Array, name: str) -> None:
    """Refuse a case that a protocol is not made for.

    Args:
        protocol: The protocol.
        label: Of the case.
        name: Of the case.

    Raises:
        DataError: a volume of several slices for a protocol of pictures.
    """
    if protocol.plane and math.prod(label.shape[:-2]) != 1:
        raise DataError(
            f"{name}: protocol {protocol.name} scores pictures, and this is a volume of {label.shape[0]} slices.",
            hint='evaluate.protocol="strict"',
        )


def _plane(values: _Array) -> _Array:
    """Return a picture as (rows, columns)."""
    if math.prod(values.shape[:-2]) != 1:
        raise DataError("this protocol scores pictures, one at a time.", seen=f"an array of {values.shape}")
    return values.reshape(values.shape[-2:])


def _strict(
    prediction: _Array, truth: _Array, spacing: tuple[float, ...], score: _Array | None, kept: _Array | None = None
) -> _Scores:
    """Score in millimetres; a missed structure is the worst there is, an empty one found empty is right."""
    if not prediction.any() and not truth.any():
        return {"dice": 1.0, "iou": 1.0, "hd95": 0.0, "asd": 0.0}
    grid = spacing or (1.0,) * truth.ndim
    if not prediction.any() or not truth.any():
        worst = math.hypot(*(n * s for n, s in zip(truth.shape, grid, strict=True) if n > 1))  # a plane has no depth
        return {"dice": 0.0, "iou": 0.0, "hd95": worst, "asd": worst}
    return {
        "dice": measures.dice(prediction, truth),
        "iou": measures.iou(prediction, truth),
        "hd95": measures.hd95(prediction, truth, grid),
        "asd": measures.asd(prediction, truth, grid),
    }


def _transunet(
    prediction: _Array, truth: _Array, spacing: tuple[float, ...], score: _Array | None, kept: _Array | None = None
) -> _Scores:
    """Score in voxels and as the community does: predicting an absent structure is right, predicting nothing wrong."""
    if prediction.any() and truth.any():
        grid = (1.0,) * truth.ndim
        return {
            "dice": measures.dice(prediction, truth),
            "hd95": measures.hd95_pooled(prediction, truth, grid),
            "iou": measures.iou(prediction, truth),
            "asd": float(measures.surface_distances(prediction, truth, grid)[0].mean()),
        }
    right = 1.0 if prediction.any() else 0.0
    return {"dice": right, "hd95": 0.0, "iou": right, "asd": 0.0}


def _polyp(
    prediction: _Array, truth: _Array, spacing: tuple[float, ...], score: _Array | None, kept: _Array | None = None
) -> _Scores:
    """Score a picture as the polyp benchmarks do.

    Dice and IoU are taken at probability 0.5. All others stretch the scores of each picture to 0 … 1 first, as PraNet's
    test script does, so that even a picture without any confident pixel gets a foreground.
    """
    prediction, truth, soft = (
        _plane(values) for values in (prediction, truth, np.asarray(prediction if score is None else score, np.float32))
    )
    counted = np.ones(truth.shape, bool) if kept is None else _plane(kept)
    soft = (soft - soft[counted].min()) / (soft[counted].max() - soft[counted].min() + 1e-8)
    similarity = measures.s_measure(soft, truth, counted=counted)
    soft, truth, prediction = soft[counted], truth[counted], prediction[counted]  # all else are counts of pixels
    dice_curve, iou_curve = measures.threshold_curve(soft, truth)
    empty = not truth.any() and not prediction.any()
    return {
        "dice": 1.0 if empty else measures.dice(prediction, truth),
        "iou": 1.0 if empty else measures.iou(prediction, truth),
        "dice_curve": float(dice_curve.mean()),
        "iou_curve": float(iou_curve.mean()),
        "s_measure": similarity,
        "e_measure": float(measures.e_measure_curve(soft, truth).mean()),
        "e_measure_max": float(measures.e_measure_curve(soft, truth).max()),
        "mae": measures.mae(soft, truth),
    }


def _isic(
    prediction: _Array, truth: _Array, spacing: tuple[float, ...], score: _Array | None, kept: _Array | None = None
) -> _Scores:
    """Score a picture as the ISIC 2018 challenge did: a Jaccard index below 0.65 counts 0."""
    prediction, truth = _plane(prediction), _plane(truth)
    if kept is not None:
        prediction, truth = prediction[_plane(kept)], truth[_plane(kept)]
    empty = not truth.any() and not prediction.any()
    jaccard = 1.0 if empty else measures.iou(prediction, truth)
    true, false = truth.any(), (~truth).any()
    return {
        "jaccard_thresholded": jaccard if jaccard >= 0.65 else 0.0,
        "iou": jaccard,
        "dice": 1.0 if empty else measures.dice(prediction, truth),
        "sensitivity": float(prediction[truth].mean()) if true else float("nan"),
        "specificity": float((~prediction[~truth]).mean()) if false else float("nan"),
        "accuracy": float((prediction == truth).mean()),
    }


PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "strict",
            ("dice", "iou", "hd95", "asd"),
            "linear",
            _strict,
            "millimetres; a missed or invented structure counts as the worst, an empty one found empty as right",
        ),
        Protocol(
            "transunet",
            ("dice", "hd95", "iou", "asd"),
            "nearest",
            _transunet,
            "comparable with the Synapse literature: voxels, and its own way with empty masks",
        ),
        Protocol(
            "polyp",
            ("dice", "iou", "dice_curve", "iou_curve", "s_measure", "e_measure", "e_measure_max", "mae"),
            "linear",
            _polyp,
            "one picture a case; at threshold 0.5 and as means over 256 thresholds",
            plane=True,
        ),
        Protocol(
            "isic2018",
            ("jaccard_thresholded", "iou", "dice", "sensitivity", "specificity", "accuracy"),
            "linear",
            _isic,
            "the challenge's: a Jaccard index below 0.65 counts 0",
            plane=True,
        ),
    )
}
