"""Which image belongs to which mask, by one rule, with everything that does not pair up named.

A mask belongs to the image in the same subfolder that has the same name. If there is none, its own ending of masks
(``_mask``, ``_seg``, …) is left out; then the images' endings (``_0000``, ``_ct``, …); then both. Each image has one
mask and each mask one image.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lomix_search.data.readers.picture_file import SUFFIXES
from lomix_search.errors import DataError

NIFTI = (".nii", ".nii.gz")
_FOREIGN = (
    ".gif", ".webp", ".jp2", ".heic", ".svg", ".pbm", ".pgm", ".ppm", ".npy", ".npz", ".h5", ".hdf5", ".dcm", ".nrrd",
    ".mha", ".mhd", ".mgz", ".img",
)  # fmt: skip
_IMAGE = re.compile(r"(_0000|_image|_img|_ct|_mri)$", re.IGNORECASE)  # what image names add to the case's name
_CHANNEL = re.compile(r"_\d{4}$")  # of several images that share a mask
_MASK = re.compile(r"[-_. ](segmentation|seg|labels?|masks?|gt|groundtruth)([-_]\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """An image or a mask.

    Args:
        path: Where it is.
        folder: Its subfolder, below the folder that was given.
        stem: Its name without the ending, in one form of Unicode.
    """

    path: Path
    folder: str
    stem: str


@dataclass(frozen=True)
class Pairs:
    """What belongs together, and what does not pair up.

    Args:
        pairs: (image, mask) by case name, sorted.
        faults: One line each.
        images: Number of images.
        masks: Number of masks.
    """

    pairs: dict[str, tuple[Path, Path]]
    faults: tuple[str, ...]
    images: int
    masks: int

    def check(self) -> None:
        """Raise if anything does not pair up.

        Raises:
            DataError: it names the files.
        """
        if self.faults or not self.pairs:
            more = [f"and {len(self.faults) - 20} more"] if len(self.faults) > 20 else []
            raise DataError(
                f"images and masks do not pair up: {self.images} images, {self.masks} masks.",
                seen=[*self.faults[:20], *more] or "no .nii, .nii.gz or pictures",
                hint="name each mask like its image: scan7.nii.gz with scan7.nii.gz, or scan7.png with scan7_mask.png",
            )


def find_pairs(images: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    """Pair images with masks by name.

    Args:
        images: Folder of images; its subfolders are looked into.
        masks: Folder of masks; may be the same, or one inside the other.

    Returns:
        (image, mask) by case name, sorted.

    Raises:
        DataError: no such folder, nothing in it, or files without a partner; they are named.
    """
    found = pair_up(images, masks)
    found.check()
    return found.pairs


def pair_up(images: Path, masks: Path) -> Pairs:
    """Pair images with masks by name, and collect what does not pair up.

    Args:
        images: Folder of images.
        masks: Folder of masks.

    Returns:
        Pairs and faults.

    Raises:
        DataError: no such folder.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder.", hint="lomix new DIR --images IMAGES --masks MASKS")
    faults: list[str] = []
    if images.resolve() == masks.resolve():
        all_files = list(_files(images, None, faults))
        of_masks = [file for file in all_files if _MASK.search(file.stem)]
        of_images = [file for file in all_files if not _MASK.search(file.stem)]
    else:
        of_images, of_masks = list(_files(images, masks, faults)), list(_files(masks, images, faults))
    faults += [*_twice(of_images), *_twice(of_masks)]
    owners = _owners(of_images, of_masks)
    faults += _unclear(of_images, owners)
    owned = Counter(image for found in owners.values() for image in found)
    pairs = {f[0]: mask for mask, f in owners.items() if len(f) == 1 and owned[f[0]] == 1}
    faults += [fault for image, mask in pairs.items() if (fault := _kinds(image.path, mask.path))]
    names = _names(of_images)
    by_name = {names[i]: (i.path, m.path) for i, m in pairs.items() if not _kinds(i.path, m.path)}
    return Pairs(dict(sorted(by_name.items())), tuple(faults), len(of_images), len(of_masks))


