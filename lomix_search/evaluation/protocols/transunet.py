"""Protocol ``transunet``: comparable with the Synapse literature, with its own way to count empty masks."""

from lomix_search.data.case import Array
from lomix_search.evaluation import measures
from lomix_search.evaluation.protocols.protocol import Protocol


def _score(
    prediction: Array, truth: Array, spacing: tuple[float, ...], score: Array | None, kept: Array | None = None
) -> dict[str, float]:
    """Score in voxels, as the community does: where a mask is empty, any prediction is right and none is wrong."""
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


TRANSUNET_PROTOCOL = Protocol(
    name="transunet",
    measures=("dice", "hd95", "iou", "asd"),
    resize="nearest",
    score=_score,
    about="comparable with the Synapse literature: voxels, and its own way with empty masks",
    voxels=True,
)
