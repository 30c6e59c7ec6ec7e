"""BUSI: breast ultrasound, each picture with one mask or several."""

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


def find_busi(raw: Path) -> list[Source]:
    """Find ``benign (1).png`` with ``benign (1)_mask.png`` (and ``_mask_1.png`` …) at any depth.

    Args:
        raw: The folder.

    Returns:
        One source a picture; several masks are one foreground, and a normal breast has an empty one.

    Raises:
        DataError: no pictures, or pictures without a mask.
    """
    files = [p for p in sorted(raw.rglob("*")) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    images = files_by_name(p for p in files if re.fullmatch(r"\w+ ?\(\d+\)", p.stem))
    masks: dict[str, list[Path]] = {}
    for stem, path in files_by_name(p for p in files if re.fullmatch(r"\w+ ?\(\d+\)_mask(_\d+)?", p.stem)).items():
        masks.setdefault(stem.rpartition("_mask")[0], []).append(path)
    check_pairs(
        raw, images, {stem: paths[0] for stem, paths in masks.items()}, "benign (1).png and benign (1)_mask.png"
    )
    return sorted_sources(picture_source(stem, "", path, tuple(masks[stem])) for stem, path in images.items())


BUSI_LAYOUT = DatasetLayout("busi", find_busi, {1: "tumour"}, "picture", 256)
