"""Which image belongs to which mask, by one rule, with everything that does not pair up named.

A mask belongs to the image in the same subfolder that has the same name. If there is none, what masks add to a name
(``_mask``, ``seg_``, …) is left out; then what images add (``_0000``, ``img_``, …); then both. Where no mask of all
finds its image so, what all masks end with is left out, and what all images end with. Each image has one mask and each
mask one image; of several files that are an image's channels, the mask belongs to all of them together. The
slices of a DICOM series are one image, which is named like its folder.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lomix_search.data.masks.names import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    bare_images,
    bare_mask,
    channel_of,
    looks_like_mask,
    shared_ending,
    short_image,
)
from lomix_search.data.readers.dicom_file import is_dicom
from lomix_search.data.readers.dicom_series import sort_dicom
from lomix_search.data.readers.formats import SEGMENTS, is_volume, known_endings, suffix_of
from lomix_search.data.readers.image import stem_of, walk
from lomix_search.data.readers.unread import in_groups
from lomix_search.errors import DataError

Pair = tuple[tuple[Path, ...], Path]
"""The files of an image, one or one a channel or slice, and its mask."""

_FOREIGN = (
    ".gif", ".webp", ".jp2", ".heic", ".svg", ".pbm", ".pgm", ".ppm", ".npy", ".npz", ".h5", ".hdf5", ".mgz", ".img",
    ".nhdr", ".b2nd", ".vtk", ".stl", ".czi", ".nd2", ".svs", ".ome.zarr",
)  # fmt: skip
_UNREAD_FOLDERS = ("imagests", "labelsts")  # nnU-Net's test images, which have no labels here


@dataclass(frozen=True)
class File:
    """An image or a mask: one file, or the slices of a DICOM series.

    Args:
        paths: Where it is.
        folder: Its subfolder, below the folder that was given.
        stem: Its name without the ending, in one form of Unicode.
    """

    paths: tuple[Path, ...]
    folder: str
    stem: str

    @property
    def path(self) -> Path:
        """What a message names: the file, the first of channels, or the folder of a series."""
        return self.paths[0] if len(self.paths) == 1 or suffix_of(self.paths[0]) else self.paths[0].parent


@dataclass(frozen=True)
class Pairs:
    """What belongs together, and what does not pair up.

    Args:
        pairs: (images, mask) by case name, sorted.
        faults: One line each.
        images: Number of images.
        masks: Number of masks.
        channels: Names of the channels, where each is a file of its own.
        note: By which rule, where it is not the usual one.
    """

    pairs: dict[str, Pair]
    faults: tuple[str, ...]
    images: int
    masks: int
    channels: tuple[str, ...] = ()
    note: str = ""

    def check(self) -> None:
        """Raise if anything does not pair up.

        Raises:
            DataError: it names the files.
        """
        if self.faults or not self.pairs:
            more = [f"and {len(self.faults) - 20} more"] if len(self.faults) > 20 else []
            raise DataError(
                f"images and masks do not pair up: {self.images} images, {self.masks} masks.",
                seen=[*self.faults[:20], *more] or "no file that is read here",
                hint="name each mask like its image: scan7.nii.gz with scan7.nii.gz, or scan7.png with scan7_mask.png"
                if self.images or self.masks
                else f"images end in {known_endings()}, or are DICOM slices",
            )


def find_pairs(images: Path, masks: Path) -> dict[str, Pair]:
    """Pair images with masks by name.

    Args:
        images: Folder of images; its subfolders are looked into.
        masks: Folder of masks; may be the same, or one inside the other.

    Returns:
        (images, mask) by case name, sorted.

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
        of_images, of_masks = _by_role(list(_files(images, None, faults)))
    else:
        of_images = [f for f, is_label in _files(images, masks, faults) if is_label is not True]
        of_masks = [f for f, is_label in _files(masks, images, faults) if is_label is not False]
    return _matched(of_images, of_masks, faults)


