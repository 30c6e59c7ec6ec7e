"""What a folder holds in place of images that are read here, and what can be done with it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lomix_search.data.readers.formats import known_endings, suffix_of

NOT_READ = "of a kind that is not read here"
"""How faults about such files end."""

_SHOWN = 6  # kinds of files in one message
_LOOKED_AT = 20_000  # files; a home folder given by mistake is not walked to its end

_ARRAYS = (".npy", ".npz", ".h5", ".hdf5", ".b2nd", ".mat")
_PICTURES = (".gif", ".webp", ".jp2", ".heic", ".pbm", ".pgm", ".ppm", ".svg", ".raw")
_VOLUMES = (".mgz", ".mgh", ".img", ".hdr", ".nhdr", ".vtk", ".minc", ".mnc", ".zarr")
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def kinds_there(paths: Iterable[Path], root: Path) -> list[str]:
    """Say what kinds of files there are.

    Args:
        paths: The files.
        root: The folder that they lie in.

    Returns:
        One line a kind, the commonest first: ``12 of .npz, e.g. train/c0.npz``; a line that there are none.
    """
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(kind_of(path), []).append(path)
    order = sorted(kinds.items(), key=lambda pair: -len(pair[1]))
    lines = [f"{len(files)} of {kind or 'no ending'}, e.g. {_below(files[0], root)}" for kind, files in order]
    more = [f"and {len(lines) - _SHOWN} kinds more"] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more] or ["no files"]


def what_to_do(paths: Iterable[Path]) -> list[str]:
    """Say what can be done with files that are not read here.

    Args:
        paths: The files.

    Returns:
        One line for each way; last, what is read.
    """
    kinds = {kind_of(path) for path in paths}
    found = []
    if kinds & set(_PACKED):
        found.append("unpack the archives first")
    if kinds & set(_ARRAYS):
        found += [
            "arrays say neither their axes nor their spacing; write them as volumes or pictures that do:",
            'nibabel.save(nibabel.Nifti1Image(array, numpy.diag([*spacing, 1])), "case.nii.gz")',
            "what nnU-Net has preprocessed is read with its plans: give the folder that holds nnUNetPlans.json",
            "lomix prepare acdc RAW OUT   # or synapse: benchmarks that others have preprocessed to .npz and .h5",
        ]
    if kinds & set(_PICTURES):
        found.append("save these pictures as PNG or TIFF")
    if kinds & set(_VOLUMES):
        found.append(
            "convert these volumes: nibabel and SimpleITK write .nii.gz, dcm2niix makes it of scanners' own files"
        )
    return [*found, f"images end in {known_endings()}, or are DICOM slices"]


def unread_images(root: Path) -> list[Path]:
    """Return the files below a folder that are images or arrays by their endings, and of no kind that is read here."""
    return [path for path in files_below(root) if kind_of(path) in (*_ARRAYS, *_PICTURES, *_VOLUMES)]


def files_below(root: Path) -> list[Path]:
    """Return the files below a folder, sorted, hidden ones left out; of very many the first that are met."""
    found: list[Path] = []
    for path in root.rglob("*"):
        if len(found) >= _LOOKED_AT:
            break
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
            found.append(path)
    return sorted(found)


def kind_of(path: Path) -> str:
    """Return the ending of a file in lower case, ``.nii.gz`` and ``.tar.gz`` for one."""
    name = path.name.lower()
    return suffix_of(path).lower() or next((end for end in _PACKED if name.endswith(end)), path.suffix.lower())


def in_groups(paths: Sequence[Path]) -> list[str]:
    """Return a fault for files of one folder that are not read here: one line a kind."""
    kinds: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        kinds.setdefault((path.parent, kind_of(path)), []).append(path)
    return [
        f"{files[0]} is {NOT_READ}"
        if len(files) == 1
        else f"{files[0]} and {len(files) - 1} more of {kind} in its folder are {NOT_READ}"
        for (_, kind), files in kinds.items()
    ]


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
