"""Scoring a network on whole cases, one at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import track
from torch import nn

from lomix_search.data.case import Case
from lomix_search.data.regions import Regions
from lomix_search.errors import DataError
from lomix_search.evaluation.inference import InferenceOptions, predict_case
from lomix_search.evaluation.prediction_files import file_name, save_overlay, save_prediction
from lomix_search.evaluation.protocols import find_protocol
from lomix_search.evaluation.region_files import painted_regions, save_regions
from lomix_search.evaluation.score_case import score_case
from lomix_search.evaluation.score_table import ClassScores, Evaluation
from lomix_search.instrumentation.outputs import reader_of
from lomix_search.utils.files import write_text
from lomix_search.utils.terminal import Terminal


def evaluate(
    network: nn.Module | Sequence[nn.Module],
    cases: Sequence[Case],
    classes: Sequence[str],
    *,
    protocol: str = "strict",
    how: InferenceOptions | None = None,
    save: str | Path | None = None,
    overlays: int = 0,
    progress: bool = True,
    ignore_index: int | None = None,
    regions: Regions | None = None,
    masks: bool = False,
    written: Sequence[int] = (),
) -> Evaluation:
    """Score a network on whole cases.

    Args:
        network: The network, instrumented or not, or several whose probabilities are averaged;
            :func:`~lomix_search.instrumentation.outputs.reader_of` finds their logits.
        cases: Whole cases at native size, e.g. ``splits.volumes["test"]``; read one at a time.
        classes: All classes, the background first; the regions of multi-label data.
        protocol: Name of a protocol; it decides how predictions get back to native size.
        how: How cases are predicted.
        save: Folder for ``scores.csv``, ``scores.md`` and the predictions: NIfTI on the grid of the raw file, or PNG.
        overlays: Write pictures of this many cases: the image, the truth and the prediction.
        progress: Show a progress bar.
        ignore_index: Label value whose pixels count nowhere.
        regions: Label values of overlapping regions (multi-label): each is scored as a class of its own. Empty where
            the cases hold masks (R, slices, rows, columns) already; None of data that have one class a pixel.
        masks: Save regions as one mask each, also where one label map could hold them.
        written: Label value that each region is saved as, in the order of painting; found out when left out.

    Returns:
        All scores.

    Raises:
        DataError: no cases, two of one name, some with known spacing and some without, or the protocol is not made for
            such cases.
        RunError: the network returned something that cannot be scored.
    """
    chosen, folder = find_protocol(protocol), None if save is None else Path(save)
    multilabel = regions is not None
    options = replace(InferenceOptions() if how is None else how, resize=chosen.resize, multilabel=multilabel)
    rows: list[ClassScores] = []
    units: dict[str, str] = {}
    networks = [network] if isinstance(network, nn.Module) else network
    read = [reader_of(one, len(classes), multilabel) for one in networks]
    for number, case in enumerate(
        _of_own_name(track(cases, "evaluate", console=Terminal(stderr=True), disable=not progress))
    ):
        units.setdefault(chosen.unit(case.spacing), case.name)
        chosen.check_shape(case.image[:, 0], case.name)
        prediction = predict_case(network, case, options, foreground=chosen.soft, read=read)
        rows += score_case(case, prediction, classes, protocol, ignore_index, regions)
        if folder is not None and regions is not None:
            save_regions(folder / "predictions", case, prediction, classes, regions, masks, written)
        elif folder is not None:
            save_prediction(folder / "predictions", case, prediction, len(classes))
        if folder is not None and number < overlays:
            overlay = folder / "overlays" / f"{file_name(case.name)}.png"
            if regions is None:
                save_overlay(overlay, case, prediction.label, ignore_index)
            else:
                save_overlay(overlay, *painted_regions(case, prediction, classes, regions, ignore_index))
    evaluation = Evaluation(protocol, _one_unit(units), tuple(rows), multilabel)
    if folder is not None:
        write_text(folder / "scores.csv", evaluation.to_csv())
        write_text(folder / "scores.md", evaluation.to_markdown())
    return evaluation


def _of_own_name(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases, each of which must have a name of its own."""
    seen = set[str]()
    for case in cases:
        if case.name in seen:
            raise DataError(
                f"two cases are named {case.name!r}; scores and files are kept by name.",
                hint="give every case its own name",
            )
        seen.add(case.name)
        yield case


_WHOLE = (
    'Splits(…, volumes={"test": cases, "val": others})   # in your own data function: whole cases at native size',
    "lomix validate RECIPE   # counts the cases of each set",
)


def _one_unit(units: Mapping[str, str]) -> str:
    if not units:
        raise DataError("there are no cases to evaluate.", hint=_WHOLE)
    if len(units) > 1:
        raise DataError(
            "distances cannot be averaged over cases with and without known spacing.",
            seen=f"{units['mm']} has a spacing in mm, {units['voxel']} has none",
            hint="prepare all cases from NIfTI files, or evaluate with protocol=transunet",
        )
    return next(iter(units))
