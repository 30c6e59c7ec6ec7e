"""Protocol ``polyp``: pictures, scored as the polyp benchmarks do."""

import numpy as np

from lomix_search.data.case import Array
from lomix_search.evaluation import measures
from lomix_search.evaluation.protocols.protocol import Protocol, plane_of


def _score(
    prediction: Array, truth: Array, spacing: tuple[float, ...], score: Array | None, kept: Array | None = None
) -> dict[str, float]:
    """Score a picture as the polyp benchmarks do.

    Dice and IoU are taken at probability 0.5. All others stretch the scores of each picture to 0 … 1 first, as PraNet's
    test script does, so that even a picture without any confident pixel gets a foreground.
    """
    prediction, truth, soft = (
        plane_of(values)
        for values in (prediction, truth, np.asarray(prediction if score is None else score, np.float32))
    )
    counted = np.ones(truth.shape, bool) if kept is None else plane_of(kept)
    soft = (soft - soft[counted].min()) / (soft[counted].max() - soft[counted].min() + 1e-8)
    similarity = measures.s_measure(soft, truth, counted=counted)
    soft, truth, prediction = (
        soft[counted],
        truth[counted],
        prediction[counted],
    )  # the other measures count pixels, wherever they are
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


POLYP_PROTOCOL = Protocol(
    name="polyp",
    measures=("dice", "iou", "dice_curve", "iou_curve", "s_measure", "e_measure", "e_measure_max", "mae"),
    resize="linear",
    score=_score,
    about="one picture a case; at threshold 0.5 and as means over 256 thresholds",
    plane=True,
    soft=True,
)
