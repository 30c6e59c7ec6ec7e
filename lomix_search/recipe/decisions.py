"""What is decided about somebody's data, each decision with what it was decided by and the option that changes it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from lomix_search.data.case import size_in_words
from lomix_search.data.split import read_split
from lomix_search.data.survey import is_ct
from lomix_search.errors import DataError, nearest
from lomix_search.recipe.choices import Choices
from lomix_search.recipe.network_choice import STEP, patch_size
from lomix_search.recipe.own_data import Look, all_of, tried

FEWEST_SLICES = 8
"""Volumes with fewer slices than these are trained on slice by slice."""

_FLAT = 3.0  # ratio of spacings from which on a volume is a stack of slices: nnU-Net's rule
_MOST_CHANNELS = 4  # without names; more may be frames over time
_FOLDERS, _CASES = 10, 10  # fewer folders than these with more cases each may be kinds of cases, no patients


@dataclass(frozen=True)
class Row:
    """One decision, as it is shown.

    Args:
        what: It is about.
        value: What was decided.
        why: What it was decided by.
        option: What changes it.
    """

    what: str
    value: str
    why: str
    option: str = ""


@dataclass(frozen=True)
class Question:
    """A decision that the data leave open.

    Args:
        option: The field of ``Choices`` that answers it.
        text: The question.
        answers: What can be answered.
        default: What is taken when nobody answers.
    """

    option: str
    text: str
    answers: tuple[str, ...]
    default: str


@dataclass(frozen=True)
class Decisions:
    """All that was decided.

    Args:
        dims: 2: slices or pictures; 3: volumes.
        size: Rows and columns of a slice (one number), or slices, rows and columns of a patch.
        spacing: Millimetres that volumes are brought to; empty: the median of all, or as they are.
        stated: Millimetres of files that do not say theirs, where others do; else empty.
        names: Names of the label values.
        regions: Label values of overlapping regions.
        ignore: Label value that counts nowhere.
        modalities: Names of the channels.
        window: Lowest and highest intensity that is told apart.
        patients: Whose each case is.
        split: ``random``, ``folders`` or a split file.
        scaled: How intensities are scaled, in words.
        rows: The decisions in words.
        open: What the data leave open.
    """

    dims: Literal[2, 3]
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    stated: tuple[float, ...]
    names: Mapping[int, str]
    regions: Mapping[str, tuple[int, ...]]
    ignore: int | None
    modalities: tuple[str, ...]
    window: tuple[float, float] | None
    patients: Mapping[str, str]
    split: str
    scaled: str = ""
    rows: tuple[Row, ...] = ()
    open: tuple[Question, ...] = ()


def decide_all(look: Look, choices: Choices) -> Decisions:
    """Decide all that a recipe needs.

    Args:
        look: What was seen.
        choices: What the user has decided.

    Returns:
        The decisions.

    Raises:
        DataError: names, patients, regions or sizes that do not fit the data; all faults are listed.
    """
    faults: list[DataError] = []
    names = tried(lambda: _names(look, choices.classes), faults)
    patients = {name: tried(partial(_patient, look, name, choices.patient), faults) for name in look.pairs}
    dims, why, sure = _dims(look, choices)
    if dims == 3 and look.flat is not None:
        faults.append(look.flat)
    size = tried(lambda: _size(look, choices, dims), faults)
    regions = tried(lambda: _regions(look, names or {}, choices.regions, choices.binary), faults)
    modalities = tried(lambda: _modalities(look, choices), faults)
    split = tried(lambda: _split(look, choices), faults)
    tried(lambda: _check_window(look, choices.window), faults)
    tried(lambda: _check_dims(look, choices, dims), faults)
    if faults or names is None or size is None or regions is None or modalities is None or split is None:
        raise all_of(faults, len(look.pairs))
    ignore = look.coding.ignore
    whose = {name: patient for name, patient in patients.items() if patient is not None}
    window = choices.window or (look.scaling.window if dims == 2 else None)  # of volumes it is measured when prepared
    # Where no file says its spacing, none is made up: neither could that of a new image be known.
    stated = choices.spacing if 0 < len(look.spacings) < len(look.pairs) and look.volumes else ()
    decided = (dims, size, choices.spacing if dims == 3 else (), stated, names, regions, ignore, modalities, window)
    found = Decisions(*decided, whose, split)
    found = replace(found, scaled=_scaled(look, found, choices.window))
    return replace(found, rows=_rows(look, choices, found, why), open=_open(look, choices, sure))


# -- one decision ------------------------------------------------------------------------------------------------------


def _dims(look: Look, choices: Choices) -> tuple[Literal[2, 3], str, bool]:
    """Return 2 or 3, what it was decided by, and whether that leaves no doubt."""
    if not look.volumes:
        return 2, "pictures", True
    slices = int(np.median([min(shape[0], *shape[2:]) for shape in look.shapes]))
    known = look.spacings or ((choices.spacing,) if choices.spacing else ())
    ratio = float(np.median([max(s) / min(s) for s in known])) if known else 1.0
    dims: Literal[2, 3] = 3 if slices >= FEWEST_SLICES and ratio < _FLAT else 2
    words = f"{slices} slices at the median (3D from {FEWEST_SLICES}), spacing ratio {ratio:.2g} (3D below {_FLAT:g})"
    if choices.dims is not None:
        return choices.dims, "--dims", True
    return dims, words if known else f"{slices} slices at the median; no spacing is known", bool(known)


def _check_dims(look: Look, choices: Choices, dims: int) -> None:
    """Refuse what goes with volumes alone."""
    if choices.dims == 3 and not look.volumes:
        raise DataError("--dims 3 goes with volumes; these are pictures.", hint="leave it out")
    if choices.spacing and dims == 2 and (look.spacings or not look.volumes):
        raise DataError(
            "--spacing goes with 3D; slices and pictures keep their own pixels.", hint="--dims 3, or leave it out"
        )


def _size(look: Look, choices: Choices, dims: int) -> tuple[int, ...]:
    if choices.size:
        if len(choices.size) != (1 if dims == 2 else 3):
            raise DataError(
                f"--size {size_in_words(choices.size)} does not go with {dims}D.",
                hint="--size 224" if dims == 2 else "--size 48,64,48   # slices, rows, columns",
            )
        if odd := [n for n in choices.size if n % STEP]:
            raise DataError(
                f"--size {odd[0]} is no multiple of {STEP}, as networks need it.", hint=f"--size {_near(odd[0])}"
            )
        return choices.size
    if dims == 2:
        return (int(np.clip(32 * round(look.size / 32), 64, 512)),)
    return patch_size(look.shapes, look.spacings, choices.spacing)


def _near(side: int) -> int:
    return max(STEP, STEP * round(side / STEP))


def _names(look: Look, given: Sequence[str]) -> dict[int, str]:
    if look.numbers or not given:
        return dict(look.coding.names)
    if len(given) != len(look.labels):
        raise DataError(
            f"{len(given)} class names for {len(look.labels)} label values.",
            seen=f"values {', '.join(map(str, look.labels))}; names {', '.join(given)}",
        )
    if twice := sorted({name for name in given if name == "background" or list(given).count(name) > 1}):
        raise DataError(
            f"class name {', '.join(map(repr, twice))} is taken; each class needs a name of its own.",
            seen=f"names background, {', '.join(given)}",
        )
    return dict(zip(look.labels, given, strict=True))


def _regions(
    look: Look, names: Mapping[int, str], given: Mapping[str, Sequence[str]], binary: bool
) -> dict[str, tuple[int, ...]]:
    """Return the label values of each region, or name those that do not exist."""
    if not given:
        return {} if binary else dict(look.found.regions)
    value_of = {name: value for value, name in names.items()} | {str(value): value for value in names}
    found = {}
    for region, members in given.items():
        if unknown := [member for member in members if member not in value_of]:
            raise DataError(
                f"--regions: region {region!r} has a label {unknown[0]!r}, which does not exist. "
                + nearest(unknown[0], names.values()),
                seen="labels " + ", ".join(f"{value} {name}" for value, name in names.items()),
            )
        found[region] = tuple(sorted({value_of[member] for member in members}))
    return found


def _modalities(look: Look, choices: Choices) -> tuple[str, ...]:
    named = choices.channels if not choices.intensity else ()
    if named and len(named) != look.channels:
        raise DataError(
            f"--modality names {len(named)} channels; the images have {look.channels}.", seen=", ".join(named)
        )
    known = named or look.found.modalities
    if not look.volumes and len(known) == 1:
        return ()  # a grey picture of 8 bits has three channels that are alike
    if choices.intensity and any(is_ct(name) != (choices.intensity == "ct") for name in known):
        return ()  # the user says what they are, against their names
    if not known and look.volumes and look.channels > _MOST_CHANNELS:
        raise DataError(
            f"{next(iter(look.pairs.values()))[0][0]}: {look.channels} values a voxel; channels or frames over time?",
            hint=[
                "--modality A,B,…   # a name for each, if they are channels",
                "save one file a frame, if they are frames",
            ],
        )
    if not known and look.volumes and look.channels > 1:
        return tuple(f"channel {number}" for number in range(look.channels))  # so that each is scaled by itself
    if known and len(known) != look.channels:
        raise DataError(
            f"{look.found.said} names {len(known)} channels; the images have {look.channels}.",
            seen=", ".join(known),
            hint=f"mend {look.found.said}, or name them: lomix new … --modality A,B,…",
        )
    return known


def _check_window(look: Look, window: tuple[float, float] | None) -> None:
    """Refuse a window where each image is scaled by itself, or one that does not hold all pictures."""
    kind, whole = look.scaling.intensity, look.scaling.window
    if window is None or kind == "ct":
        return
    if kind != "range" or whole is None:
        raise DataError(
            f"--window goes with CT and with pictures of wide numbers; these are {kind}.",
            hint="leave it out, or say that they are CTs: --modality ct",
        )
    if window[0] > whole[0] or window[1] < whole[1]:
        raise DataError(
            f"--window {window[0]:g},{window[1]:g} does not hold all pictures.",
            seen=f"values {whole[0]:g} … {whole[1]:g}",
            hint=f"--window {whole[0]:g},{whole[1]:g} or wider",
        )


def _patient(look: Look, name: str, pattern: str) -> str:
    if pattern in ("", "folder", "case"):
        by_folder = pattern == "folder" or (not pattern and not _doubtful(look))
        return look.found.patients.get(name, name) if by_folder else name
    found = re.search(pattern, name)
    if found is None:
        raise DataError(f"the patient pattern {pattern!r} does not match the case {name!r}.")
    return found[1] if found.groups() else found[0]


def _doubtful(look: Look) -> bool:
    """Whether the first folders may be kinds of cases (benign, malignant) rather than patients: few with many each."""
    folders = len(set(look.found.patients.values()))
    return 0 < folders < _FOLDERS and len(look.pairs) > _CASES * folders


def _split(look: Look, choices: Choices) -> str:
    if choices.split == "random":
        return "folders" if look.found.groups else "random"
    read_split(Path(choices.split))
    return str(Path(choices.split).resolve())


# -- in words ----------------------------------------------------------------------------------------------------------


def _open(look: Look, choices: Choices, dims_sure: bool) -> tuple[Question, ...]:
    found = []
    if not look.scaling.sure and not choices.intensity:
        text = f"Are these CTs in Hounsfield units, or MR and others? {look.scaling.why}."
        found.append(Question("modality", text, ("ct", "mr"), look.scaling.intensity))
    if not dims_sure:
        text = "Train on whole volumes (3) or on their slices (2)? The files do not say how far apart slices are."
        found.append(Question("dims", text, ("2", "3"), "3" if _dims(look, choices)[0] == 3 else "2"))
    if _doubtful(look) and not choices.patient:
        names = ", ".join(sorted(set(look.found.patients.values()))[:4])
        text = f"Is each folder ({names}, …) a patient, or each case one?"
        found.append(Question("patient", text, ("folder", "case"), "case"))
    return tuple(found)


def _rows(look: Look, choices: Choices, found: Decisions, why_dims: str) -> tuple[Row, ...]:
    said, shapes = look.found.said, look.shapes
    named = f" ({', '.join(found.modalities)})" if found.modalities else ""
    classes = ", ".join(f"{value} {name}" for value, name in found.names.items())
    patients = len(set(found.patients.values()))
    rows = [
        Row("form", look.found.form, str(look.found.root)),
        Row("cases", str(len(shapes)), "; ".join(look.found.notes) or "each an image with its label"),
        Row("modality", _kinds_of(look, found), look.scaling.why, "--modality"),
        Row("2D or 3D", f"{found.dims}D", why_dims, "--dims"),
        Row("channels", f"{look.channels}{named}", said if found.modalities and not choices.channels else "the images"),
        Row(
            "classes",
            classes,
            "--classes" if choices.classes else said if look.found.labels else look.coding.said,
            "--classes",
        ),
    ]
    if found.regions:
        words = "; ".join(f"{name} = {' + '.join(map(str, values))}" for name, values in found.regions.items())
        rows.append(Row("regions", words, "--regions" if choices.regions else said, "--regions"))
    ignored, why = "none" if found.ignore is None else str(found.ignore), said or "no file names one"
    rows.append(Row("ignored label", ignored, "--ignore" if choices.ignore is not None else why, "--ignore"))
    if look.volumes:
        rows.append(Row("spacing", *_spacing(look, choices, found.dims), "--spacing"))
    window = choices.window
    return (
        *rows,
        Row("size", *_size_words(look, choices, found), "--size"),
        Row(
            "intensities",
            found.scaled,
            "--window" if window else "all images",
            "--window" if look.scaling.window else "",
        ),
        Row("split", *_split_words(found), "--split"),
        Row("patients", str(patients), _patients_words(look, choices, patients), "--patient"),
    )


def _kinds_of(look: Look, found: Decisions) -> str:
    """Return how intensities are scaled, of channels that have names by these: ``ct + mr`` of a CT with a PET."""
    kinds = dict.fromkeys("ct" if is_ct(name) else "mr" for name in found.modalities)
    return " + ".join(kinds) if kinds and look.volumes else look.scaling.intensity


def _scaled(look: Look, found: Decisions, window: tuple[float, float] | None) -> str:
    """Return how intensities are scaled, in words; of volumes, as they are prepared."""
    if window:
        return "{:g} … {:g} become 0 … 1".format(*window)
    if found.dims == 2:
        return look.scaling.words if len(found.modalities) < 2 else "each channel by itself becomes 0 … 1"
    if look.scaling.intensity == "ct":
        return "cut at the 0.5 and 99.5 percentiles of what is labelled, less its mean, by its deviation"
    return "each channel of each image less its mean, by its deviation"


def _size_words(look: Look, choices: Choices, found: Decisions) -> tuple[str, str]:
    sides = [(shape[0], *shape[2:])[3 - found.dims :] for shape in look.shapes]
    why = f"median {size_in_words(int(side) for side in np.median(sides, 0))}"
    return size_in_words(found.size * (2 if found.dims == 2 else 1)), "--size" if choices.size else why


def _spacing(look: Look, choices: Choices, dims: int) -> tuple[str, str]:
    if not look.spacings:
        asked = f"; {size_in_words(choices.spacing)} mm shape the network alone" if choices.spacing else ""
        return "not known", f"the files do not say it: distances will be in voxels{asked}"
    if choices.spacing:
        return size_in_words(choices.spacing) + " mm", "--spacing"
    median = size_in_words(round(float(s), 3) for s in np.median(np.array(look.spacings), 0)) + " mm"
    return median, "median of all" + (", volumes are brought to it" if dims == 3 else "; slices keep their own")


def _split_words(found: Decisions) -> tuple[str, str]:
    if found.split == "folders":
        return "train and test as in the folders", "the folders' names"
    return ("random", "70 / 10 / 20 by patient") if found.split == "random" else (found.split, "--split")


def _patients_words(look: Look, choices: Choices, patients: int) -> str:
    if choices.patient not in ("", "folder"):
        return "--patient"
    if look.found.patients and (choices.patient or not _doubtful(look)):
        return "the first folder of each case"
    return "each case is taken for one; if some are of one patient, say how names tell it" if patients > 1 else "one"