def _files(folder: Path, other: Path | None, faults: list[str]) -> Iterator[File]:
    """Walk through a folder without the other one; name what is of a kind that is not read."""
    without, met = None if other is None else other.resolve(), {folder.resolve()}
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() not in {without, *met})
        met |= {(here / f).resolve() for f in folders}  # a link to a folder that was met would go round for ever
        for name in sorted(n for n in names if not n.startswith(".")):
            if (ending := _ending(name)) is not None:
                stem = unicodedata.normalize("NFC", name[: -len(ending)])
                yield File(here / name, unicodedata.normalize("NFC", here.relative_to(folder).as_posix()), stem)
            elif name.lower().endswith(_FOREIGN):
                faults.append(f"{here / name} is of a kind that is not read here")


def _ending(name: str) -> str | None:
    return next((e for e in (".nii.gz", ".nii", *SUFFIXES) if name.lower().endswith(e) and len(name) > len(e)), None)


def _twice(files: list[File]) -> list[str]:
    first: dict[tuple[str, str], File] = {}
    pairs = [(first.setdefault((file.folder, file.stem), file), file) for file in files]
    return [f"{a.path} and {b.path.name} have one name" for a, b in pairs if a is not b]


def _owners(images: list[File], masks: list[File]) -> dict[File, list[File]]:
    """Return the images that each mask fits best."""
    by_name: dict[tuple[str, str], list[File]] = {}
    by_rest: dict[tuple[str, str], list[File]] = {}
    for image in images:
        by_name.setdefault((image.folder, image.stem), []).append(image)
        for rest in {_IMAGE.sub("", image.stem), _CHANNEL.sub("", image.stem)} - {image.stem}:
            by_rest.setdefault((image.folder, rest), []).append(image)

    def of(mask: File) -> list[File]:
        whole, bare = (mask.folder, mask.stem), (mask.folder, _MASK.sub("", mask.stem))
        fits = (by_name.get(whole), by_name.get(bare), by_rest.get(whole), by_rest.get(bare))
        return next((found for found in fits if found), [])

    return {mask: of(mask) for mask in masks}


def _unclear(images: list[File], owners: dict[File, list[File]]) -> list[str]:
    """Name images without a mask or with several, and masks without an image or with several."""
    of_image: dict[File, list[File]] = {image: [] for image in images}
    for mask, found in owners.items():
        for image in found:
            of_image[image].append(mask)
    lines = [f"{i.path} has no mask" for i, m in of_image.items() if not m]
    lines += [
        f"{i.path} has {len(m)} masks: {', '.join(f.path.name for f in m[:4])}"
        for i, m in of_image.items()
        if len(m) > 1
    ]
    lines += [f"{m.path} has no image" for m, i in owners.items() if not i]
    return lines + [
        f"{m.path} is the mask of {len(i)} images: {', '.join(f.path.name for f in i[:4])}"
        for m, i in owners.items()
        if len(i) > 1
    ]


def _kinds(image: Path, mask: Path) -> str:
    """Return what is wrong with a pair before it is read."""
    if is_volume(image) != is_volume(mask):
        return f"{image} and {mask} are a volume and a picture"
    return f"{image} and {mask} are one file" if image.resolve() == mask.resolve() else ""


def is_volume(path: Path) -> bool:
    """Whether a file is a volume by its name.

    Args:
        path: Its file.

    Returns:
        Whether it ends like NIfTI.
    """
    return path.name.lower().endswith(NIFTI)


def _names(images: list[File]) -> dict[File, str]:
    """Name cases by their images, without the ending of images where that leaves every name its own."""
    short = {image: (image.folder, _IMAGE.sub("", image.stem)) for image in images}
    taken = Counter(short.values())
    clear = len({(i.folder, i.stem if taken[s] > 1 else s[1]) for i, s in short.items()}) == len(images)
    full = {i: s[1] if clear and taken[s] == 1 else i.stem for i, s in short.items()}
    return {image: name if image.folder == "." else f"{image.folder}/{name}" for image, name in full.items()}
