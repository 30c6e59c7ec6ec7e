"""One image without its label, whatever its format: what ``lomix predict`` and ``lomix new`` read.

An image is one file; or several files that hold a channel each (``case_0000.nii.gz``, ``case_0001.nii.gz``); or the
slices of one DICOM series, which share a folder.
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.case import Array, size_in_words
from lomix_search.data.masks.names import MASK_FOLDERS, bare_images, bare_mask, looks_like_mask
from lomix_search.data.preprocessing import Preprocessing
from lomix_search.data.readers.dicom_file import is_dicom
from lomix_search.data.readers.dicom_series import read_series, sort_dicom
from lomix_search.data.readers.formats import SEGMENTS, format_of, suffix_of
from lomix_search.data.readers.grid import check_one_grid
from lomix_search.data.readers.unread import files_below, kinds_there, what_to_do
from lomix_search.errors import DataError

CHANNEL = re.compile(r"_(\d{4})$")
"""nnU-Net's: one file a channel."""

_MOST, _MOST_OF_ONE = 16, 4  # more numbers than these, of one image alone, are frames or slices and no channels


@dataclass(frozen=True)
class RawImage:
    """An image as its files hold it.

    Args:
        image: (slices, channels, rows, columns), canonical axes; values as stored, slope and intercept applied. A
            picture of 8 bits has three channels, also a grey one; one of wider numbers has one.
        spacing: Millimetres between slices, rows, columns; empty where it is not known.
        origin: How to write a prediction in the file's own form, as :class:`~lomix_search.data.case.Case` says.
        depth: ``volumes``, or of pictures the type of their numbers in words: ``8 bit``, ``integers of 16 bits``.
        preprocessed: What another program has done to it; None for an image as it came.
    """

    image: Array
    spacing: tuple[float, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    depth: str = "volumes"
    preprocessed: Preprocessing | None = None


def read_image(paths: str | Path | Sequence[str | Path]) -> RawImage:
    """Read one image.

    Args:
        paths: Its file; or its files, one a channel, in their order; or the slices of a DICOM series, or their folder.

    Returns:
        The image.

    Raises:
        DataError: unreadable, of a kind that is not read here, or channels on different grids; files are named.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise DataError("an image needs at least one file.", hint="read_image(path)")
    if len(files) == 1 and files[0].is_dir():
        files = [path for path in sorted(files[0].iterdir()) if path.is_file() and is_dicom(path)] or files
    if is_dicom(files[0]):
        values, spacing, origin = read_series(files)
        return RawImage(values[:, None], spacing, origin)
    parts = [_read_one(path) for path in files]
    return parts[0] if len(parts) == 1 else _joined(files, parts)


def find_images(folder: str | Path) -> dict[str, tuple[Path, ...]]:
    """Find all images below a folder.

    Args:
        folder: Its subfolders are looked into; links to folders are followed. Labels that lie beside images (``_seg``,
            ``labels/``, ``.seg.nrrd``) are left out.

    Returns:
        The files of each image by its name, sorted: what :func:`read_image` takes. A name is the path below the folder
        without the ending, and without the number of the channel where each file is one. A DICOM series is named like
        its folder.

    Raises:
        DataError: no such folder, no image in it, two images of one name, or an image that lacks a channel.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.", hint="the folder that holds the images")
    found: dict[str, tuple[Path, ...]] = {}
    for here, files in walk(root):
        place = unicodedata.normalize("NFC", here.relative_to(root).as_posix())
        prefix = "" if place == "." else f"{place}/"
        series, _ = sort_dicom(path for path in files if not suffix_of(path) and is_dicom(path))
        for number, members in enumerate(series.values(), 1):
            own = place if place != "." else root.resolve().name
            _add(found, own if len(series) == 1 else f"{own}/series {number}", members)
        for stem, members in by_channel(_without_labels(here, root, files)).items():
            _add(found, prefix + stem, members)
    if not found:
        raise no_images(root, "images that are read here")
    return dict(sorted(found.items()))


def no_images(root: Path, what: str, more: Sequence[str] = ()) -> DataError:
    """Return the error about a folder that lacks what is looked for, with what it holds instead.

    Args:
        root: The folder.
        what: That it lacks.
        more: What else to try, first.

    Returns:
        The error.
    """
    there = files_below(root)
    labels = [path for path in there if suffix_of(path)]
    told = [f"{len(labels)} look like labels, by their names or folders"] if labels else []
    return DataError(
        f"{root} holds no {what}.", seen=[*kinds_there(there, root), *told], hint=[*more, *what_to_do(there)]
    )


def _without_labels(here: Path, root: Path, files: Sequence[Path]) -> list[Path]:
    """Leave out what lies beside images as their labels: by the ending, the folder or the name."""
    read = [path for path in files if suffix_of(path) and not path.name.lower().endswith(SEGMENTS)]
    if here != root and here.name.lower() in MASK_FOLDERS:
        return []
    stems = {stem for path in read for stem in (stem_of(path), *bare_images(stem_of(path)))}
    return [path for path in read if not looks_like_mask(stem_of(path)) or bare_mask(stem_of(path)) not in stems]


def walk(root: Path, leave_out: frozenset[Path] = frozenset()) -> Iterator[tuple[Path, list[Path]]]:
    """Walk through a folder and the folders that it links to, each once; hidden files and folders are left out.

    Args:
        root: The folder.
        leave_out: Resolved folders that are not entered.

    Yields:
        A folder and its files, sorted.
    """
    met = {root.resolve()} | leave_out  # a link to a folder that was met would go round for ever
    for place, folders, names in os.walk(root, followlinks=True):
        here = Path(place)
        kept = [f for f in sorted(folders) if not f.startswith((".", "__MACOSX"))]
        folders[:] = [f for f in kept if (here / f).resolve() not in met]
        met |= {(here / f).resolve() for f in folders}
        yield here, [here / name for name in sorted(names) if not name.startswith(".")]


def stem_of(path: Path) -> str:
    """Return a file's name without its ending, ``.nii.gz`` for one, in one form of Unicode."""
    return unicodedata.normalize("NFC", path.name[: len(path.name) - len(suffix_of(path))])


def by_channel(files: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Put the files of each image together: one file each, or one a channel where all are named so.

    Args:
        files: Of one folder.

    Returns:
        Files by name; in the order of their numbers where these are channels.

    Raises:
        DataError: two files of one name, or channels that are missing.
    """
    numbered = bool(files) and all(CHANNEL.search(stem_of(path)) for path in files)
    groups: dict[str, dict[int, Path]] = {}
    for path in files:
        stem, number = stem_of(path), 0
        if numbered and (mark := CHANNEL.search(stem)):
            stem, number = stem[: mark.start()], int(mark[1])
        if (other := groups.setdefault(stem, {}).setdefault(number, path)) != path:
            raise DataError(
                f"{other} and {path} are of one name; it must be clear which is meant.",
                hint="leave one of them, or give them different names",
            )
    if numbered:
        most = {number for group in groups.values() for number in group}
        if most != set(range(len(most))) or len(most) > (_MOST if len(groups) > 1 else _MOST_OF_ONE):
            return {stem_of(path): (path,) for path in files}  # numbers of something else: of slices, of patients
        lacking = [f"{stem} lacks {n:04d}" for stem, g in groups.items() for n in sorted(most - set(g))]
        if lacking:
            raise DataError(
                f"{files[0].parent}: images do not have the same channels.",
                seen=[*lacking[:8], *([f"and {len(lacking) - 8} more"] if len(lacking) > 8 else [])],
                hint="add the missing files, or move the other files of these images out of the folder",
            )
    return {stem: tuple(group[number] for number in sorted(group)) for stem, group in groups.items()}


def _add(found: dict[str, tuple[Path, ...]], name: str, files: tuple[Path, ...]) -> None:
    if (other := found.setdefault(name, files)) != files:
        raise DataError(
            f"{other[0]} and {files[0]} are of one name; it must be clear which is meant.",
            hint="leave one of them, or give them different names",
        )


def _read_one(path: Path) -> RawImage:
    kind = format_of(path)
    if kind is None:
        raise DataError(f"{path} is of a kind that is not read here.", hint=what_to_do([path]))
    return RawImage(*kind.read(path))


def _joined(files: Sequence[Path], parts: Sequence[RawImage]) -> RawImage:
    """Put channels together that lie on one grid."""
    first = parts[0]
    for path, part in zip(files[1:], parts[1:], strict=True):
        if part.depth != first.depth:
            raise DataError(
                f"{path}: {part.depth}, and {files[0].name}: {first.depth}; channels must be of one kind.",
                hint="save all channels in one form",
            )
        if "affine" in first.origin and "affine" in part.origin:
            check_one_grid(files[0], first.origin, first.spacing, path, part.origin, ("channel", "channel"))
        if part.image.shape[::2] != first.image.shape[::2] or part.image.shape[3] != first.image.shape[3]:
            raise DataError(
                f"{path}: channels have different shapes.",
                seen=[f"{size_in_words(p.image.shape)} ({f})" for f, p in zip(files, parts, strict=True)],
                hint="resample all channels onto one grid",
            )
    planes = [_one_of_grey(part) for part in parts]
    kind = np.result_type(*planes)
    return RawImage(np.concatenate([p.astype(kind) for p in planes], 1), first.spacing, first.origin, first.depth)


def _one_of_grey(part: RawImage) -> Array:
    """Return one channel of a grey picture of 8 bits, which alone would have three that are alike."""
    image = part.image
    grey = part.depth == "8 bit" and image.shape[1] == 3 and (image == image[:, :1]).all()
    return image[:, :1] if grey else image
