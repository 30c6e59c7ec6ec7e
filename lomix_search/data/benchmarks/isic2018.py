"""ISIC 2018: photographs of skin lesions, each with a mask."""

import re
from pathlib import Path

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.benchmarks.matching import (
    check_pairs,
    files_by_name,
    picture_source,
    sorted_sources,
)
from lomix_search.data.readers.picture_file import SUFFIXES


def find_isic(raw: Path) -> list[Source]:
    """Find ``ISIC_NNNNNNN.jpg`` with ``ISIC_NNNNNNN_segmentation.png`` at any depth.

    Args:
        raw: The folder. Folders named …Training…, …Validation… and …Test… are the official sets.

    Returns:
        One source a picture.

    Raises:
        DataError: no pictures, or pictures and masks that do not pair up.
    """
    files = [p for p in sorted(raw.rglob("ISIC_*")) if p.suffix.lower() in SUFFIXES]
    images = files_by_name(p for p in files if re.fullmatch(r"ISIC_\d+", p.stem))
    masks = files_by_name((p for p in files if p.stem.endswith("_segmentation")), "_segmentation")
    check_pairs(raw, images, masks, "ISIC_0000000.jpg with ISIC_0000000_segmentation.png")
    return sorted_sources(
        picture_source(stem, _official(path, raw), path, (masks[stem],)) for stem, path in images.items()
    )


def _official(path: Path, raw: Path) -> str:
    folders = "/".join(path.relative_to(raw).parts[:-1]).lower()
    for word, group in (("train", "train"), ("valid", "val"), ("test", "test")):
        if word in folders:
            return group
    return ""


ISIC2018_LAYOUT = DatasetLayout("isic2018", find_isic, {1: "lesion"}, "picture", 352)
