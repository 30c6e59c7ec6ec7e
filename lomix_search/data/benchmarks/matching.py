"""What all layouts share: find files, tell which belong together, and name those that do not."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from lomix_search.data.benchmarks.layout import Source
from lomix_search.data.masks.picture_pair import read_picture_pair
from lomix_search.errors import DataError

_Key = TypeVar("_Key")


def files_by(key: Callable[[Path], _Key], paths: Iterable[Path]) -> dict[_Key, Path]:
    """Return files by what names their case; two of one name are refused, since one of them would be lost."""
    found: dict[_Key, Path] = {}
    for path in paths:
        if (other := found.setdefault(key(path), path)) != path:
            raise DataError(
                f"{other} and {path} are of one name; it must be clear which is meant.", hint="move one of them away"
            )
    return found


def files_by_name(paths: Iterable[Path], tail: str = "") -> dict[str, Path]:
    """Return files by their names without the ending and a tail, in one form of Unicode; else as ``files_by``."""
    return files_by(lambda path: unicodedata.normalize("NFC", path.stem).removesuffix(tail), paths)


def check_pairs(raw: Path, images: Mapping[_Key, Path], labels: Mapping[_Key, Path], expected: str) -> None:
    """Check that there are images, each with a label, and labels, each with an image.

    Args:
        raw: The folder, for the message.
        images: By what names their case.
        labels: Likewise.
        expected: How the files must be named.

    Raises:
        DataError: no images, or some without a partner; they are named.
    """
    alone = [f"{path} has no label" for key, path in images.items() if key not in labels]
    alone += [f"{path} has no image" for key, path in labels.items() if key not in images]
    if alone:
        more = [f"and {len(alone) - 8} more"] if len(alone) > 8 else []
        raise DataError(
            f"{raw}: images and labels do not pair up.", seen=[*alone[:8], *more], hint=f"expected {expected}"
        )
    if not images:
        raise DataError(f"{raw} holds no such data.", seen=content_in_words(raw), hint=f"expected {expected}")


def content_in_words(folder: Path) -> str:
    """Return what lies in a folder, as a message shows it."""
    if not folder.is_dir():
        return f"{folder} is not a folder"
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"


def sorted_sources(sources: Iterable[Source]) -> list[Source]:
    """Sort sources by name.

    Args:
        sources: In any order.

    Returns:
        The same, sorted.

    Raises:
        DataError: two of one name.
    """
    ordered = sorted(sources, key=lambda source: source.name)
    names = [source.name for source in ordered]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        first = [f"{s.name}: {s.files[0] if s.files else s.group}" for s in ordered if s.name in twice]
        more = [f"and {len(first) - 8} more"] if len(first) > 8 else []
        raise DataError(f"{', '.join(twice[:8])} is there twice.", seen=[*first[:8], *more], hint="remove one of them")
    return ordered


def nifti_files(raw: Path, pattern: str) -> list[Path]:
    """Return the NIfTI files at any depth whose name without the ending matches a pattern."""
    return [p for p in sorted(raw.rglob("*.nii*")) if p.is_file() and re.fullmatch(rf"{pattern}\.nii(\.gz)?", p.name)]


def nifti_of(folder: Path, stem: str) -> Path:
    """Return the one NIfTI file of this name, packed or not; the packed name where neither is there."""
    plain, packed = folder / f"{stem}.nii", folder / f"{stem}.nii.gz"
    there = files_by(lambda _: stem, [path for path in (plain, packed) if path.is_file()])
    return there.get(stem, packed)


def last_number(path: Path) -> int:
    """Return the last number in a file's name."""
    return int(re.findall(r"\d+", path.stem)[-1])


def picture_source(name: str, group: str, image: Path, masks: tuple[Path, ...]) -> Source:
    """Return the source of a picture with one binary mask or several; it is a patient of its own."""
    return Source(name, name, group, (image, *masks), partial(read_picture_pair, name, image, masks))
