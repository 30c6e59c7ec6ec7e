"""Protocol ``isic2018``: pictures of skin lesions, scored as the challenge of 2018 did."""

from lomix_search.data.case import Array
from lomix_search.evaluation import measures
from lomix_search.evaluation.protocols.protocol import Protocol, plane_of


def _score(
    prediction: Array, truth: Array, spacing: tuple[float, ...], score: Array | None, kept: Array | None = None
) -> dict[str, float]:
    """Score a picture as the ISIC 2018 challenge did: a Jaccard index below 0.65 counts 0."""
    prediction, truth = plane_of(prediction), plane_of(truth)
    if kept is not None:
        prediction, truth = prediction[plane_of(kept)], truth[plane_of(kept)]
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


ISIC2018_PROTOCOL = Protocol(
    name="isic2018",
    measures=("jaccard_thresholded", "iou", "dice", "sensitivity", "specificity", "accuracy"),
    resize="linear",
    score=_score,
    about="the challenge's: a Jaccard index below 0.65 counts 0",
    plane=True,
)
