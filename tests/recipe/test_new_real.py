"""``lomix new`` on real data in the layouts that people have: what it decides."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.own_folders import decided, plan

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
DATA = Path(os.environ.get("LOMIX_DATA", "nowhere"))


def test_hippocampus_as_nnunet_has_it(tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "d" / folder).mkdir(parents=True)
    for path in sorted((DATA / "hippocampus" / "images").glob("*.nii.gz"))[:10]:
        name = path.name.removesuffix(".nii.gz")
        shutil.copy(path, tmp_path / "d" / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(DATA / "hippocampus" / "labels" / path.name, tmp_path / "d" / "labelsTr" / path.name)
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "anterior": 1, "posterior": 2}}
    (tmp_path / "d" / "dataset.json").write_text(json.dumps(content))
    found = decided(plan(tmp_path, tmp_path / "d"))
    wanted = {"form": "nnU-Net raw", "cases": "10", "modality": "mr", "2D or 3D": "3D", "channels": "1 (MRI)"}
    wanted |= {"classes": "1 anterior, 2 posterior", "spacing": "1 × 1 × 1 mm", "size": "48 × 64 × 48"}
    assert {key: found[key] for key in wanted} == wanted


def test_nuclei_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for path in sorted((DATA / "nuclei" / "images").iterdir())[:10]:
        shutil.copy(path, tmp_path / "d" / f"img_{path.name}")
        shutil.copy(DATA / "nuclei" / "masks" / path.name, tmp_path / "d" / f"mask_{path.name}")
    found = decided(plan(tmp_path, tmp_path / "d"))
    assert (found["cases"], found["2D or 3D"], found["classes"]) == ("10", "2D", "1 foreground")


def test_polyp_keeps_its_sets(tmp_path: Path) -> None:
    for name in ("TrainDataset", "TestDataset/Kvasir"):
        for kind in ("images", "masks"):
            (tmp_path / "d" / name / kind).mkdir(parents=True)
            for path in sorted((DATA / "polyp" / name / kind).iterdir())[:6]:
                shutil.copy(path, tmp_path / "d" / name / kind)
    found = decided(plan(tmp_path, tmp_path / "d"))
    assert found["cases"] == "12" and found["split"] == "train and test as in the folders"
