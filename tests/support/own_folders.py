"""Folders as people have them: nnU-Net's, the Decathlon's, of NRRD, MetaImage, TIFF and DICOM, a folder a patient."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lomix_search.recipe.new import NewRecipe, plan_recipe
from support import twins
from support.dicom_files import contours, segmentation, series
from support.grid_files import save_meta, save_nrrd

AFFINE = np.diag([-1.0, -1.0, 1.5, 1.0])
SHAPE = (20, 18, 12)


def volumes(
    count: int = 6,
    values: tuple[int, ...] = (1, 2),
    channels: int = 1,
    ct: bool = False,
    shape: tuple[int, ...] = SHAPE,
) -> list[tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Images (i, j, k) or (i, j, k, channels), each with a label that has all the values."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        label = np.zeros(shape, np.uint8)
        for number, value in enumerate(values):
            label[2 + 4 * number : 6 + 4 * number, 3 + seed % 4 : 9 + seed % 4, 3:9] = value
        image = (
            90.0 * label[..., None]
            + rng.normal(0, 5, (*shape, channels))
            + (-900 * (label == 0)[..., None] if ct else 100)
        )
        found.append((image[..., 0].astype(np.int16) if channels == 1 else image.astype(np.int16), label))
    return found


def nnunet(root: Path, json_: dict[str, Any], **options: Any) -> Path:
    """``imagesTr/p0_0000.nii.gz`` …, ``labelsTr/p0.nii.gz``, ``dataset.json``, and one image in ``imagesTs``."""
    for n, (image, label) in enumerate(volumes(**options)):
        for channel, values in enumerate(np.moveaxis(image, 3, 0) if image.ndim == 4 else [image]):
            twins.save_nifti(root / "imagesTr" / f"p{n}_{channel:04d}.nii.gz", values, AFFINE)
        twins.save_nifti(root / "labelsTr" / f"p{n}.nii.gz", label, AFFINE)
    twins.save_nifti(root / "imagesTs" / "q_0000.nii.gz", np.zeros(SHAPE, np.int16), AFFINE)
    (root / "dataset.json").write_text(json.dumps(json_))
    return root


def decathlon(root: Path, **options: Any) -> Path:
    """Whole 4D files, and a ``dataset.json`` of the first form that lists them."""
    listed = []
    for n, (image, label) in enumerate(volumes(channels=2, **options)):
        twins.save_nifti(root / "imagesTr" / f"BRATS_{n:03d}.nii.gz", image, AFFINE)
        twins.save_nifti(root / "labelsTr" / f"BRATS_{n:03d}.nii.gz", label, AFFINE)
        (root / "imagesTr" / f"._BRATS_{n:03d}.nii.gz").write_bytes(b"left by an archive")
        listed.append({"image": f"./imagesTr/BRATS_{n:03d}.nii.gz", "label": f"./labelsTr/BRATS_{n:03d}.nii.gz"})
    content = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema", "2": "tumour"},
        "numTraining": len(listed),
        "training": listed,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def flat(root: Path, ending: str, save: Callable[[Path, NDArray[Any]], object]) -> Path:
    for n, (image, label) in enumerate(volumes()):
        for folder, values in (("images", image), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            save(root / folder / f"p{n}{ending}", values)
    return root


def nrrd_folder(root: Path) -> Path:
    return flat(root, ".nrrd", lambda path, values: save_nrrd(path, values, AFFINE))


def metaimage_folder(root: Path) -> Path:
    return flat(root, ".mha", lambda path, values: save_meta(path, values, AFFINE, packed=True))


def tiff_folder(root: Path) -> Path:
    def save(path: Path, values: NDArray[Any]) -> None:
        pages = [Image.fromarray(page) for page in values.astype(np.uint16).transpose(2, 1, 0)]
        pages[0].save(path, save_all=True, append_images=pages[1:])

    return flat(root, ".tif", save)


def patients(root: Path) -> Path:
    """``P1/scan_a/image.nii.gz`` and ``label.nii.gz``, two scans a patient."""
    for n, (image, label) in enumerate(volumes(8)):
        folder = root / f"P{n // 2}" / f"scan_{n % 2}"
        twins.save_nifti(folder / "image.nii.gz", image, AFFINE)
        twins.save_nifti(folder / "label.nii.gz", label, AFFINE)
    return root


def dicom_folder(root: Path, kind: str, count: int = 2) -> Path:
    """A folder a patient: the slices, and contours or a segmentation of two regions beside them."""
    for n, (image, label) in enumerate(volumes(count, ct=True)):
        planes, mask = image.transpose(2, 1, 0), label.transpose(2, 1, 0)
        series(root / f"p{n}", planes, step=1.5, modality="CT")
        write = contours if kind == "RTSTRUCT" else segmentation
        write(root / f"p{n}" / "label.dcm", {"liver": mask == 1, "tumour": mask == 2}, step=1.5)
    return root


def preprocessed(root: Path) -> Path:
    """``nnUNetPlans_3d_fullres/p0.npz`` with data and seg, where −1 is outside the body; plans; ``dataset.json``."""
    folder = root / "nnUNetPlans_3d_fullres"
    folder.mkdir(parents=True)
    for n, (image, label) in enumerate(volumes()):
        seg = label.transpose(2, 1, 0)[None].astype(np.int16)
        seg[:, 0] = -1
        data = (image.transpose(2, 1, 0)[None] - 150) / 60
        np.savez(folder / f"p{n}.npz", data=data.astype(np.float32), seg=seg)
        (folder / f"p{n}.pkl").write_bytes(b"never opened")
    settings = {"3d_fullres": {"data_identifier": folder.name, "spacing": [1.5, 1.0, 1.0]}}
    (root / "nnUNetPlans.json").write_text(json.dumps({"plans_name": "nnUNetPlans", "configurations": settings}))
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def plan(tmp_path: Path, data: Path, masks: Path | None = None, **options: Any) -> NewRecipe:
    return plan_recipe(tmp_path / "recipe", data, masks, progress=False, **options)


def decided(of: NewRecipe) -> dict[str, str]:
    """What was decided, by what it is about."""
    return {row.what: row.value for row in of.decided.rows}