def pair_within(root: Path) -> Pairs:
    """Tell images from masks in one folder and pair them.

    Args:
        root: Images and masks are told apart by the folders that they are in (``images``, ``labels``), else by their
            names. Such folders may lie at any depth: below a patient's, below ``train``.

    Returns:
        Pairs and faults; folders that only say what is in them are not part of a case's name.
    """
    faults: list[str] = []
    of_images, of_masks = _by_role(list(_files(root, None, faults)))
    plain = [[File(f.paths, _without_roles(f.folder), f.stem) for f in files] for files in (of_images, of_masks)]
    return _matched(plain[0], plain[1], faults)


def _by_role(files: Sequence[tuple[File, bool | None]]) -> tuple[list[File], list[File]]:
    """Tell images from masks by kind, by folder, by name, and where none says it by ending."""
    images: list[File] = []
    masks: list[File] = []
    for file, is_label in files:
        roles = [_role(part) for part in reversed(file.folder.split("/")) if _role(part) is not None]
        said = is_label if is_label is not None else roles[0] if roles else looks_like_mask(file.stem)
        (masks if said else images).append(file)
    return (images, masks) if masks else _by_ending(images)


def _by_ending(files: list[File]) -> tuple[list[File], list[File]]:
    """Take JPEGs as images where each has a file of its name beside it that keeps values: photos with their masks."""
    photos = [file for file in files if suffix_of(file.paths[0]).lower() in (".jpg", ".jpeg")]
    others = [file for file in files if file not in photos]
    alike = Counter((f.folder, f.stem) for f in photos) == Counter((f.folder, f.stem) for f in others)
    return (photos, others) if photos and alike else (files, [])


def _role(folder: str) -> bool | None:
    """Return whether a folder's name says that masks are in it; None where it says nothing."""
    name = folder.lower()
    return True if name in MASK_FOLDERS else False if name in IMAGE_FOLDERS else None


def _without_roles(folder: str) -> str:
    return "/".join(part for part in folder.split("/") if _role(part) is None) or "."


def _files(folder: Path, other: Path | None, faults: list[str]) -> Iterator[tuple[File, bool | None]]:
    """Walk through a folder without the other one; name what is of a kind that is not read.

    With each file comes whether it is a label: None where its kind does not say it, as that of DICOM files does.
    """
    leave_out = frozenset() if other is None else frozenset({other.resolve()})
    for here, paths in walk(folder, leave_out):
        if here.name.lower() in _UNREAD_FOLDERS:
            continue
        place = unicodedata.normalize("NFC", here.relative_to(folder).as_posix())
        for path in paths:
            if suffix_of(path):
                yield File((path,), place, stem_of(path)), True if path.name.lower().endswith(SEGMENTS) else None
        faults += in_groups([p for p in paths if not suffix_of(p) and p.name.lower().endswith(_FOREIGN)])
        yield from _dicom(place, here.resolve().name, [p for p in paths if not suffix_of(p) and is_dicom(p)], faults)


def _dicom(place: str, own: str, paths: Sequence[Path], faults: list[str]) -> Iterator[tuple[File, bool | None]]:
    """Return the series and the labels of one folder; both are named like it."""
    up, _, name = place.rpartition("/")
    folder, stem = (up or ".", name) if place != "." else (".", own)
    try:
        series, labels = sort_dicom(paths)
    except DataError as fault:
        faults.append(str(fault))
        return
    for files in series.values():
        yield File(files, folder, stem), False
    for label in labels:
        yield File((label,), folder, stem), True


def _matched(images: list[File], masks: list[File], faults: list[str]) -> Pairs:
    faults += [*_twice(images), *_twice(masks)]
    owners, number, note = _owners(images, masks), len(images), ""
    if not any(owners.values()):
        owners, note = _by_shared_endings(images, masks) or (owners, "")
    joined, keys, lacking = _joined(owners)
    faults += lacking
    images = [image for image in images if image not in joined] + list(dict.fromkeys(joined.values()))
    owners = {mask: list(dict.fromkeys(joined.get(i, i) for i in found)) for mask, found in owners.items()}
    faults += _unclear(images, owners)
    owned = Counter(image for found in owners.values() for image in found)
    pairs = {f[0]: mask for mask, f in owners.items() if len(f) == 1 and owned[f[0]] == 1}
    faults += [fault for image, mask in pairs.items() if (fault := _kinds(image.path, mask.path))]
    names = _names(images)
    by_name = {names[i]: (i.paths, m.path) for i, m in pairs.items() if not _kinds(i.path, m.path)}
    return Pairs(dict(sorted(by_name.items())), tuple(faults), number, len(masks), keys, note)


