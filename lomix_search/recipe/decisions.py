"""How everything about somebody's data is decided: by the user, else by the files, else by what was seen in them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lomix_search.data.block_fit import STEP
from lomix_search.data.case import size_in_words
from lomix_search.data.split import SplitFile, SplitPlan, make_split, read_split
from lomix_search.data.survey import is_ct
from lomix_search.errors import DataError, nearest
from lomix_search.recipe.choices import Choices
from lomix_search.recipe.decided import Decisions, Question
from lomix_search.recipe.decision_rows import decision_rows, doubtful_folders, fit_of_size, scaled_words
from lomix_search.recipe.network_choice import patch_size
from lomix_search.recipe.own_data import Look, all_of, tried

FEWEST_SLICES = 8
"""Volumes with fewer slices than these are trained on slice by slice."""

_FLAT = 3.0  # ratio of spacings from which on a volume is a stack of slices: nnU-Net's rule
_MOST_CHANNELS = 4  # without names; more may be frames over time


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
    tried(lambda: _check_kept(look, choices), faults)
    tried(lambda: _check_dims(look, choices, dims), faults)
    if faults or names is None or size is None or regions is None or modalities is None or split is None:
        raise all_of(faults, len(look.pairs))
    ignore = look.coding.ignore
    whose = {name: patient for name, patient in patients.items() if patient is not None}
    measured = _measured(look, whose, split)
    look = _measured_alone(look, measured)
    window = choices.window or (look.scaling.window if dims == 2 else None)  # of volumes it is measured when prepared
    # Where no file says its spacing, none is made up: neither could that of a new image be known.
    stated = choices.spacing if 0 < len(look.spacings) < len(look.pairs) and look.volumes else ()
    decided = (dims, size, choices.spacing if dims == 3 else (), stated, names, regions, ignore, modalities, window)
    written = look.found.written if regions and not choices.regions else ()
    found = Decisions(*decided, whose, split, written=written, measured=measured)
    found = replace(found, scaled=scaled_words(look, found, choices.window))
    return replace(found, rows=decision_rows(look, choices, found, why), open=_open(look, choices, sure))


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
    if (how := look.found.preprocessed) is not None and how.configuration:
        return (2 if how.slices else 3), f"nnU-Net's configuration is {how.configuration}", True
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
        if dims == 3:
            fit_of_size(look, choices, choices.size).check("--size ")
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
            hint="--classes with a name for each of these values, in ascending order",
        )
    if twice := sorted({name for name in given if name == "background" or list(given).count(name) > 1}):
        raise DataError(
            f"class name {', '.join(map(repr, twice))} is taken; each class needs a name of its own.",
            seen=f"names background, {', '.join(given)}",
            hint="--classes with a name of its own for each class",
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
                hint="--regions whole=1+2+3,core=2+3",
            )
        found[region] = tuple(sorted({value_of[member] for member in members}))
    return found


def _modalities(look: Look, choices: Choices) -> tuple[str, ...]:
    named = choices.channels if not choices.intensity else ()
    if named and len(named) != look.channels:
        raise DataError(
            f"--modality names {len(named)} channels; the images have {look.channels}.",
            seen=", ".join(named),
            hint="--modality with a name for each channel: T1,FLAIR",
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


def _check_kept(look: Look, choices: Choices) -> None:
    """Refuse to scale anew what another program has scaled."""
    given = [f"--{name}" for name in ("modality", "window") if getattr(choices, name)]
    if look.found.preprocessed is not None and given:
        raise DataError(
            f"{' and '.join(given)}: goes with raw images; nnU-Net has scaled these.",
            hint=f"leave it out, or give the raw form: nnUNet_raw/{look.found.root.name}",
        )


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
        if pattern == "folder" and not look.found.by_folder:
            return name.partition("/")[0]
        by_folder = pattern == "folder" or (not pattern and not doubtful_folders(look))
        return look.found.patients.get(name, name) if by_folder else name
    found = re.search(pattern, name)
    if found is None:
        raise DataError(
            f"the patient pattern {pattern!r} does not match the case {name!r}.",
            hint="--patient '([^_]+)_'   # an expression whose first group is the patient, in every name",
        )
    return found[1] if found.groups() else found[0]


def _split(look: Look, choices: Choices) -> str:
    if choices.split == "random":
        return "folders" if look.found.groups else "random"
    read_split(Path(choices.split))
    return str(Path(choices.split).resolve())


# -- what intensities are measured in ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    name: str
    patient: str
    group: str


def split_shares(split: str) -> dict[str, float]:
    """Return the shares that a recipe draws, by the keys of ``[data]``.

    Args:
        split: ``random``, ``folders`` or a split file.

    Returns:
        Of validation, and of test where the split is drawn.
    """
    return {"val_fraction": 0.1} | ({"test_fraction": 0.2} if split == "random" else {})


def split_of_folders(groups: Mapping[str, str]) -> dict[str, Any]:
    """Return the split file that says what folders say: the sets that they name.

    Args:
        groups: The set of each case.

    Returns:
        Its content.
    """
    sets = {key: [f"group:{key}"] for key in ("train", "val", "test") if key in groups.values()}
    return {"source": "the folders of the data"} | sets


def _measured(look: Look, patients: Mapping[str, str], split: str) -> frozenset[str]:
    """Return the cases that the recipe will train on: nothing is fitted to those that validate and test."""
    members = [_Member(name, whose, look.found.groups.get(name, "")) for name, whose in patients.items()]
    file = None if split in ("random", "folders") else Path(split)
    items = SplitFile.model_validate(split_of_folders(look.found.groups)) if split == "folders" else None
    shares = split_shares(split)
    plan = SplitPlan(
        file, val_fraction=shares["val_fraction"], test_fraction=shares.get("test_fraction", 0.0), items=items
    )
    try:
        return frozenset(make_split(members, plan).train)
    except DataError:  # too few patients to split: lomix validate says so, and all are taken
        return frozenset(patients)


def _measured_alone(look: Look, measured: frozenset[str]) -> Look:
    """Return the same with the window of a CT taken from these cases alone."""
    inside = [ends for name, ends in zip(look.pairs, look.inside, strict=False) if name in measured]
    if look.scaling.intensity != "ct" or not inside or np.isnan(inside).all():
        return look
    low, high = (float(v) for v in np.nanmedian(inside, 0))
    return replace(look, scaling=replace(look.scaling, window=(low, high)))


# -- what is left open -------------------------------------------------------------------------------------------------


def _open(look: Look, choices: Choices, dims_sure: bool) -> tuple[Question, ...]:
    found = []
    if not look.scaling.sure and not choices.intensity and look.found.preprocessed is None:
        text = f"Are these CTs in Hounsfield units, or MR and others? {look.scaling.why}."
        found.append(Question("modality", text, ("ct", "mr"), look.scaling.intensity))
    if not dims_sure:
        text = "Train on whole volumes (3) or on their slices (2)? The files do not say how far apart slices are."
        found.append(Question("dims", text, ("2", "3"), "3" if _dims(look, choices)[0] == 3 else "2"))
    if doubtful_folders(look) and not choices.patient:
        names = ", ".join(sorted(set(look.found.patients.values()))[:4])
        text = f"Is each folder ({names}, …) a patient, or each case one?"
        found.append(Question("patient", text, ("folder", "case"), "case"))
    return tuple(found)
