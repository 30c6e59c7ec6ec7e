"""Nuclei in fluorescence microscopy: the grey pictures of the Data Science Bowl 2018, each with one mask."""

import re
from pathlib import Path

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.matching import (
    check_pairs,
    content_in_words,
    files_by_name,
    picture_source,
    sorted_sources,
)
from lomix_search.data.readers.picture_file import SUFFIXES
from lomix_search.errors import DataError

_NAME = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}")


def find_nuclei(raw: Path) -> list[Source]:
    """Find ``ID/images/ID.png`` with ``ID/masks/*.png``, one mask a nucleus; or folders ``images`` and ``masks``.

    Args:
        raw: The folder.

    Returns:
        One source a picture; all nuclei are one foreground.

    Raises:
        DataError: no such pictures, several in one folder, or pictures without a mask.
    """
    if (raw / "images").is_dir() and (raw / "masks").is_dir():
        images, masks = (files_by_name(_pictures(raw / name)) for name in ("images", "masks"))
        check_pairs(raw, images, masks, "images/ID.png with masks/ID.png")
        return sorted_sources(picture_source(stem, "", path, (masks[stem],)) for stem, path in images.items())
    sources = []
    for folder in sorted({p.parent for p in raw.rglob("images") if p.is_dir() and _NAME.fullmatch(p.parent.name)}):
        inside = {name: _pictures(folder / name) for name in ("images", "masks")}
        if len(inside["images"]) > 1:
            raise DataError(
                f"{folder / 'images'} holds {len(inside['images'])} pictures; a folder of the set holds one.",
                seen=", ".join(path.name for path in inside["images"][:4]),
                hint="move the others away",
            )
        images, masks = ({folder.name: files[0]} if files else {} for files in inside.values())
        check_pairs(folder, images, masks, "images/ID.png with masks/*.png")
        sources += [picture_source(folder.name, "", inside["images"][0], tuple(inside["masks"]))]
    if not sources:
        raise DataError(
            f"{raw} holds no pictures of nuclei.",
            seen=content_in_words(raw),
            hint="expected stage1_train/ID/images/ID.png with ID/masks/*.png, or images/ID.png with masks/ID.png",
        )
    return sorted_sources(sources)


def _pictures(folder: Path) -> list[Path]:
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [p for p in inside if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


NUCLEI_LAYOUT = DatasetLayout("nuclei", find_nuclei, {1: "nucleus"}, "picture", 256)