def _joined(owners: dict[File, list[File]]) -> tuple[dict[File, File], tuple[str, ...], list[str]]:
    """Put images together that are the channels of one, because they share a mask and are named so.

    Returns the image that each of them is part of, the names of the channels, and which channels are missing where.
    """
    groups: list[tuple[str, dict[str, File]]] = []
    for mask, found in owners.items():
        parts = [(part, image) for image in found if (part := channel_of(image.stem))]
        if len(parts) == len(found) and {p[0] for p, _ in parts} & {mask.stem, bare_mask(mask.stem)}:
            groups.append((parts[0][0][0], {part[1]: image for part, image in parts}))
    keys = sorted({key for _, group in groups for key in group})
    if len(keys) < 2 or not all(key.isdigit() or is_volume(i.path) for _, g in groups for key, i in g.items()):
        return {}, (), []
    joined: dict[File, File] = {}
    for stem, group in groups:
        whole = tuple(group[key].paths[0] for key in sorted(group))
        joined |= dict.fromkeys(group.values(), File(whole, next(iter(group.values())).folder, stem))
    lacking = [
        f"{next(iter(group.values())).path}: its image lacks the channel {', '.join(sorted(set(keys) - set(group)))}"
        for _, group in groups
        if len(group) < len(keys)
    ]
    return joined, tuple(keys), lacking


def _twice(files: list[File]) -> list[str]:
    first: dict[tuple[str, str], File] = {}
    pairs = [(first.setdefault((file.folder, file.stem), file), file) for file in files]
    return [f"{a.path} and {b.path.name} have one name" for a, b in pairs if a is not b]


def _by_shared_endings(images: list[File], masks: list[File]) -> tuple[dict[File, list[File]], str] | None:
    """Do the same without what all masks end with, and all images; None unless all of the one or the other fit."""
    of_images, of_masks = (shared_ending([file.stem for file in files]) for files in (images, masks))
    if not of_masks and not of_images:
        return None
    owners = _owners(images, [replace(mask, stem=mask.stem.removesuffix(of_masks)) for mask in masks], of_images)
    owned = {image for found in owners.values() for image in found}
    if not owned or not (all(owners.values()) or len(owned) == len(images)):
        return None
    added = [f"{kind} end in {ending}" for kind, ending in (("images", of_images), ("masks", of_masks)) if ending]
    return owners, f"paired by what is left of their names: {', '.join(added)}"


def _owners(images: list[File], masks: list[File], ending: str = "") -> dict[File, list[File]]:
    """Return the images that each mask fits best; an ending that all images have may be left out."""
    by_name: dict[tuple[str, str], list[File]] = {}
    by_rest: dict[tuple[str, str], list[File]] = {}
    for image in images:
        by_name.setdefault((image.folder, image.stem), []).append(image)
        for rest in bare_images(image.stem) | ({image.stem.removesuffix(ending)} if ending else set()):
            by_rest.setdefault((image.folder, rest), []).append(image)

    def of(mask: File) -> list[File]:
        whole, bare = (mask.folder, mask.stem), (mask.folder, bare_mask(mask.stem))
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


def _names(images: list[File]) -> dict[File, str]:
    """Name cases by their images, without the ending of images where that leaves every name its own."""
    short = {image: (image.folder, _short(image)) for image in images}
    taken = Counter(short.values())
    clear = len({(i.folder, i.stem if taken[s] > 1 else s[1]) for i, s in short.items()}) == len(images)
    full = {i: s[1] if clear and taken[s] == 1 else i.stem for i, s in short.items()}
    return {image: _named(image.folder, name) for image, name in full.items()}


def _short(image: File) -> str:
    """Return a name without the ending of images; empty where it only says that it is one, and its folder more."""
    alone = image.folder != "." and "" in bare_images(image.stem)
    return "" if alone else short_image(image.stem)


def _named(folder: str, name: str) -> str:
    """Return a case's name; of an image whose name only says that it is one, that of its folder."""
    if folder == ".":
        return name or "case"
    return f"{folder}/{name}" if name else folder
