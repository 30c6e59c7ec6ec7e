"""Prediction and scoring of whole cases, and comparisons of two evaluations."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from support import twins

from lomix_search.data.case import Case
from lomix_search.data.readers.nifti import read_nifti_pair
from lomix_search.errors import DataError, RunError
from lomix_search.evaluation import measures
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions, Prediction, predict_case
from lomix_search.evaluation.paired_test import paired_test
from lomix_search.evaluation.score_case import score_case
from lomix_search.evaluation.score_table import ClassScores, Evaluation, read_evaluation

SPACING = (5.0, 0.8, 0.7)


class Threshold(torch.nn.Module):
    """Knows the answer: class k where the first channel lies between k and k+1 thirds."""

    def __init__(self, classes: int = 3, one_channel: bool = False, many: bool = False) -> None:
        super().__init__()
        self.classes, self.one_channel, self.many = classes, one_channel, many
        self.scale = torch.nn.Parameter(torch.tensor(200.0))
        self.seen: list[tuple[int, ...]] = []
        self.given: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> Any:
        self.seen.append(tuple(x.shape))
        self.given.append(x)
        if self.one_channel:
            return self.scale * (x[:, :1] - 0.5)
        centres = (torch.arange(self.classes, device=x.device) + 0.5) / self.classes
        logits = -self.scale * (x[:, :1] - centres.reshape(-1, *[1] * (x.ndim - 2))) ** 2
        return [logits * 0, logits] if self.many else logits


def picture_case(classes: int = 3, size: tuple[int, int] = (32, 40), slices: int = 5) -> Case:
    rng = np.random.default_rng(0)
    label = twins.organs(rng, (slices, *size), classes - 1)
    image = ((label + 0.5) / classes)[:, None].astype(np.float32)
    return Case("p1_ED", image, label, SPACING, {}, "p1")


@pytest.mark.parametrize("many", [False, True])
def test_prediction_at_native_size(many: bool) -> None:
    case, network = picture_case(), Threshold(many=many)
    network.train()
    found = predict_case(network, case, InferenceOptions(batch_size=2), foreground=True)
    np.testing.assert_array_equal(found.label, case.label)
    assert found.foreground is not None and ((found.foreground > 0.5) == (case.label > 0)).all()
    assert network.training and network.seen == [(2, 1, 32, 40), (2, 1, 32, 40), (1, 1, 32, 40)]


@pytest.mark.parametrize("resize", ["nearest", "linear"])
def test_prediction_at_another_size(resize: Any) -> None:
    case, network = picture_case(size=(64, 96)), Threshold()
    found = predict_case(network, case, InferenceOptions(size=32, resize=resize))
    assert found.label.shape == case.label.shape and network.seen[0][-2:] == (32, 32)
    assert np.mean(found.label != case.label) < 0.08
    if resize == "nearest":  # by another library: centres of pixels there and back
        small = np.stack(
            [np.asarray(Image.fromarray(p[0]).resize((32, 32), Image.Resampling.BICUBIC)) for p in case.image]
        )
        np.testing.assert_allclose(network.given[0][:, 0], small, atol=1e-5)
        with torch.no_grad():
            low = network(network.given[0]).softmax(1).argmax(1).numpy().astype(np.uint8)
        back = [np.asarray(Image.fromarray(p).resize((96, 64), Image.Resampling.NEAREST)) for p in low]
        np.testing.assert_array_equal(found.label, np.stack(back))


def test_binary_by_one_channel() -> None:
    case = picture_case(classes=2)
    found = predict_case(Threshold(one_channel=True), case, InferenceOptions())
    np.testing.assert_array_equal(found.label, case.label)


@pytest.mark.parametrize(("window", "shape"), [((16, 16), (16, 16)), ((4, 16, 16), (4, 16, 16))])
def test_sliding_windows(window: tuple[int, ...], shape: tuple[int, ...]) -> None:
    case, network = picture_case(), Threshold()
    found = predict_case(network, case, InferenceOptions(window=window, batch_size=3))
    np.testing.assert_array_equal(found.label, case.label)
    assert all(seen[2:] == shape and seen[0] <= 3 for seen in network.seen)


def test_flips_average_and_turn_back() -> None:
    class Leaning(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lean = torch.linspace(-3, 3, x.shape[-1])
            return super().forward(x) * 0 + torch.stack([lean, -lean, -lean]).reshape(1, 3, 1, -1)

    case = picture_case()
    with torch.no_grad():
        straight = predict_case(Leaning(), case, InferenceOptions(), foreground=True).foreground
        turned = predict_case(Leaning(), case, InferenceOptions(flips=True), foreground=True).foreground
    assert straight is not None and turned is not None
    np.testing.assert_allclose(turned, (straight + straight[..., ::-1]) / 2, atol=1e-6)


def test_a_network_that_cannot_be_scored() -> None:
    class Broken(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x) * float("nan")

    with pytest.raises(RunError) as error:
        predict_case(Broken(), picture_case(), InferenceOptions())
    assert str(error.value).startswith("the network returned NaN or infinite logits.")

    class Dict(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return {"features": x, "out": super().forward(x), "number": 3}

    np.testing.assert_array_equal(predict_case(Dict(), picture_case(), InferenceOptions()).label, picture_case().label)

    class Nothing(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return {"out": super().forward(x).mean((2, 3))}

    with pytest.raises(RunError) as error:
        predict_case(Nothing(), picture_case(), InferenceOptions())
    assert str(error.value) == (
        "what Nothing returns cannot be read as logits (B, C, *spatial): Nothing returns no map of logits "
        "(batch × classes × size); only networks that do have stages to mix.\n"
        "  Seen: output float32 5 × 3\n"
        "  Try:  return the logits alone from forward(), without a softmax or sigmoid"
    )


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


# -- comparisons -------------------------------------------------------------------------------------------------------


def table(shift: float, cases: int = 12, seed: int = 0) -> Evaluation:
    rng = np.random.default_rng(seed)
    rows = [
        ClassScores(
            f"p{i // 2}_{i % 2}", f"p{i // 2}", c, {"dice": rng.uniform(0.5, 0.9) + shift, "hd95": float("nan")}
        )
        for i in range(cases)
        for c in ("a", "b")
    ]
    return Evaluation("strict", "mm", tuple(rows))


def test_intervals_are_drawn_by_patient() -> None:
    """Doubling every case of a patient adds no evidence."""
    once = table(0)
    doubled = Evaluation(
        "strict", "mm", (*once.rows, *(ClassScores(r.case + "x", r.patient, r.label, r.scores) for r in once.rows))
    )
    assert once.interval("dice") == pytest.approx(doubled.interval("dice"))
    low, high = once.interval("dice")
    assert low < once.mean("dice") < high
    assert (
        np.isnan(once.interval("hd95")).all()
        and np.isnan(once.mean("hd95"))
        and once.per_class("dice").keys() == {"a", "b"}
    )


def test_compare_is_paired_by_patient() -> None:
    found = paired_test(table(0), table(0.05), names=("plain", "mixture"))
    mean = found.rows[0]
    assert mean.patients == 6 and mean.difference == pytest.approx(0.05)
    assert (mean.low, mean.high) == pytest.approx((0.05, 0.05)) and mean.p == pytest.approx(2 / 2**6)
    assert [row.label for row in found.rows] == ["mean", "a", "b"] and "| mixture |" in found.to_markdown()
    same = paired_test(table(0), table(0)).rows[0]
    assert same.p == 1 and same.difference == 0


def test_compare_refuses_what_cannot_be_paired() -> None:
    with pytest.raises(DataError) as error:
        paired_test(table(0), table(0, cases=10))
    assert str(error.value) == (
        "the two evaluations have different cases and cannot be paired.\n"
        "  Seen: only in A: p5_0, p5_1\n        only in B: –"
    )
    with pytest.raises(DataError, match=r'no measure "dic" in protocol strict\. Nearest: "dice"'):
        paired_test(table(0), table(0), "dic")


def test_scores_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds no scores"):
        read_evaluation(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_evaluation(tmp_path / "nothing.csv")


@pytest.mark.parametrize("protocol", ["strict", "transunet", "polyp", "isic2018"])
def test_ignored_pixels_count_in_no_measure(protocol: str) -> None:
    """Scores of a picture whose lower part is ignored, whatever is predicted there, are those of the upper part."""
    rng = np.random.default_rng(3)
    truth = twins.organs(rng, (1, 30, 40), 1)
    truth[:, 26:] = 0
    score = (0.2 + 0.6 * np.roll(truth, 2, 2) + rng.uniform(0, 0.15, truth.shape)).astype(np.float32)
    label = np.concatenate([truth, np.full((1, 10, 40), 255, np.uint8)], 1)
    below = np.concatenate([score, rng.uniform(0, 1, (1, 10, 40)).astype(np.float32)], 1)

    def rows(case: Case, soft: np.ndarray, ignored: int | None) -> dict[str, float]:
        prediction = Prediction((soft > 0.5).astype(np.uint8), soft)
        (row,) = score_case(case, prediction, ("background", "it"), protocol, ignored)
        return dict(row.scores)

    cut = rows(Case("a", score[:, None], truth), score, None)
    assert rows(Case("a", below[:, None], label), below, 255) == pytest.approx(cut, abs=1e-9)
    assert rows(Case("a", below[:, None], np.where(label == 255, 0, label)), below, None) != pytest.approx(
        cut, abs=1e-3
    )
    signed = np.where(label == 255, -1, label.astype(np.int64))
    assert rows(Case("a", below[:, None], signed), below, -1) == pytest.approx(cut, abs=1e-9)
    nothing = rows(Case("a", below[:, None], np.full_like(label, 255)), below, 255)
    assert nothing.keys() == cut.keys() and np.isnan(list(nothing.values())).all()
