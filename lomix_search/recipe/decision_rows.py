"""Decisions about somebody's data in words: a row for each, with what it was decided by."""

from collections.abc import Sequence

import numpy as np

from lomix_search.data.block_fit import BlockFit
from lomix_search.data.case import size_in_words
from lomix_search.data.regions import painting_order
from lomix_search.data.survey import is_ct
from lomix_search.recipe.choices import Choices
from lomix_search.recipe.decided import Decisions, Row
from lomix_search.recipe.network_choice import shapes_at
from lomix_search.recipe.own_data import Look

_FOLDERS, _CASES = 10, 10  # fewer folders than these with more cases each may be kinds of cases, no patients


def decision_rows(look: Look, choices: Choices, found: Decisions, why_dims: str) -> tuple[Row, ...]:
    """Return a row for each decision.

    Args:
        look: What was seen.
        choices: What the user has decided.
        found: What was decided.
        why_dims: What 2D or 3D was decided by.

    Returns:
        The rows, in the order in which they are shown.
    """
    said, shapes = look.found.said, look.shapes
    named = f" ({', '.join(found.modalities)})" if found.modalities else ""
    classes = ", ".join(f"{value} {name}" for value, name in found.names.items())
    patients = len(set(found.patients.values()))
    rows = [
        Row("form", look.found.form, str(look.found.root)),
        Row("cases", str(len(shapes)), "; ".join(look.found.notes) or "each an image with its label"),
        _modality(look, found),
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
        rows.append(_written(found, said))
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
            "--window" if window else _measured_words(look, found),
            "--window" if look.scaling.window else "",
        ),
        Row("split", *_split_words(found), "--split"),
        Row("patients", str(patients), _patients_words(look, choices, patients), "--patient"),
    )


def _written(found: Decisions, said: str) -> Row:
    """Say how predicted regions become one label, or that none can hold them."""
    order = painting_order(found.regions, found.written)
    if order is None:
        return Row("written as", "one mask for each region", "no single label can say what these regions say")
    names = list(found.regions)
    words = ", then ".join(f"{names[channel]} as {value}" for channel, value in order)
    why = f"regions_class_order of {said}" if found.written else "the value that a region has for itself"
    return Row("written as", words, why)


def _modality(look: Look, found: Decisions) -> Row:
    if (how := look.found.preprocessed) is None:
        return Row("modality", _kinds_of(look, found), look.scaling.why, "--modality")
    return Row("modality", ", ".join(how.channels) or "not named", look.found.said)


def _kinds_of(look: Look, found: Decisions) -> str:
    """Return how intensities are scaled, of channels that have names by these: ``ct + mr`` of a CT with a PET."""
    kinds = dict.fromkeys("ct" if is_ct(name) else "mr" for name in found.modalities)
    return " + ".join(kinds) if kinds and look.volumes else look.scaling.intensity


def scaled_words(look: Look, found: Decisions, window: tuple[float, float] | None) -> str:
    """Return how intensities are scaled, in words; of volumes, as they are prepared.

    Args:
        look: What was seen.
        found: What was decided.
        window: The user's.
    """
    if window:
        return "{:g} … {:g} become 0 … 1".format(*window)
    if found.dims == 2:
        return look.scaling.words if len(found.modalities) < 2 else "each channel by itself becomes 0 … 1"
    if look.found.preprocessed is not None:
        return "as nnU-Net has left them"
    if look.scaling.intensity == "ct":
        return "cut at the 0.5 and 99.5 percentiles of what is labelled, less its mean, by its deviation"
    return "each channel of each image less its mean, by its deviation"


def _measured_words(look: Look, found: Decisions) -> str:
    """Say which images the scaling was taken from."""
    if look.scaling.intensity != "ct":
        return "all images"
    return f"measured in the {len(found.measured)} cases of training"


def _size_words(look: Look, choices: Choices, found: Decisions) -> tuple[str, str]:
    sides = [(shape[0], *shape[2:])[3 - found.dims :] for shape in look.shapes]
    why = "--size" if choices.size else f"median {size_in_words(int(side) for side in np.median(sides, 0))}"
    if found.dims == 3 and (padded := fit_of_size(look, choices, found.size).words):
        why += f"; {padded}"
    return size_in_words(found.size * (2 if found.dims == 2 else 1)), why


def fit_of_size(look: Look, choices: Choices, size: Sequence[int]) -> BlockFit:
    """Return how blocks of a size fit all cases at the spacing that they are brought to."""
    shapes = np.maximum(1, np.rint(shapes_at(look.shapes, look.spacings, choices.spacing))).astype(int)
    cases = {name: tuple(shape) for name, shape in zip(look.pairs, shapes.tolist(), strict=True)}
    return BlockFit((size[0], size[1], size[2]), cases)


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
    if choices.patient and not (choices.patient == "folder" and look.found.by_folder):
        return "--patient"
    if look.found.patients and (choices.patient or not doubtful_folders(look)):
        return look.found.grouped
    return "each case is taken for one; if some are of one patient, say how names tell it" if patients > 1 else "one"


def doubtful_folders(look: Look) -> bool:
    """Whether the first folders may be kinds of cases (benign, malignant) rather than patients: few with many each."""
    folders = len(set(look.found.patients.values())) if look.found.by_folder else 0
    return 0 < folders < _FOLDERS and len(look.pairs) > _CASES * folders
