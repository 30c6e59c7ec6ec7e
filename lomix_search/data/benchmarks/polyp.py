"""Polyps in colonoscopy: folders of pictures beside folders of masks, as PraNet's sets have them."""

from collections.abc import Iterable
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

_IMAGE_FOLDERS = ("image", "images", "original")
_MASK_FOLDERS = ("mask", "masks", "ground truth", "groundtruth", "gt")


def find_polyp(raw: Path) -> list[Source]:
    """Find pairs of folders ``image(s)``/``mask(s)`` at any depth; a picture and its mask share their stem.

    Args:
        raw: The folder. Below ``TrainDataset`` and ``TestDataset/NAME`` the sets are PraNet's.

    Returns:
        One source a picture, named ``SET/stem``.

    Raises:
        DataError: no such folders, or pictures and masks that do not pair up.
    """
    sources: list[Source] = []
    folders = (p for p in raw.rglob("*") if p.is_dir() and p.name.lower() in _IMAGE_FOLDERS)
    for folder in sorted({p.parent for p in folders if "__MACOSX" not in p.parts}):
        images, masks = _files_in(folder, _IMAGE_FOLDERS), _files_in(folder, _MASK_FOLDERS)
        check_pairs(folder, images, masks, "images/ and masks/ with files of the same stem")
        group = "train" if folder.name == "TrainDataset" else folder.name
        sources += [picture_source(f"{group}/{stem}", group, path, (masks[stem],)) for stem, path in images.items()]
    if not sources:
        raise DataError(
            f"{raw} holds no folders of polyp pictures.",
            seen=content_in_words(raw),
            hint="expected TrainDataset/images with TrainDataset/masks, and TestDataset/CVC-300/images, …",
        )
    return sorted_sources(sources)


def _files_in(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    inside = [p for f in folder.iterdir() if f.is_dir() and f.name.lower() in names for p in sorted(f.iterdir())]
    return files_by_name(p for p in inside if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


POLYP_LAYOUT = DatasetLayout("polyp", find_polyp, {1: "polyp"}, "picture", 352)
