"""Scoring of whole cases: what is written, in which unit, and what cannot be scored together."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from support import twins
from support.oracle_networks import Threshold, picture_case

from lomix_search.data.case import Case
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.errors import DataError
from lomix_search.evaluation import measures
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.score_table import read_evaluation


def test_evaluate_writes_scores_and_predictions(tmp_path: Path) -> None:
    raw = twins.synapse_raw(tmp_path / "raw", ["case0001", "case0002"], size=24)
    cases = [
        read_nifti_pair(f"case{n}", raw / "img" / f"img{n}.nii.gz", raw / "label" / f"label{n}.nii.gz")
        for n in ("0001", "0002")
    ]

    class Oracle(torch.nn.Module):
        """Says what the brightness says: 20 HU a class."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -((x + 50 - 20 * torch.arange(14).reshape(1, -1, 1, 1)) ** 2) * (x > -500) + 1e6 * (
                (x < -500) * (torch.arange(14) == 0).reshape(1, -1, 1, 1)
            )

    classes = ["background", *(str(i) for i in range(1, 14))]
    found = evaluate(Oracle(), cases, classes, save=tmp_path / "out", overlays=1, progress=False)
    assert found.cases == ("case0001", "case0002") and found.unit == "mm" and 0.2 < found.mean("dice") < 1
    assert read_evaluation(tmp_path / "out") == found
    text = (tmp_path / "out" / "scores.md").read_text()
    assert "hd95 (mm)" in text and "2 cases of 2 patients, protocol `strict`" in text
    for case in cases:
        saved = nib.load(tmp_path / "out" / "predictions" / f"{case.name}.nii.gz")
        truth = nib.load(raw / "label" / f"label{case.name[4:]}.nii.gz")
        np.testing.assert_allclose(saved.affine, truth.affine, atol=1e-5)
        assert saved.shape == truth.shape
        overlap = measures.dice(np.asarray(saved.dataobj) > 0, np.asarray(truth.dataobj).squeeze() > 0)
        assert overlap > 0.9, "the prediction lies where the truth lies, on the raw grid"
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "case0001.png"))
    assert overlay.shape == (24, 72, 3)
    assert (overlay[:, :24].std(-1) == 0).all() and (overlay[:, 24:48].std(-1) > 0).any()


def test_evaluate_pictures(tmp_path: Path) -> None:
    mask = twins.organs(np.random.default_rng(0), (30, 40), 1)
    image = np.repeat(0.2 + 0.6 * mask[None, None].astype(np.float32), 3, 1)
    cases = [Case(f"{s}/{i}", image, mask[None], (), {"size": [30, 40]}) for s in ("Kvasir", "CVC-300") for i in "12"]
    found = evaluate(
        Threshold(2, one_channel=True), cases, ("background", "polyp"), protocol="polyp", save=tmp_path, progress=False
    )
    assert found.mean("dice") == 1 and set(found.groups()) == {"Kvasir", "CVC-300"} and found.unit == "voxel"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "predictions" / "Kvasir" / "1.png")), mask * 255)
    assert "mean of Kvasir" in found.to_markdown()


def test_evaluate_nothing_or_mixed_units() -> None:
    with pytest.raises(DataError, match="there are no cases to evaluate"):
        evaluate(Threshold(), [], ("background", "a", "b"), progress=False)
    one, other = picture_case(), picture_case()
    other = Case("q", other.image, other.label)
    with pytest.raises(DataError) as error:
        evaluate(Threshold(), [one, other], ("background", "a", "b"), progress=False)
    assert str(error.value) == (
        "distances cannot be averaged over cases with and without known spacing.\n"
        "  Seen: p1_ED has a spacing in mm, q has none\n"
        "  Try:  prepare all cases from NIfTI files, or evaluate with protocol=transunet"
    )
