"""What a prepared folder holds: one entry a case, with sha256 of every file, so that a change is noticed."""

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lomix_search.data.preprocessing import Preprocessing
from lomix_search.data.readers.guard import readable
from lomix_search.errors import DataError
from lomix_search.utils.files import read_json
from lomix_search.utils.schema import Frozen, build_typed

READERS = "2"
"""Version of the readers. It changes when the same raw file is read differently, so that its case is made again."""


class Entry(Frozen):
    """One prepared case.

    Args:
        name: Of the case.
        patient: Whose it is.
        group: The set that its raw folder named, or empty.
        shape: Slices, channels, rows, columns.
        spacing: Millimetres between slices, rows, columns; empty where unknown.
        origin: How to write a prediction in the raw file's own form.
        scaling: How its intensities were scaled.
        labels: Pixels of each raw label value.
        sources: sha256 of each raw file, by path relative to the raw folder.
        files: sha256 of each prepared file.
        reading: How the raw files were read: the version of the readers, and what else it depended on; empty for cases
            of earlier versions.
        resize: How the training form was made from the native one; empty in folders of earlier versions.
    """

    name: str
    patient: str
    group: str
    shape: tuple[int, int, int, int]
    spacing: tuple[float, ...]
    origin: dict[str, Any]
    scaling: str
    labels: dict[int, int]
    sources: dict[str, str]
    files: dict[str, str]
    resize: str = ""
    reading: str = ""

    @field_validator("name")
    @classmethod
    def _inside(cls, name: str) -> str:
        return case_name(name)

    @field_validator("files")
    @classmethod
    def _beside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            case_name(name)
        return files


class ChannelScaling(Frozen):
    """How the intensities of one channel become numbers that a network takes.

    Args:
        kind: ``ct``, ``mr``, ``picture`` and ``range`` as for a ``DatasetLayout``, to 0 … 1; ``foreground``: clipped to
            ``window``, less ``mean``, divided by ``std``, which were measured in the foreground of the cases (CT of
            volumes); ``zscore``: each image less its own mean, divided by its own deviation (MR and others of volumes);
            ``kept``: as another program has left it.
        window: Lowest and highest intensity that is told apart.
        mean: Of ``foreground``.
        std: Of ``foreground``, above 0.
        nonzero: ``zscore`` measures voxels beside 0 alone, and leaves 0 what it is.
    """

    kind: Literal["ct", "mr", "picture", "range", "foreground", "zscore", "kept"]
    window: tuple[float, float] | None = None
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    nonzero: bool = False


class Preparation(Frozen):
    """How a raw image becomes what a network takes: all that ``data.preparation.prepare_image`` needs.

    Args:
        dims: 2: slices or pictures of one size; 3: volumes of one spacing.
        size: Rows and columns of a slice (dims 2); None keeps its own.
        spacing: Millimetres between slices, rows and columns that volumes are brought to (dims 3); empty: as they are.
        channels: Of every image; 0 where that is not known.
        modalities: Names of the channels, where they are known.
        intensity: One scaling for each channel, or one for all.
        preprocessed: What another program had done to the images before they were prepared; None: nothing.
    """

    dims: Literal[2, 3] = 2
    size: Annotated[int, Field(ge=1)] | None = None
    spacing: tuple[Annotated[float, Field(gt=0)], ...] = ()
    channels: Annotated[int, Field(ge=0)] = 0
    modalities: tuple[str, ...] = ()
    intensity: Annotated[tuple[ChannelScaling, ...], Field(min_length=1)]
    preprocessed: Preprocessing | None = None

    def scaling_of(self, channel: int) -> ChannelScaling:
        """Return how a channel is scaled."""
        return self.intensity[channel if len(self.intensity) > 1 else 0]


class Manifest(Frozen):
    """What a prepared folder holds.

    Args:
        version: Of this format.
        benchmark: Which layout was read.
        size: Rows and columns of the training form; 0 for volumes, which have one spacing instead.
        intensity: How intensities were scaled.
        labels: Names of the raw label values.
        cases: All cases, by name.
        dims: 2: training sees slices or pictures; 3: volumes.
        modalities: Names of the channels, where they are known.
        ignore: Raw label value of pixels that count nowhere.
        regions: Names of overlapping regions, each with its raw label values; empty: the labels are classes.
        written: The raw value that each region is written as, in the order in which they are painted over one another;
            empty: found out.
        prepared: How images were prepared; None in folders of earlier versions, see ``preparation``.
        measured: Names of the cases that the one scaling of all images (CT) was measured in; empty where there is none,
            and in folders of earlier versions.
    """

    version: Literal[1]
    benchmark: str
    size: int
    intensity: str
    labels: dict[int, str]
    cases: tuple[Entry, ...]
    dims: Literal[2, 3] = 2
    modalities: tuple[str, ...] = ()
    ignore: int | None = None
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    written: tuple[int, ...] = ()
    prepared: Preparation | None = None
    measured: tuple[str, ...] = ()

    @property
    def preparation(self) -> Preparation:
        """How a raw image becomes what was prepared here; of folders of earlier versions, as they say it."""
        if self.prepared is not None:
            return self.prepared
        first = self.cases[0] if self.cases else None
        kind, _, window = first.scaling.partition(" ") if first else (self.intensity, "", "")
        bounds = tuple(float(value) for value in window.strip("()").split(",")) if window else None
        scaling = {"kind": kind, "window": bounds}
        channels = first.shape[1] if first else 0
        content = {"dims": self.dims, "size": self.size, "channels": channels, "modalities": self.modalities}
        return Preparation.model_validate(content | {"intensity": (scaling,)})

    @field_validator("cases")
    @classmethod
    def _one_each(cls, cases: tuple[Entry, ...]) -> tuple[Entry, ...]:
        names = [entry.name for entry in cases]
        if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
            raise ValueError(f"{', '.join(twice[:8])} is there twice")
        return cases

    @property
    def fingerprint(self) -> str:
        """What the data are: sha256 over names, patients, grids, label names and the hash of every prepared array.

        Data that were prepared again from the same files have the same one, wherever they lie; where any voxel, label,
        patient or case differs, it is another. Only the manifest is read, which takes milliseconds.
        """
        parts = {"name", "patient", "shape", "spacing", "labels", "files"}
        cases = [entry.model_dump(mode="json", include=parts) for entry in self.cases]
        content = {"size": self.size, "labels": sorted(self.labels.items()), "cases": cases}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(out: str | Path) -> Manifest:
    """Read what a prepared folder holds.

    Args:
        out: The folder.

    Returns:
        Its manifest.

    Raises:
        DataError: not prepared, not finished, or malformed.
    """
    path = Path(out) / "manifest.json"
    if not path.exists():
        begun = (Path(out) / "cases").is_dir()
        raise DataError(
            f"{out} holds no finished preparation." if begun else f"{out} holds no prepared data.",
            hint=f"lomix prepare BENCHMARK RAW {out}" + ("   # goes on where it stopped" if begun else ""),
        )
    with readable(path):
        content = read_json(path, DataError)
    return build_typed(Manifest, content, str(path), DataError)


