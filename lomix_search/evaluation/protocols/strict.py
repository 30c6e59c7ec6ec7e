"""Protocol ``strict``: distances in millimetres, and empty masks counted honestly."""

import math

from lomix_search.data.case import Array
from lomix_search.evaluation import measures
from lomix_search.evaluation.protocols.protocol import Protocol


def _score(
    prediction: Array, truth: Array, spacing: tuple[float, ...], score: Array | None, kept: Array | None = None
) -> dict[str, float]:
    """Score in millimetres: a missed or invented structure is as bad as can be, an empty one found empty is right."""
    if not prediction.any() and not truth.any():
        return {"dice": 1.0, "iou": 1.0, "hd95": 0.0, "asd": 0.0}
    grid = spacing if spacing else (1.0,) * truth.ndim
    if not prediction.any() or not truth.any():
        worst = math.hypot(*(n * s for n, s in zip(truth.shape, grid, strict=True) if n > 1))  # a plane has no depth
        return {"dice": 0.0, "iou": 0.0, "hd95": worst, "asd": worst}
    return {
        "dice": measures.dice(prediction, truth),
        "iou": measures.iou(prediction, truth),
        "hd95": measures.hd95(prediction, truth, grid),
        "asd": measures.asd(prediction, truth, grid),
    }


STRICT_PROTOCOL = Protocol(
    name="strict",
    measures=("dice", "iou", "hd95", "asd"),
    resize="linear",
    score=_score,
    about="millimetres; a missed or invented structure counts as the worst, an empty one found empty as right",
)
