"""Offline twins: small data sets of each benchmark's true layout, with the quirks that real ones have."""

from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image

from lomix_search.data.split import read_split
from lomix_search.utils.shipped import shipped_folder

SYNAPSE = read_split(shipped_folder("recipes") / "synapse" / "split.toml")
ACDC = read_split(shipped_folder("recipes") / "acdc" / "split.toml")


def organs(rng: np.random.Generator, shape: tuple[int, ...], classes: int) -> NDArray[np.uint8]:
    """Blobs of classes 1 … ``classes``, each of which is there and can be told by its brightness."""
    label = np.zeros(shape, np.uint8)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    for c in range(1, classes + 1):
        centre = [rng.uniform(0.2, 0.8) * n for n in shape]
        radii = [max(1.0, n * rng.uniform(0.12, 0.2)) for n in shape]
        inside = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, centre, radii, strict=True)) < 1
        label[inside] = c
        label[tuple(int(m) for m in centre)] = c
    return label


def ct(rng: np.random.Generator, label: NDArray[np.uint8]) -> NDArray[np.int16]:
    return (rng.normal(0, 10, label.shape) - 50 + 20 * label.astype(float) - 900 * (label == 0)).astype(np.int16)


def save_nifti(path: Path, values: NDArray, affine: NDArray, unit: str = "mm", **header: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units(unit)
    if "slope" in header:
        image.header.set_slope_inter(header["slope"], header.get("intercept", 0))
    nib.save(image, path)


def synapse_raw(root: Path, cases: list[str] | None = None, size: int = 40) -> Path:
    """``img/img0001.nii.gz``: LAS like BTCV's, one case turned round, float labels with scaled slopes now and then."""
    rng = np.random.default_rng(0)
    for i, case in enumerate(cases or sorted([*SYNAPSE.train, *SYNAPSE.test])):
        number, label = case.removeprefix("case"), organs(rng, (size, size, 6), 13)
        affine = np.diag([-0.8, 0.8, 3.0, 1.0]) if i % 3 else np.diag([0.8, -0.8, 3.0, 1.0])
        image: NDArray = ct(rng, label)
        if i % 4 == 1:
            image = image[..., None]  # 4D of one frame
        kind = {"dtype": np.float32} if i % 2 else {"dtype": np.uint8}
        save_nifti(root / "img" / f"img{number}.nii.gz", image, affine)
        save_nifti(root / "label" / f"label{number}.nii.gz", label.astype(kind["dtype"]), affine)
    return root


def synapse_npz(root: Path, size: int = 40, train: int = 4, test: int = 2, classes: int = 13) -> Path:
    rng = np.random.default_rng(1)
    for folder in ("train_npz", "test_vol_h5"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for case in SYNAPSE.train[:train]:
        label = organs(rng, (5, size, size), classes)
        image = (label / 13 + rng.uniform(0, 0.02, label.shape)).clip(0, 1).astype(np.float32)
        for z in range(5):
            np.savez(root / "train_npz" / f"{case}_slice{z:03d}.npz", image=image[z], label=label[z].astype(np.float32))
    for case in SYNAPSE.test[:test]:
        label = organs(rng, (5, size, size), classes)
        with h5py.File(root / "test_vol_h5" / f"{case}.npy.h5", "w") as file:
            file["image"], file["label"] = (label / 13).astype(np.float32), label.astype(np.float32)
    return root


def acdc_raw(root: Path, patients: list[str], size: int = 36) -> Path:
    """``patient001/patient001_frame01.nii.gz``, ``_gt``, Info.cfg; every third one only has its 4D file."""
    rng = np.random.default_rng(2)
    for i, patient in enumerate(patients):
        folder, frames = root / "training" / patient, {"ED": 1, "ES": 4}
        folder.mkdir(parents=True)
        text = "".join(f"{phase}: {frame}\n" for phase, frame in frames.items())
        (folder / "Info.cfg").write_text(f"{text}Group: DCM\nHeight: 180.0\nNbFrame: 5\nWeight: 80.0\n")
        affine, whole = np.diag([-1.5, -1.5, 10.0, 1.0]), rng.normal(60, 5, (size, size + 4, 4, 5)).astype(np.float32)
        for frame in frames.values():
            label = organs(rng, (size, size + 4, 4), 3)
            whole[..., frame - 1] += 60 * label
            stem = f"{patient}_frame{frame:02d}"
            save_nifti(folder / f"{stem}_gt.nii.gz", label, affine)
            if i % 3:
                save_nifti(folder / f"{stem}.nii.gz", whole[..., frame - 1].astype(np.int16), affine)
        save_nifti(folder / f"{patient}_4d.nii.gz", whole, affine)
    return root


def acdc_npz(root: Path, size: int = 36) -> Path:
    rng = np.random.default_rng(3)
    groups = {"train": ACDC.train[:3], "valid": ACDC.val[:1], "test": ACDC.test[:2]}
    for group, patients in groups.items():
        (root / group).mkdir(parents=True)
        for patient in patients:
            for phase in ("ED", "ES"):
                label = organs(rng, (3, size, size), 3)
                image, number = (label * 80 + rng.normal(40, 4, label.shape)), patient.removeprefix("patient")
                if group == "test":
                    np.savez(root / group / f"case_{number}_volume_{phase}.npz", img=image, label=label)
                    continue
                for z in range(3):
                    np.savez(root / group / f"case_{number}_slice{phase}_{z}.npz", img=image[z], label=label[z])
    return root


def photo(rng: np.random.Generator, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    base = rng.integers(60, 120, (*mask.shape, 3))
    return (base + 90 * mask[..., None]).clip(0, 255).astype(np.uint8)


def polyp_raw(root: Path, train: int = 6, test: int = 2) -> Path:
    """PraNet's folders; masks as 0/255, 0/1, RGB and noisy JPEG, names with blanks and digits alone."""
    rng = np.random.default_rng(4)
    sets = {"TrainDataset": train} | {
        f"TestDataset/{name}": test
        for name in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir")
    }
    for place, count in sets.items():
        plural = "s" if place != "TrainDataset" else ""
        images, masks = root / place / f"image{plural}", root / place / f"mask{plural}"
        images.mkdir(parents=True), masks.mkdir()
        for i in range(count):
            mask = organs(rng, (40 + 2 * i, 48), 1)
            picture = Image.fromarray(photo(rng, mask))
            picture.save(images / f"{i}{('.jpg', '.png', '.tif', '.bmp')[i % 4]}", quality=95)
            forms = (
                (Image.fromarray(mask * 255), f"{i}.png"),
                (Image.fromarray(mask), f"{i}.png"),
                (Image.fromarray(np.repeat(mask[..., None] * 255, 3, 2)), f"{i}.tif"),
                (Image.fromarray(mask * 255), f"{i}.jpg"),
            )
            form, name = forms[i % 4]
            form.save(masks / name)
    return root


def isic_raw(root: Path, counts: tuple[int, int, int] = (5, 2, 2)) -> Path:
    rng = np.random.default_rng(5)
    number = 0
    for name, count in zip(("Training", "Validation", "Test"), counts, strict=True):
        images, masks = root / f"ISIC2018_Task1-2_{name}_Input", root / f"ISIC2018_Task1_{name}_GroundTruth"
        images.mkdir(parents=True), masks.mkdir()
        (images / "ATTRIBUTION.txt").write_text("as the official folders have it")
        for _ in range(count):
            mask, number = organs(rng, (36, 50), 1), number + 1
            Image.fromarray(photo(rng, mask)).save(images / f"ISIC_{number:07d}.jpg", quality=95)
            Image.fromarray(mask * 255).save(masks / f"ISIC_{number:07d}_segmentation.png")
    return root


def busi_raw(root: Path, count: int = 6) -> Path:
    rng = np.random.default_rng(6)
    for kind in ("benign", "malignant", "normal"):
        folder = root / "Dataset_BUSI_with_GT" / kind
        folder.mkdir(parents=True)
        for i in range(1, count + 1):
            mask = organs(rng, (44, 52), 1) * (kind != "normal")
            Image.fromarray(photo(rng, mask)).save(folder / f"{kind} ({i}).png")
            Image.fromarray(mask.astype(bool)).save(folder / f"{kind} ({i})_mask.png")
            if i == 2 and kind == "benign":
                Image.fromarray(organs(rng, (44, 52), 1) * 255).save(folder / f"{kind} ({i})_mask_1.png")
    return root


def nodules_raw(root: Path, patients: int = 4, size: int = 40) -> Path:
    """Folders of axial CT slices with one RTSTRUCT: a box with a hole, contoured in mm."""
    rng = np.random.default_rng(7)
    for n in range(1, patients + 1):
        folder = root / f"pat_{n}"
        folder.mkdir(parents=True)
        corner = np.array([-50.0 - n, -40.0, -300.0])
        box = np.array([[10, 8], [25, 8], [25, 20], [10, 20]]) - 0.5  # column, row; the hole is 4 × 4
        hole = np.array([[14, 12], [18, 12], [18, 16], [14, 16]]) - 0.5
        for z in rng.permutation(6):
            values = np.full((size, size + 4), 200, np.uint16)
            values[8:20, 10:25] = 1050
            _ct_slice(folder / f"IMG{z}.dcm", values, corner + np.array([0, 0, 3.0 * z]))
        contours = [(corner[:2] + p * [0.9, 0.8], corner[2] + 3.0 * z) for z in (2, 3) for p in (box, hole)]
        _structures(folder / "RS.dcm", "GTV-1", contours)
    return root


def _dataset(modality: str) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Modality = modality
    return dataset


def _ct_slice(path: Path, values: NDArray[np.uint16], corner: NDArray[np.float64]) -> None:
    d = _dataset("CT")
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = *values.shape, 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.PixelSpacing, d.ImageOrientationPatient = [0.8, 0.9], [1, 0, 0, 0, 1, 0]
    d.ImagePositionPatient, d.SliceThickness = [float(v) for v in corner], 3.0
    d.RescaleSlope, d.RescaleIntercept, d.PixelData = 1, -1000, values.tobytes()
    d.save_as(path, enforce_file_format=True)


def _structures(path: Path, name: str, contours: list[tuple[NDArray[np.float64], float]]) -> None:
    d, roi, region = _dataset("RTSTRUCT"), pydicom.Dataset(), pydicom.Dataset()
    roi.ROINumber, roi.ROIName, region.ReferencedROINumber = 1, name, 1
    region.ContourSequence = []
    for corners, height in contours:
        contour = pydicom.Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(corners)
        contour.ContourData = [float(v) for x, y in corners for v in (x, y, height)]
        region.ContourSequence.append(contour)
    d.StructureSetROISequence, d.ROIContourSequence = [roi], [region]
    d.save_as(path, enforce_file_format=True)


def hippocampus_raw(root: Path, count: int = 3) -> Path:
    """``Task04_Hippocampus`` as it is unpacked: hidden files of another system, and test volumes without labels."""
    rng, home = np.random.default_rng(8), root / "Task04_Hippocampus"
    for n in range(1, count + 1):
        label = organs(rng, (16 + n, 20, 14), 2)
        image = rng.normal(40, 4, label.shape) + 30 * label
        kind = np.float32 if n % 2 else np.uint8  # 33 of the 260 are stored as floats of another range
        stem = f"hippocampus_{n:03d}.nii.gz"
        save_nifti(home / "imagesTr" / stem, (image * (1e4 if n % 2 else 1)).astype(kind), np.eye(4))
        save_nifti(home / "labelsTr" / stem, label, np.eye(4))
        (home / "imagesTr" / f"._{stem}").write_bytes(b"\x00\x05\x16\x07")
    save_nifti(home / "imagesTs" / "hippocampus_002.nii.gz", image.astype(np.float32), np.eye(4))
    return root


def nuclei_raw(root: Path, count: int = 3) -> Path:
    """``stage1_train/ID``: one mask a nucleus, pictures with a full alpha channel."""
    rng = np.random.default_rng(9)
    for _ in range(count):
        name = rng.bytes(32).hex()
        home = root / "stage1_train" / name
        (home / "images").mkdir(parents=True), (home / "masks").mkdir()
        masks = [organs(rng, (36, 40), 1) for _ in range(3)]
        grey = (20 + 150 * np.max(masks, 0) + rng.integers(0, 20, (36, 40))).astype(np.uint8)
        Image.fromarray(np.stack([grey, grey, grey, np.full_like(grey, 255)], 2)).save(home / "images" / f"{name}.png")
        for number, mask in enumerate(masks):
            Image.fromarray(mask * 255).save(home / "masks" / f"{rng.bytes(32).hex()}{number}.png")
    return root


RAW: dict[str, Callable[[Path], Path]] = {
    "synapse": lambda root: synapse_raw(root, ["case0001", "case0002"], size=16),
    "acdc": lambda root: acdc_raw(root, ["patient001", "patient004"], size=16),
    "polyp": lambda root: polyp_raw(root, train=2, test=1),
    "isic2018": lambda root: isic_raw(root, (1, 1, 1)),
    "chest_nodules": lambda root: nodules_raw(root, patients=2),
    "busi": lambda root: busi_raw(root, count=2),
    "hippocampus": hippocampus_raw,
    "nuclei": nuclei_raw,
}
"""A small raw folder of every benchmark that ``lomix prepare`` knows."""
