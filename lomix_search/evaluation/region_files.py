"""Predicted regions as files: one label map where it can hold them, else one mask for each region."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lomix_search.data.case import Array, Case
from lomix_search.data.regions import Regions, class_map, painting_order
from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.prediction_files import prediction_paths, save_prediction
from lomix_search.evaluation.score_case import true_masks


def save_regions(
    folder: Path,
    case: Case,
    prediction: Prediction,
    names: Sequence[str],
    regions: Regions,
    masks: bool = False,
    written: Sequence[int] = (),
) -> list[Path]:
    """Write predicted regions in the raw file's own form.

    Args:
        folder: Where the files go.
        case: The predicted case.
        prediction: Its ``label`` are masks (R, slices, rows, columns).
        names: Of the regions.
        regions: Their label values; empty where there are none.
        masks: Write masks, also where a label map could hold the regions.
        written: Label value that each region is written as, in the order of painting; found out when left out.

    Returns:
        One file as ``save_prediction`` names it, with the label values of the raw file, where the regions are nested or
        apart: a region within another is painted over it. Else, or if asked for, ``NAME/REGION`` for each, 1 inside
        (255 in pictures).
    """
    order = painting_order(regions, written)
    if order is not None and not masks:
        classes = 1 + max(value for values in regions.values() for value in values)
        return [save_prediction(folder, case, Prediction(class_map(prediction.label, order)), classes)]
    one = replace(case, values=())
    return [
        save_prediction(folder, replace(one, name=part), Prediction(mask), 2)
        for part, mask in zip(_parts(case.name, names), prediction.label, strict=True)
    ]


def _parts(name: str, names: Sequence[str]) -> list[str]:
    """Name the mask of each region; a slash in a region's name would be a folder."""
    return [f"{name}/{part}" for part in (region.replace("/", "\\") for region in names)]


def region_paths(
    folder: Path,
    name: str,
    picture: bool,
    names: Sequence[str],
    regions: Regions,
    masks: bool,
    values: Sequence[int],
    written: Sequence[int] = (),
) -> list[Path]:
    """Return the files that :func:`save_regions` writes.

    Args:
        folder: Where they go.
        name: Of the case.
        picture: Whether it is a picture rather than a volume.
        names: Of the regions.
        regions: As there.
        masks: As there.
        values: What the labels' file holds for class 0, 1, …
        written: As there.

    Returns:
        One path, or one for each region.
    """
    if painting_order(regions, written) is not None and not masks:
        return prediction_paths(folder, name, picture, values=values)
    return [path for part in _parts(name, names) for path in prediction_paths(folder, part, picture)]


def painted_regions(
    case: Case, prediction: Prediction, names: Sequence[str], regions: Regions, ignore_index: int | None = None
) -> tuple[Case, Array]:
    """Return a case and its prediction as label maps that can be looked at: small regions lie over large ones.

    Args:
        case: The case.
        prediction: Its ``label`` are masks (R, slices, rows, columns).
        names: Of the regions.
        regions: Their label values; empty where the case holds masks.
        ignore_index: Label value whose pixels count nowhere.

    Returns:
        The case with region numbers 1 … R for a label, 0 where pixels count nowhere, and the prediction so.
    """
    truth = true_masks(case, names, ignore_index, regions)
    order = by_size(truth, regions)
    return replace(case, label=paint(truth, order)), paint(prediction.label, order)


def by_size(masks: Array, regions: Regions | None = None) -> tuple[int, ...]:
    """Say in which order regions are painted so that none hides a smaller one: the largest first.

    Args:
        masks: (R, *shape), 1 inside.
        regions: Their label values: a region with more of them is larger. Where there are none, pixels are counted.

    Returns:
        Their numbers from 0.
    """
    sizes = [len(values) for values in regions.values()] if regions else (masks == 1).reshape(len(masks), -1).sum(1)
    return tuple(sorted(range(len(masks)), key=lambda i: -int(sizes[i])))


def paint(masks: Array, order: Sequence[int]) -> Array:
    """Paint masks (R, *shape) over one another, in this order; region r has number r + 1, what is outside 0."""
    return class_map(masks, [(i, i + 1) for i in order])
