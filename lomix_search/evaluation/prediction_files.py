"""Predicted cases as files: in the raw file's own form, and as pictures to look at."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.case import Array, Case
from lomix_search.data.readers.nifti import write_nifti, write_nifti_scores
from lomix_search.errors import require
from lomix_search.evaluation.inference import Prediction
from lomix_search.utils.files import appearing

_COLOURS = (
    (230, 60, 60), (60, 180, 75), (255, 200, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40),
)  # fmt: skip


def save_prediction(folder: Path, case: Case, prediction: Prediction, classes: int = 0) -> Path:
    """Write a prediction in the raw file's own form, with the label values that the raw file has.

    Args:
        folder: Where the file goes.
        case: The predicted case.
        prediction: At the case's own size.
        classes: Number of classes, the background included. A picture of two classes is written as 0 and 255 where the
            case does not say which values its file has.

    Returns:
        The file: ``NAME.nii.gz`` for a volume, ``NAME.png`` of 8 or 16 bits (in the colours or with the palette that
        the masks have) for a picture, ``NAME.tif`` of 32 bits for a picture with a label above 65535.
    """
    label, picture = prediction.label, "size" in case.origin
    path = prediction_paths(folder, case.name, picture, values=case.values)[-1]
    values: Sequence[int] = case.values
    if not values and picture and (classes or 1 + int(label.max(initial=0))) <= 2:
        values = (0, 255)
    if values:
        label = np.array(values, np.min_scalar_type(max(values)))[label]
    if not picture:
        with appearing(path) as file:
            write_nifti(file, label, case.origin, case.spacing)
        return path
    plane = label[0].astype(np.int32) if path.suffix == ".tif" else label[0]
    if case.values and (colours := dict(case.origin.get("colours", ()))):  # without values it is no label of the file
        plane = _coloured(plane, colours)
    made = require("PIL.Image", "data").fromarray(plane)
    if case.values and (palette := dict(case.origin.get("palette", ()))):
        made.putpalette(_coloured(np.arange(1 + max(palette)), palette).tobytes())  # turns it into indices
    with appearing(path) as file:
        made.save(file)
    return path


def _coloured(label: Array, colours: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return the colour (0xRRGGBB) of each label value, (rows, columns, 3); black where a value has none."""
    table = np.zeros((1 + int(label.max(initial=0)), 3), np.uint8)
    for value, colour in colours.items():
        if value < len(table):
            table[value] = colour >> 16, colour >> 8 & 255, colour & 255
    return table[label]


def save_probabilities(folder: Path, case: Case, probabilities: NDArray[np.float32]) -> Path:
    """Write the probability of each class.

    Args:
        folder: Where the file goes.
        case: The predicted case.
        probabilities: (classes, slices, rows, columns), at the case's own size.

    Returns:
        The file: ``NAME_probabilities.nii.gz`` on the grid of the raw file, the classes on the fourth axis, for a
        volume; ``NAME_probabilities.npz`` with the array ``probabilities``, (classes, rows, columns), for a picture.
    """
    picture = "size" in case.origin
    path = prediction_paths(folder, case.name, picture, probabilities=True)[0]
    with appearing(path) as file:
        if picture:
            np.savez_compressed(file, probabilities=probabilities[:, 0])
        else:
            write_nifti_scores(file, probabilities, case.origin, case.spacing)
    return path


def prediction_paths(
    folder: Path, name: str, picture: bool, *, probabilities: bool = False, values: Sequence[int] = ()
) -> list[Path]:
    """Return the files of a prediction, in the order in which they are written: the labels come last.

    Args:
        folder: Where they go.
        name: Of the case.
        picture: Whether it is a picture rather than a volume.
        probabilities: With that of the probabilities.
        values: What the labels' file holds for class 0, 1, …; empty for class numbers.

    Returns:
        One path, or two.
    """
    ending = ".nii.gz" if not picture else ".tif" if max(values, default=0) > _LARGEST_PNG else ".png"
    of_scores = [folder / f"{file_name(name)}_probabilities{'.npz' if picture else '.nii.gz'}"]
    return [*(of_scores if probabilities else []), folder / f"{file_name(name)}{ending}"]


_LARGEST_PNG = 65535
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)  # devices of Windows
_LONGEST = 200  # bytes; file systems take 255 with the ending


def file_name(name: str) -> str:
    """Return where a case's files go below a folder: never outside of it, and no two cases to one place.

    Plain characters stay as they are, so ``SET/stem`` is a file in a folder. Every other character is written as %XX,
    as in web addresses. The end of a name that is too long becomes its hash.

    Args:
        name: The case's name; any text.

    Returns:
        A relative path without an ending.
    """
    *folders, last = (_part(part) for part in name.split("/"))
    return "/".join([*(re.sub(r"\.(?=(png|tif|gz)$)", "%2E", folder) for folder in folders), last])


def _part(part: str) -> str:
    if part.strip(".") == "" or _RESERVED.match(part):  # "", ".", ".." and devices: their first character too
        part, first = part[1:], f"%{ord(part[0]):02X}" if part else "%"
    else:
        first = ""
    kept = re.sub(r'[%<>:"\\|?*\x00-\x1f\x7f\ud800-\udfff]|[. ]$', lambda found: f"%{ord(found[0]):02X}", part)
    whole = first + kept
    if len(whole.encode()) <= _LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:32]
    return whole.encode()[: _LONGEST - 33].decode(errors="ignore") + "%-" + digest


def save_overlay(path: Path, case: Case, prediction: NDArray[Any], ignore_index: int | None = None) -> None:
    """Draw the slice with the most foreground three times: as it is, with the truth, and with the prediction.

    Args:
        path: The ``.png`` to write.
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
