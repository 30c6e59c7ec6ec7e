"""The Bundle of docs/frameworks and the scripts beside it, run as their users run them."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.nets.basic_unet import BasicUNet

from lomix_search.mixture.mixture import Mixture
from lomix_search.utils.shipped import PACKAGE

pytestmark = pytest.mark.monai

FRAMEWORKS = PACKAGE.parent / "docs" / "frameworks"


def run_bundle(bundle: Path, program: list[str], *arguments: str) -> str:
    """Run MONAI's command in the folder of a Bundle; return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, *program, "run", *arguments]
    done = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_the_bundle_trains_goes_on_and_serves_without_us(tmp_path: Path) -> None:
    import nibabel

    bundle, monai = tmp_path / "bundle", ["-m", "monai.bundle"]
    shutil.copytree(FRAMEWORKS / "monai_bundle", bundle)
    said = run_bundle(bundle, monai, "--config_file", "configs/train.yaml", "--epochs", "1", "--val_interval", "1")
    assert "val_dice" in said and "LoMix: " in said and "48 maps, which count as" in said
    files = "['configs/train.yaml','configs/resume.yaml']"
    said = run_bundle(bundle, monai, "--config_file", files, "--epochs", "2", "--val_interval", "1")
    assert "Epoch[2] LoMix: " in said and "Epoch[1] " not in said
    mixture = Mixture.load(bundle / "models" / "mixture.json")
    assert len(mixture.maps) == 48 and mixture.provenance.steps == 10
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    stock = BasicUNet(spatial_dims=2, in_channels=1, out_channels=6, features=(16, 16, 32, 64, 128, 16))
    stock.load_state_dict(weights.get("model", weights))  # every key, and no other
    blocked = (
        "import sys; sys.modules['lomix_search'] = None; import monai.bundle.__main__ as m; import fire; fire.Fire(m)"
    )
    run_bundle(bundle, ["-c", blocked], "--config_file", "configs/inference.yaml")
    labels = nibabel.load(bundle / "eval" / "CTChest4_seg.nii.gz")
    assert labels.shape == (128, 128, 34)


@pytest.mark.parametrize("name", ["before", "deep_supervision", "lomix"])
def test_the_scripts_of_the_page(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEPS", "1")
    monkeypatch.setenv("REPORT", str(tmp_path / "report.json"))
    monkeypatch.syspath_prepend(FRAMEWORKS)
    monkeypatch.delitem(sys.modules, "task", raising=False)
    runpy.run_path(str(FRAMEWORKS / f"monai_{name}.py"), run_name="__main__")
    assert "dice" in (tmp_path / "report.json").read_text()
