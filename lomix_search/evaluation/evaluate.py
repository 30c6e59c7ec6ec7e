"""Scoring a network on whole cases, and what comes of it: tables, predictions, overlays."""

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from lomix_search.data.case import Case
from lomix_search.data.readers.guard import readable
from lomix_search.data.readers.nifti import write_nifti
from lomix_search.errors import DataError, require
from lomix_search.evaluation.dice import mean_of_counted
from lomix_search.evaluation.inference import How, Prediction, predict
from lomix_search.evaluation.protocols import check_shape, find_protocol
from lomix_search.instrumentation.outputs import reader_of
from lomix_search.utils.schema import write_text
from lomix_search.utils.terminal import Table

Floats = NDArray[np.float64]

_COLOURS = (
    (230, 60, 60), (60, 180, 75), (255, 200, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The scores of one class of one case.

    Args:
        case: Its name.
        patient: Whose it is.
        label: The class.
        scores: By measure; NaN where a measure is not defined.
    """

    case: str
    patient: str
    label: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All scores of one network on one set of cases.

    Args:
        protocol: How they were scored.
        unit: Of distances: ``mm`` or ``voxel``.
        rows: One for each case and foreground class.
    """

    protocol: str
    unit: str
    rows: tuple[Row, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground classes, in the order of their numbers."""
        return tuple(dict.fromkeys(row.label for row in self.rows))

    @property
    def cases(self) -> tuple[str, ...]:
        """Cases, in the order they were scored."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    @property
    def measures(self) -> tuple[str, ...]:
        """What was measured, the one to compare by first."""
        return tuple(self.rows[0].scores) if self.rows else ()

    def matrix(self, measure: str) -> Floats:
        """Return one measure as (cases, classes)."""
        value = {(row.case, row.label): row.scores[measure] for row in self.rows}
        return np.array([[value[case, label] for label in self.classes] for case in self.cases], float)

    def per_class(self, measure: str) -> dict[str, float]:
        """Return the mean over cases of each class."""
        return dict(zip(self.classes, mean_of_counted(self.matrix(measure), 0).tolist(), strict=True))

    def per_case(self, measure: str) -> dict[str, float]:
        """Return the mean over classes of each case."""
        return dict(zip(self.cases, mean_of_counted(self.matrix(measure), 1).tolist(), strict=True))

    def mean(self, measure: str) -> float:
        """Return the mean over classes of their means over cases."""
        return float(mean_of_counted(mean_of_counted(self.matrix(measure), 0), 0))

    def interval(self, measure: str, level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
        """Return a bootstrap interval of the mean, drawing whole patients with replacement.

        Args:
            measure: What.
            level: Share of the draws inside.
            draws: Number of draws; the same every time.

        Returns:
            Its ends; equal for a single patient, which says nothing about others.
        """
        matrix, patients = self.matrix(measure), self._patients()
        known = ~np.isnan(matrix)
        owner = np.array([patients == p for p in dict.fromkeys(patients.tolist())], float)  # (patients, cases)
        sums, counts = owner @ np.where(known, matrix, 0), owner @ known
        drawn = np.random.default_rng(0).multinomial(len(owner), np.full(len(owner), 1 / len(owner)), draws)
        total = drawn @ counts
        means = np.where(total > 0, drawn @ sums / np.maximum(total, 1), np.nan)
        found = mean_of_counted(means, 1)
        found = found[~np.isnan(found)] if not np.isnan(found).all() else found
        low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def groups(self) -> dict[str, "Evaluation"]:
        """Return the parts of a benchmark of several test sets: cases named ``SET/…``, set by set."""
        found = dict.fromkeys(row.case.rpartition("/")[0] for row in self.rows)
        return {
            g: replace(self, rows=tuple(r for r in self.rows if r.case.rpartition("/")[0] == g)) for g in found if g
        }

    def to_csv(self) -> str:
        """Return one line for each case and class; :func:`read_evaluation` reads it back."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["protocol", "unit", "case", "patient", "class", *self.measures])
        for r in self.rows:
            values = [repr(float(v)) for v in r.scores.values()]
            writer.writerow([self.protocol, self.unit, r.case, r.patient, r.label, *values])
        return out.getvalue()

    def to_markdown(self) -> str:
        """Return class by class, the mean with its interval by patient, and the test sets if there are several."""
        head = ["class", *(_titled(m, self.unit) for m in self.measures)]
        lines = [head, ["---"] * len(head)]
        lines += [[c, *(_shown(self.per_class(m)[c]) for m in self.measures)] for c in self.classes]
        lines += [["**mean**", *(_shown(self.mean(m)) for m in self.measures)]]
        lines += [["95 % interval", *("{:.4g} – {:.4g}".format(*self.interval(m)) for m in self.measures)]]
        lines += [[f"mean of {g}", *(_shown(e.mean(m)) for m in self.measures)] for g, e in self.groups().items()]
        cases = f"{len(self.cases)} cases of {len(set(self._patients().tolist()))} patients, protocol `{self.protocol}`"
        return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", cases, ""])

    def __rich__(self) -> Table:
        """Lay out classes × measures with the means below."""
        table = Table("class", *(_titled(m, self.unit) for m in self.measures), title=f"protocol {self.protocol}")
        for label in self.classes:
            table.add_row(label, *(_shown(self.per_class(m)[label]) for m in self.measures))
        table.add_section()
        table.add_row("mean", *(_shown(self.mean(m)) for m in self.measures), style="bold")
        for group, part in self.groups().items():
            table.add_row(group, *(_shown(part.mean(m)) for m in self.measures))
        return table

    def _patients(self) -> NDArray[Any]:
        patient = {row.case: row.patient for row in self.rows}
        return np.array([patient[case] for case in self.cases])


def evaluate(
    network: nn.Module,
    cases: Sequence[Case],
    classes: Sequence[str],
    *,
    protocol: str = "strict",
    how: How | None = None,
    save: str | Path | None = None,
    overlays: int = 0,
    progress: bool = True,
    ignore_index: int | None = None,
) -> Evaluation:
    """Score a network on whole cases.

    Args:
        network: The network, instrumented or not; :func:`~lomix_search.instrumentation.outputs.reader_of` finds
            its logits.
        cases: Whole cases at native size, e.g. ``splits.volumes["test"]``; read one at a time.
        classes: All classes, the background first.
        protocol: Name of a protocol; it decides how predictions get back to native size.
        how: How cases are predicted.
        save: Folder for ``scores.csv``, ``scores.md`` and the predictions: NIfTI on the grid of the raw file, or PNG.
        overlays: Write pictures of so many cases: the image, the truth and the prediction.
        progress: Show a progress bar.
        ignore_index: Label value whose pixels count nowhere.

    Returns:
        All scores.

    Raises:
        DataError: no cases, two of one name, some with known spacing and some without, or the protocol is not made for
            such cases.
        RunError: the network returned something that cannot be scored.
    """
    chosen = find_protocol(protocol)
    how = replace(how or How(), resize=chosen.resize)
    rows: list[Row] = []
    units: dict[str, str] = {}
    soft, names, read = chosen.name == "polyp", set[str](), reader_of(network, len(classes))
    for number, case in enumerate(track(cases, "evaluate", disable=not progress)):
        units.setdefault("mm" if case.spacing and chosen.name != "transunet" else "voxel", case.name)
        _check_name(case.name, names)
        check_shape(chosen, case.label, case.name)
        prediction = predict(network, case, how, foreground=soft, read=read)
        rows += score_case(case, prediction, classes, protocol, ignore_index)
        if save is not None:
            save_prediction(Path(save) / "predictions", case, prediction, len(classes))
            if number < overlays:
                overlay = Path(save) / "overlays" / f"{file_name(case.name)}.png"
                save_overlay(overlay, case, prediction.label, ignore_index)
    evaluation = Evaluation(protocol, _one_unit(units), tuple(rows))
    if save is not None:
        write_text(Path(save) / "scores.csv", evaluation.to_csv())
        write_text(Path(save) / "scores.md", evaluation.to_markdown())
    return evaluation


def score_case(
    case: Case, prediction: Prediction, classes: Sequence[str], protocol: str, ignore_index: int | None = None
) -> list[Row]:
    """Score one predicted case.

    Args:
        case: With its true label.
        prediction: At the same size.
        classes: All classes, the background first.
        protocol: Name of a protocol.
        ignore_index: Label value whose pixels count nowhere: neither is true or predicted there. For distances they
            are background in both, so that a mask that reaches them has a surface there.

    Returns:
        One row for each foreground class; without a value where no pixel of the case, or none of the class, may count.

    Raises:
        DataError: prediction and case differ in shape, or the protocol is not made for such cases.
    """
    chosen = find_protocol(protocol)
    check_shape(chosen, case.label, case.name)
    if prediction.label.shape != case.label.shape:
        shapes = f"prediction {prediction.label.shape}, label {case.label.shape}"
        raise DataError(f"{case.name}: the prediction has another shape than the label.", seen=shapes)
    if case.spacing and (len(case.spacing) != case.label.ndim or not min(case.spacing) > 0):
        raise DataError(
            f"{case.name}: the spacing must be a positive number for each axis of the label, or be left out.",
            seen=f"spacing {tuple(case.spacing)}, label {case.label.shape}",
        )
    if (highest := int(prediction.label.max(initial=0))) >= len(classes):
        raise DataError(
            f"{case.name}: class {highest} is predicted; there are {len(classes)} classes, 0 … {len(classes) - 1}.",
            hint="the network's channels and the recipe's classes must agree: network.args, data.classes",
        )
    rows = []
    kept = None if ignore_index is None else case.label != ignore_index
    kept = None if kept is None or kept.all() else kept
    for number, name in enumerate(classes[1:], 1):
        soft = prediction.foreground if len(classes) == 2 else None
        predicted, true = (
            mask if kept is None else mask & kept for mask in (prediction.label == number, case.label == number)
        )
        if number == ignore_index or (kept is not None and not kept.any()):
            values = dict.fromkeys(chosen.measures, float("nan"))
        else:
            values = chosen.score(predicted, true, case.spacing, soft, kept)
        rows.append(Row(case.name, case.patient or case.name, name, values))
    return rows


def read_evaluation(path: str | Path) -> Evaluation:
    """Read scores back from CSV.

    Args:
        path: ``scores.csv``, or a folder that holds it.

    Returns:
        The evaluation.

    Raises:
        DataError: no such file, or not one of these.
    """
    path = Path(path) / "scores.csv" if Path(path).is_dir() else Path(path)
    with readable(path):
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    fixed = ("protocol", "unit", "case", "patient", "class")
    if not lines or any(key not in lines[0] for key in fixed):
        raise DataError(f"{path} holds no scores.", hint="lomix evaluate RUN   # writes scores.csv")
    try:
        rows = [
            Row(line["case"], line["patient"], line["class"], {k: float(v) for k, v in line.items() if k not in fixed})
            for line in lines
        ]
    except (ValueError, TypeError) as cause:  # no number, a row of another length
        raise DataError(f"{path} is damaged.", seen=str(cause), hint="lomix evaluate RUN   # writes it anew") from None
    return Evaluation(lines[0]["protocol"], lines[0]["unit"], tuple(rows))


def save_prediction(folder: Path, case: Case, prediction: Prediction, classes: int = 0) -> Path:
    """Write a prediction in the raw file's own form, with the label values that the raw file has.

    Args:
        folder: Where.
        case: The case it was made for.
        prediction: What was predicted.
        classes: How many there are, with the background; of a picture, two are written as 0/255 where the case does not
            say what its file has.

    Returns:
        The file: ``NAME.nii.gz`` for a volume; for a picture ``NAME.png`` of 8 or 16 bits, ``NAME.tif`` of 32 where a
        label is above 65535.
    """
    label, picture = prediction.label, "size" in case.origin
    values: Sequence[int] = case.values
    if not values and picture and (classes or 1 + int(label.max(initial=0))) <= 2:
        values = (0, 255)
    if values:
        label = np.array(values, np.min_scalar_type(max(values)))[label]
    if not picture:
        path = folder / f"{file_name(case.name)}.nii.gz"
        write_nifti(path, label, case.origin, case.spacing)
        return path
    wide = label.dtype.itemsize > 2
    path = folder / f"{file_name(case.name)}.{'tif' if wide else 'png'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    require("PIL.Image", "data").fromarray(label[0].astype(np.int32) if wide else label[0]).save(path)
    return path


_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)  # devices of Windows
_LONGEST = 200  # bytes; file systems take 255 with the ending


def file_name(name: str) -> str:
    """Return where a case's files go below a folder; never outside it, and never where another case's go.

    Names of plain signs are kept, ``SET/stem`` is a file in a folder. All else is written as %XX, as in addresses; of a
    name that is too long, the end becomes its hash.

    Args:
        name: Of a case; any text.

    Returns:
        A relative path without an ending.
    """
    *folders, last = (_part(part) for part in name.split("/"))
    return "/".join([*(re.sub(r"\.(?=(png|tif|gz)$)", "%2E", folder) for folder in folders), last])


def _part(part: str) -> str:
    if part.strip(".") == "" or _RESERVED.match(part):  # "", ".", ".." and devices: their first sign as well
        part, first = part[1:], f"%{ord(part[0]):02X}" if part else "%"
    else:
        first = ""
    kept = re.sub(r'[%<>:"\\|?*\x00-\x1f\x7f\ud800-\udfff]|[. ]$', lambda sign: f"%{ord(sign[0]):02X}", part)
    whole = first + kept
    if len(whole.encode()) <= _LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:32]
    return whole.encode()[: _LONGEST - 33].decode(errors="ignore") + "%-" + digest


def _check_name(name: str, seen: set[str]) -> None:
    if name in seen:
        raise DataError(
            f"two cases are named {name!r}; scores and files are kept by name.", hint="give every case its own name"
        )
    seen.add(name)


def save_overlay(path: Path, case: Case, prediction: NDArray[Any], ignore_index: int | None = None) -> None:
    """Write a picture to look at: the slice with the most foreground, bare, with the truth, and with the prediction.

    Args:
        path: ``.png``.
        case: The case.
        prediction: Class numbers, (slices, rows, columns).
        ignore_index: Label value that is not painted.
    """
    truth = case.label if ignore_index is None else np.where(case.label == ignore_index, 0, case.label)
    middle = int((truth > 0).sum((1, 2)).argmax())
    planes = case.image[middle]
    low, high = float(planes.min()), float(planes.max())
    grey = (planes - low) / max(high - low, 1e-6) * 255
    bare = np.repeat(grey[:1], 3, 0) if len(grey) != 3 else grey
    views = [bare.transpose(1, 2, 0), *(_painted(bare, label[middle]) for label in (truth, prediction))]
    path.parent.mkdir(parents=True, exist_ok=True)
    require("PIL.Image", "data").fromarray(np.concatenate(views, 1).astype(np.uint8)).save(path)


def _painted(bare: NDArray[Any], label: NDArray[Any]) -> NDArray[Any]:
    painted = bare.transpose(1, 2, 0).astype(float)
    for number in np.unique(label[label > 0]):
        colour = np.array(_COLOURS[(int(number) - 1) % len(_COLOURS)], float)
        painted[label == number] = 0.5 * painted[label == number] + 0.5 * colour
    return painted


def _one_unit(units: Mapping[str, str]) -> str:
    if not units:
        raise DataError("there are no cases to evaluate.", hint="lomix validate RECIPE")
    if len(units) > 1:
        raise DataError(
            "distances cannot be averaged over cases with and without known spacing.",
            seen=f"{units['mm']} has a spacing in mm, {units['voxel']} has none",
            hint="prepare all cases from NIfTI files, or evaluate with protocol=transunet",
        )
    return next(iter(units))


def _titled(measure: str, unit: str) -> str:
    return f"{measure} ({unit})" if measure in ("hd95", "asd") else measure


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}" if value < 10 else f"{value:.2f}"
