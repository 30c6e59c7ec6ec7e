"""Public data sets, read as nibabel and numpy read them."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.preparing import go

from lomix_search.data.intensities import scale_intensities
from lomix_search.data.manifest import verify
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe


@pytest.mark.realdata
def test_acdc_is_read_as_it_is_and_its_twins_are_told(tmp_path: Path) -> None:
    """Native sizes, labels as stored, percentiles of each volume; patients 074 and 076 have the same images."""
    files, raw = Path(os.environ["LOMIX_DATA"]) / "acdc", tmp_path / "raw"
    raw.mkdir()
    for number in (3, 73, 74, 75, 76, 100):
        for path in files.glob(f"case_{number:03d}_volume*.npz"):
            (raw / path.name).symlink_to(path)
    manifest = go("acdc", raw, tmp_path / "out", size=224)
    assert len(manifest.cases) == 12 and verify(tmp_path / "out") == []
    for entry in manifest.cases:
        stored = np.load(raw / f"case_{entry.patient[-3:]}_volume{entry.name[-2:]}.npz")
        image, label = (np.load(tmp_path / "out" / "cases" / entry.name / f"{of}.npy") for of in ("image", "label"))
        low, high = np.percentile(stored["img"], (0.5, 99.5))
        np.testing.assert_array_equal(label, stored["label"])
        np.testing.assert_allclose(image[:, 0], ((stored["img"] - low) / (high - low)).clip(0, 1), atol=1e-3)
    warnings = validate_recipe(
        load_recipe("acdc", [f"data.root={tmp_path / 'out'}", "data.split=random"]), network=False
    )
    for phase in ("ED", "ES"):
        assert any(f"patient074_{phase} (" in w and f"patient076_{phase} (" in w for w in warnings.warnings)


@pytest.mark.realdata
def test_hippocampus_agrees_with_nibabel(tmp_path: Path) -> None:
    """Every image and label on its own canonical grid, whatever its range of intensities."""
    root = Path(os.environ["LOMIX_DATA"]) / "hippocampus"
    for image in sorted((root / "images").glob("*.nii.gz"))[::13]:
        made = read_nifti_pair("a", image, root / "labels" / image.name)
        for path, values in ((image, made.image[:, 0]), (root / "labels" / image.name, made.label)):
            canonical = nib.as_closest_canonical(nib.load(path)).get_fdata()[::-1, ::-1].transpose(2, 1, 0)
            np.testing.assert_array_equal(values, canonical)
        scaled = scale_intensities(made.image, "mr", image).astype(float)
        assert scaled.min() == 0 and scaled.max() == 1 and scaled.std() > 0.05
