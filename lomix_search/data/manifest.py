"""What a prepared folder holds: one entry a case, with sha256 of every file, so that a change is noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from lomix_search.data.volumes import readable
from lomix_search.errors import DataError
from lomix_search.typed import Frozen, validate


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


class Manifest(Frozen):
    """What a prepared folder holds.

    Args:
        version: Of this format.
        benchmark: Which layout was read.
        size: Rows and columns of the training form.
        intensity: How intensities were scaled.
        labels: Names of the raw label values.
        cases: All cases, by name.
    """

    version: Literal[1]
    benchmark: str
    size: int
    intensity: str
    labels: dict[int, str]
    cases: tuple[Entry, ...]


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
        content = json.loads(path.read_text(encoding="utf-8"))
    return validate(Manifest, content, str(path), DataError)


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
            if not path.exists():
                faults.append(f"{path} is missing")
            elif sha256(path) != expected:
                faults.append(f"{path} was changed after it was prepared")
    return faults


def sha256(path: Path) -> str:
    """Hash a file without holding it in memory.

    Args:
        path: The file.

    Returns:
        Hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
