"""What the names of files say: which are masks, what is added to the name of a case, and which channel a file is.

Endings and beginnings in use: ``_mask``, ``_seg``, ``_label``, ``_gt``, ``mask_…``, ``seg_…`` of masks; ``_image``,
``_ct``, ``img_…``, ``image_…`` of images; ``_0000`` and the names of MR sequences of channels. Folders that are named
``images``, ``labels`` and the like say the same of what is in them.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

_SEPARATOR = r"[-_. ]"
_OF_MASKS = r"(?:segmentations?|seg|labels?|lbl|masks?|msk|gt|ground[-_ ]?truth|annotations?|annot)"
_OF_IMAGES = r"(?:images?|img|im|scan|photo|orig|original)"
_MASK_AFTER = re.compile(rf"{_SEPARATOR}{_OF_MASKS}(?:[-_]\d+)?$", re.IGNORECASE)
_MASK_BEFORE = re.compile(rf"^{_OF_MASKS}{_SEPARATOR}", re.IGNORECASE)
_MASK_ALONE = re.compile(rf"^{_OF_MASKS}$", re.IGNORECASE)
_IMAGE_AFTER = re.compile(r"(_0000|[-_](?:image|img|ct|mri))$", re.IGNORECASE)
_IMAGE_BEFORE = re.compile(rf"^{_OF_IMAGES}{_SEPARATOR}", re.IGNORECASE)
_IMAGE_ALONE = re.compile(rf"^(?:{_OF_IMAGES}|ct|mri?|volume|data)$", re.IGNORECASE)
_NUMBER = re.compile(r"_(\d{4})$")
_SEQUENCE = re.compile(rf"(?:^|{_SEPARATOR})(t1|t1ce|t1c|t1gd|t1n|t1w|t2|t2w|t2f|flair|adc|dwi|pd)$", re.IGNORECASE)

MASK_FOLDERS = (
    "mask", "masks", "label", "labels", "labelstr", "seg", "segs", "segmentation", "segmentations", "gt",
    "ground truth", "groundtruth", "ground_truth", "annotation", "annotations",
)  # fmt: skip
IMAGE_FOLDERS = (
    "image", "images", "imagestr", "img", "imgs", "original", "originals", "scan", "scans", "volumes", "photos",
)  # fmt: skip


def looks_like_mask(stem: str) -> bool:
    """Whether a name has what names of masks have.

    Args:
        stem: A file's name without its ending.

    Returns:
        Whether it begins or ends like a mask's, or is nothing else.
    """
    return any(form.search(stem) for form in (_MASK_AFTER, _MASK_BEFORE, _MASK_ALONE))


def bare_mask(stem: str) -> str:
    """Return a mask's name without what masks add to it; empty where that is all of it."""
    if _MASK_ALONE.match(stem):
        return ""
    shorter = _MASK_AFTER.sub("", stem)
    return shorter if shorter != stem else _MASK_BEFORE.sub("", stem)


def short_image(stem: str) -> str:
    """Return an image's name without the ending of images, as its case is called."""
    return _IMAGE_AFTER.sub("", stem)


def bare_images(stem: str) -> set[str]:
    """Return what an image's name may be without what images add to it: an ending, a beginning, a channel."""
    found = {short_image(stem), _IMAGE_BEFORE.sub("", stem), _IMAGE_BEFORE.sub("", short_image(stem))}
    if channel := channel_of(stem):
        found.add(channel[0])
    if _IMAGE_ALONE.match(stem):
        found.add("")
    return found - {stem}


def channel_of(stem: str) -> tuple[str, str] | None:
    """Return the name of the image and of the channel where a file holds one of several channels.

    Args:
        stem: A file's name without its ending.

    Returns:
        ``("p", "0001")`` of ``p_0001``, ``("p", "flair")`` of ``p_flair``, ``("", "t1")`` of ``t1``; None of others.
    """
    if found := _NUMBER.search(stem):
        return stem[: found.start()], found[1]
    if found := _SEQUENCE.search(stem):
        return stem[: found.start()], found[1].lower()
    return None


def shared_ending(stems: Sequence[str]) -> str:
    """Return what all names end with, from a separator on: ``_hippo`` of ``p1_hippo`` and ``p2_hippo``.

    Args:
        stems: Names of files without their endings.

    Returns:
        The longest such ending; empty of a single name, and where they share none.
    """
    if len(set(stems)) < 2:
        return ""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*(stem[::-1] for stem in stems), strict=False))
    ending = "".join(letters[0] for letters in alike)[::-1]
    found = re.search(_SEPARATOR, ending)
    return ending[found.start() :] if found else ""
