"""Small data sets in nnU-Net's layout: of the embedded chest CT, and of brain volumes that are at hand."""

import importlib.metadata
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from lomix_search.data.kinds.chest_ct import CLASSES, read_chest_ct
from support.forked import program_in_child

ROOT = Path(__file__).resolve().parents[2]

TRAINERS = """
import os
import shutil

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerShort(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ.get("SHORT_EPOCHS", "2"))
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 3, 1


class nnUNetTrainerOneOutput(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, channels, classes, enable_deep_supervision):
        import torch

        return torch.nn.Conv2d(channels, classes, 3, padding=1)
"""
"""A user's own trainers, in a folder of their own; they know nothing of this library."""


def write_case(
    raw: Path, name: str, image: NDArray[np.float32], label: NDArray[np.uint8], spacing: tuple[float, ...]
) -> None:
    """Write one training case; image and label (slices, rows, columns), spacing alike."""
    affine = np.diag([*spacing[::-1], 1.0])
    nibabel.save(nibabel.Nifti1Image(image.T, affine), raw / "imagesTr" / f"{name}_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label.T, affine), raw / "labelsTr" / f"{name}.nii.gz")


def open_dataset(root: Path, name: str, channel: str, labels: dict[str, object], cases: int) -> Path:
    """Make the folders of a data set and its dataset.json; returns its folder."""
    raw = root / "raw" / name
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    described = {"channel_names": {"0": channel}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(described))
    return raw


def chest_ct_dataset(root: Path, name: str = "Dataset901_Chest") -> Path:
    """Cut the embedded CT into six cases, 11 slices of 64 × 64 each, spine and lungs in all of them."""
    image, label, spacing = read_chest_ct()
    raw = open_dataset(root, name, "CT", {c: i for i, c in enumerate(CLASSES)}, 6)
    for i in range(6):
        part = slice(11 * (i // 2), 11 * (i // 2) + 11), slice(32, 96), slice(64 * (i % 2), 64 * (i % 2) + 64)
        write_case(raw, f"chest_{i}", image[part] * 2000 - 1000, label[part], spacing)
    return raw


def environment(root: Path, *trainers: Path, **more: str) -> dict[str, str]:
    """Return the variables that nnU-Net's commands run with: few processes, one thread each."""
    paths = {f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")}
    single = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1", "ONE_CORE": "1"}
    python_path = os.pathsep.join([str(ROOT / "tests" / "support" / "shims"), str(ROOT)])
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("nnUNet_", "SHORT_"))}
    search = {"nnUNet_extTrainer": os.pathsep.join(map(str, trainers))} if trainers else {}
    return outside | paths | single | search | {"PYTHONPATH": python_path} | more


def command(name: str, *arguments: str, env: dict[str, str]) -> str:
    """Run a command of nnU-Net's; returns what it said. Fails with that where it fails."""
    run = subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{name} {' '.join(arguments)}\n{run.stdout[-4000:]}\n{run.stderr[-6000:]}"
    return run.stdout + run.stderr


def forked(name: str, *arguments: str, env: dict[str, str]) -> str:
    """Run a command of nnU-Net's in a fork of this process, where the processes that it starts are forks as well.

    The same command, without seven processor seconds of imports for each of its processes. ``command`` is for where
    it matters that it is a process of its own.
    """
    entry = next(iter(importlib.metadata.entry_points(group="console_scripts", name=name))).load()

    def run() -> None:
        os.environ.clear()
        os.environ |= env
        sys.argv = [name, *arguments]
        forks = multiprocessing.get_context("fork")
        multiprocessing.get_context = lambda method=None: forks  # type: ignore[assignment, return-value]
        os.cpu_count = lambda: 1
        entry()

    with tempfile.TemporaryDirectory() as folder:
        code, said = program_in_child(Path(folder) / "said", run)
    assert code == 0, f"{name} {' '.join(arguments)}\n{said[-8000:]}"
    return said


def plan(root: Path, number: int, configuration: str, features: tuple[int, ...]) -> None:
    """Plan and preprocess a data set as nnU-Net's users do, then make the network of the plan a small one."""
    env = environment(root) | {"nnUNet_n_proc_DA": "1"}
    forked("nnUNetv2_plan_and_preprocess", "-d", str(number), "-c", configuration, "-np", "1", "-npfp", "1", env=env)
    (file,) = (root / "preprocessed").glob(f"Dataset{number:03d}_*/nnUNetPlans.json")
    plans = json.loads(file.read_text())
    chosen = plans["configurations"][configuration]
    chosen["batch_size"] = 2
    chosen["architecture"]["arch_kwargs"]["features_per_stage"] = list(features)
    file.write_text(json.dumps(plans))


def brain_dataset(root: Path, folder: Path, cases: int) -> Path:
    """Lay volumes of the Decathlon's hippocampus set, or of twins of it, out for nnU-Net."""
    images, truth = ("imagesTr", "labelsTr") if (folder / "labelsTr").is_dir() else ("images", "labels")
    names = sorted(path.name.removesuffix(".nii.gz") for path in (folder / truth).glob("[!.]*.nii.gz"))[:cases]
    labels = {"background": 0, "anterior": 1, "posterior": 2}
    raw = open_dataset(root, "Dataset004_Hippocampus", "MRI", labels, cases)
    for name in names:
        shutil.copy(folder / images / f"{name}.nii.gz", raw / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(folder / truth / f"{name}.nii.gz", raw / "labelsTr")
    return raw
