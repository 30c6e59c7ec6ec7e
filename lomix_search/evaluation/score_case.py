"""Scoring one predicted case: one row of measures for each class."""

from collections.abc import Sequence

from lomix_search.data.case import Array, Case
from lomix_search.data.dataset import check_masks
from lomix_search.data.regions import Regions, region_masks
from lomix_search.errors import DataError
from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.protocols import find_protocol
from lomix_search.evaluation.score_table import ClassScores


def score_case(
    case: Case,
    prediction: Prediction,
    classes: Sequence[str],
    protocol: str,
    ignore_index: int | None = None,
    regions: Regions | None = None,
) -> list[ClassScores]:
    """Score one predicted case.

    Args:
        case: With its true label.
        prediction: At the same size.
        classes: All classes, the background first; the regions of multi-label data.
        protocol: Name of a protocol.
        ignore_index: Label value whose pixels count nowhere: neither is true or predicted there. For distances they
            are background in both, so that a mask that reaches them has a surface there.
        regions: Label values of overlapping regions; empty where the case holds masks; None of classes.

    Returns:
        One row for each foreground class or region. Its values are NaN where no pixel of the case, or none of the
        class, counts.

    Raises:
        DataError: prediction and case differ in shape, or the protocol is not made for such cases.
    """
    chosen = find_protocol(protocol)
    truth = true_masks(case, classes, ignore_index, regions) if regions is not None else case.label
    plane = truth[0] if regions is not None else truth
    chosen.check_shape(plane, case.name)
    _check(case, prediction, truth, 2 if regions is not None else len(classes))
    kept = None if ignore_index is None else plane != ignore_index
    if kept is not None and kept.all():
        kept = None
    rows = []
    for number, name in enumerate(classes) if regions is not None else [*enumerate(classes)][1:]:
        dropped = regions is None and number == ignore_index
        if dropped or (kept is not None and not kept.any()):
            values = dict.fromkeys(chosen.measures, float("nan"))
        else:
            masks = ((of[number] == 1) if regions is not None else of == number for of in (prediction.label, truth))
            predicted, true = (mask if kept is None else mask & kept for mask in masks)
            soft = _soft(prediction, number, len(classes), regions is not None)
            values = chosen.score(predicted, true, case.spacing, soft, kept)
        rows.append(ClassScores(case.name, case.patient or case.name, name, values))
    return rows


def true_masks(case: Case, classes: Sequence[str], ignore_index: int | None, regions: Regions) -> Array:
    """Return what a multi-label case is scored against.

    Args:
        case: Its label is class numbers (slices, rows, columns), or masks (R, slices, rows, columns).
        classes: The regions.
        ignore_index: Label value whose pixels count nowhere.
        regions: Label values of each region; empty where the case holds masks already.

    Returns:
        Masks (R, slices, rows, columns).

    Raises:
        DataError: the masks of the case are not those of the regions.
    """
    if regions:
        return region_masks(case.label, regions, ignore_index)
    check_masks(case.label, len(classes), case.name, ignore_index)
    return case.label


def _soft(prediction: Prediction, number: int, classes: int, multilabel: bool) -> Array | None:
    """Return the foreground probability that a class has: that of the only class, or of a region."""
    if prediction.foreground is None or (classes != 2 and not multilabel):
        return None
    return prediction.foreground[number] if multilabel else prediction.foreground


def _check(case: Case, prediction: Prediction, truth: Array, values: int) -> None:
    if prediction.label.shape != truth.shape:
        shapes = f"prediction {prediction.label.shape}, label {truth.shape}"
        raise DataError(
            f"{case.name}: the prediction has another shape than the label.",
            seen=shapes,
            hint=[
                "from lomix_search.data.resizing import resize_labels",
                f"resize_labels(prediction.label, {truth.shape[-prediction.label.ndim :]})",
            ],
        )
    if case.spacing and (len(case.spacing) != case.image[:, 0].ndim or not min(case.spacing) > 0):
        raise DataError(
            f"{case.name}: the spacing must be a positive number for each axis of the label, or be left out.",
            seen=f"spacing {tuple(case.spacing)}, label {case.label.shape}",
            hint="dataclasses.replace(case, spacing=())   # distances in voxels then",
        )
    if (highest := int(prediction.label.max(initial=0))) >= values:
        raise DataError(
            f"{case.name}: class {highest} is predicted; there are {values} classes, 0 … {values - 1}.",
            hint="the network's channels and the recipe's classes must agree: network.args, data.classes",
        )
