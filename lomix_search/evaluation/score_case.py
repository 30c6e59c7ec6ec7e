"""Scoring one predicted case: one row of measures for each class."""

from collections.abc import Sequence

from lomix_search.data.case import Case
from lomix_search.errors import DataError
from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.protocols import find_protocol
from lomix_search.evaluation.score_table import ClassScores


def score_case(
    case: Case, prediction: Prediction, classes: Sequence[str], protocol: str, ignore_index: int | None = None
) -> list[ClassScores]:
    """Score one predicted case.

    Args:
        case: With its true label.
        prediction: At the same size.
        classes: All classes, the background first.
        protocol: Name of a protocol.
        ignore_index: Label value whose pixels count nowhere: neither is true or predicted there. For distances they
            are background in both, so that a mask that reaches them has a surface there.

    Returns:
        One row for each foreground class. Its values are NaN where no pixel of the case, or none of the class, counts.

    Raises:
        DataError: prediction and case differ in shape, or the protocol is not made for such cases.
    """
    chosen = find_protocol(protocol)
    chosen.check_shape(case.label, case.name)
    _check(case, prediction, len(classes))
    kept = None if ignore_index is None else case.label != ignore_index
    if kept is not None and kept.all():
        kept = None
    soft = prediction.foreground if len(classes) == 2 else None
    rows = []
    for number, name in enumerate(classes[1:], 1):
        if number == ignore_index or (kept is not None and not kept.any()):
            values = dict.fromkeys(chosen.measures, float("nan"))
        else:
            masks = (label == number for label in (prediction.label, case.label))
            predicted, true = (mask if kept is None else mask & kept for mask in masks)
            values = chosen.score(predicted, true, case.spacing, soft, kept)
        rows.append(ClassScores(case.name, case.patient or case.name, name, values))
    return rows


def _check(case: Case, prediction: Prediction, classes: int) -> None:
    if prediction.label.shape != case.label.shape:
        shapes = f"prediction {prediction.label.shape}, label {case.label.shape}"
        raise DataError(f"{case.name}: the prediction has another shape than the label.", seen=shapes)
    if case.spacing and (len(case.spacing) != case.label.ndim or not min(case.spacing) > 0):
        raise DataError(
            f"{case.name}: the spacing must be a positive number for each axis of the label, or be left out.",
            seen=f"spacing {tuple(case.spacing)}, label {case.label.shape}",
        )
    if (highest := int(prediction.label.max(initial=0))) >= classes:
        raise DataError(
            f"{case.name}: class {highest} is predicted; there are {classes} classes, 0 … {classes - 1}.",
            hint="the network's channels and the recipe's classes must agree: network.args, data.classes",
        )