def verify(out: str | Path) -> list[str]:
    """Compare every prepared file with the manifest.

    Args:
        out: The prepared folder.

    Returns:
        One line a file that is missing or was changed; empty when all is well.

    Raises:
        DataError: no manifest.
    """
    folder, faults = Path(out), []
    for entry in read_manifest(out).cases:
        for name, expected in entry.files.items():
            path = folder / "cases" / entry.name / name
            try:
                if sha256(path) != expected:
                    faults.append(f"{path} was changed after it was prepared")
            except FileNotFoundError:
                faults.append(f"{path} is missing")
            except OSError as cause:
                faults.append(f"{path} cannot be read: {cause.strerror}")
    return faults


def check_file(path: str, expected: str) -> tuple[int, int, int]:
    """Make sure that a prepared file is what its manifest says. Each state of it is read and hashed once a process.

    Args:
        path: The file.
        expected: Its sha256; empty where the manifest has none.

    Returns:
        Its time of change, size and number: another state of the file has others.

    Raises:
        DataError: a flipped bit, a cut or a replaced file; the message names it.
    """
    try:
        stat = os.stat(path)  # noqa: PTH116  (this is done at every slice; a Path would take longer than the rest)
        state = stat.st_mtime_ns, stat.st_size, stat.st_ino
        if not expected or _checked.get(path) == (*state, expected):
            return state
        found = sha256(Path(path))
    except OSError as cause:
        raise DataError(
            f"{path} cannot be read; the prepared folder was changed or cut short.", seen=str(cause), hint=_AGAIN
        ) from None
    if found != expected:
        if found == _noted(Path(path)):
            raise DataError(
                f"{path} was prepared anew after this data set was opened.", hint="open it again: recipe.build_data()"
            )
        raise DataError(f"{path} was changed or damaged after it was prepared.", seen="its sha256 differs", hint=_AGAIN)
    _checked[path] = (*state, expected)
    return state


def _noted(path: Path) -> str:
    """Return the sha256 that preparing noted last beside a file; empty where it cannot be told."""
    try:
        return Entry.model_validate_json((path.parent / "case.json").read_bytes()).files.get(path.name, "")
    except (OSError, ValueError):
        return ""


def check_size(path: Path, entry: Entry, size: int) -> None:
    """Make sure that a case has as many slices as its manifest says, before any is counted on.

    Args:
        path: Its labels of the training form.
        entry: The case.
        size: Rows and columns of the training form.

    Raises:
        DataError: the file is missing, or too small for its number of slices.
    """
    there = path.stat().st_size if path.is_file() else 0
    if there < entry.shape[0] * size * size:
        raise DataError(
            f"{path} is missing or cut short: manifest.json says {entry.shape[0]} slices.",
            seen=f"{there:,} bytes",
            hint=_AGAIN,
        )


_AGAIN = "run lomix prepare again; it remakes what is missing or damaged"
_checked: dict[str, tuple[int, int, int, str]] = {}


def case_name(name: str) -> str:
    """Check that a name is that of a folder which stays inside the folder above it.

    Args:
        name: Parts may be joined by ``/``.

    Returns:
        The same.

    Raises:
        ValueError: it is empty, leads elsewhere, or has signs that no name has.
    """
    parts = PurePosixPath(name).parts
    plain = name.isprintable() and "\\" not in name and "/".join(parts) == name
    if (
        not parts
        or not plain
        or name.startswith("/")
        or any(p in (".", "..") or p.startswith(".unfinished.") for p in parts)
    ):
        raise ValueError(f"{name!r} is no name of a case: it would not stay inside its folder")
    return name


def sha256(path: Path) -> str:
    """Hash a file without holding it in memory.

    Args:
        path: The file.

    Returns:
        Hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
