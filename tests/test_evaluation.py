"""Measures against independent implementations, protocols at their edges, prediction of whole cases, comparisons."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import twins
from monai.metrics import HausdorffDistanceMetric, SurfaceDistanceMetric
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lomix_search.data.volumes import Case, read_nifti_pair
from lomix_search.errors import DataError, RunError
from lomix_search.evaluation import measures
from lomix_search.evaluation.compare import compare
from lomix_search.evaluation.evaluate import Evaluation, Row, evaluate, read_evaluation
from lomix_search.evaluation.infer import How, predict
from lomix_search.evaluation.protocols import PROTOCOLS, find_protocol

SPACING = (5.0, 0.8, 0.7)


def blobs(seed: int, shape: tuple[int, ...] = (12, 24, 26)) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two smooth random masks that overlap."""
    rng = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(rng.random(shape), 2) > 0.5
    noise = ndimage.gaussian_filter(rng.random(shape), 1.5)
    return truth ^ (noise > 0.58), truth


def channels(*masks: NDArray[np.bool_]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in masks]


# -- measures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
def test_distances_agree_with_monai(seed: int, spacing: tuple[float, ...]) -> None:
    prediction, truth = blobs(seed)
    one, other = channels(prediction, truth)
    theirs = HausdorffDistanceMetric(include_background=False, percentile=95)(one, other, spacing=spacing).item()
    assert measures.hd95(prediction, truth, spacing) == pytest.approx(theirs, rel=1e-5)
    directed = [
        SurfaceDistanceMetric(include_background=False)(a, b, spacing=spacing).item()
        for a, b in ((one, other), (other, one))
    ]
    to, back = measures.surface_distances(prediction, truth, spacing)
    assert [to.mean(), back.mean()] == pytest.approx(directed, rel=1e-5)
    pooled = (directed[0] * len(to) + directed[1] * len(back)) / (len(to) + len(back))
    assert measures.asd(prediction, truth, spacing) == pytest.approx(pooled, rel=1e-5)
    assert measures.hd95_pooled(prediction, truth, spacing) <= measures.hd95(prediction, truth, spacing) + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_near_surface_distance(seed: int) -> None:
    """DeepMind's library weighs surface elements by area and puts them between voxels: close, never equal."""
    library = pytest.importorskip("surface_distance")
    prediction, truth = blobs(seed)
    theirs = library.compute_surface_distances(truth, prediction, SPACING)
    voxel = float(np.linalg.norm(SPACING))
    hd = library.compute_robust_hausdorff(theirs, 95)
    assert abs(measures.hd95(prediction, truth, SPACING) - hd) < voxel
    average = np.mean(library.compute_average_surface_distance(theirs))
    assert abs(measures.asd(prediction, truth, SPACING) - average) < voxel / 2
    assert measures.dice(prediction, truth) == pytest.approx(library.compute_dice_coefficient(truth, prediction))


def test_distances_by_hand() -> None:
    """Two boxes of one voxel, three rows apart; and a point against a line of five."""
    one, other = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9), bool)
    one[0, 1, 4], other[0, 4, 4] = True, True
    for of in (measures.hd95, measures.hd95_pooled, measures.asd):
        assert of(one, other, (5, 2, 1)) == 6
    line = np.zeros((1, 9, 9), bool)
    line[0, 1, 4:9] = True
    assert measures.asd(one, line, (1, 1, 1)) == pytest.approx((0 + 0 + 1 + 2 + 3 + 4) / 6)
    assert measures.hd95(one, line, (1, 1, 1)) == pytest.approx(np.percentile([0, 1, 2, 3, 4], 95))
    assert measures.hd95_pooled(one, line, (1, 1, 1)) == pytest.approx(np.percentile([0, 0, 1, 2, 3, 4], 95))


def test_distances_at_the_edge_of_the_volume() -> None:
    """Cropping to what is there changes nothing, also where a mask touches the border."""
    prediction, truth = blobs(0)
    prediction[:4] = True
    padded = [np.pad(mask, 5) for mask in (prediction, truth)]
    plain = measures.surface_distances(prediction, truth, SPACING)
    wide = measures.surface_distances(*padded, SPACING)
    for one, other in zip(plain, wide, strict=True):
        np.testing.assert_allclose(np.sort(one), np.sort(other))


def scores(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(rng.random((40, 50)), 4) > 0.5
    soft = np.clip(0.6 * truth + 0.4 * ndimage.gaussian_filter(rng.random((40, 50)), 1), 0, 1)
    return (soft - soft.min()) / (soft.max() - soft.min()), truth


def test_saliency_measures_golden() -> None:
    """What pysodmetrics 1.6.2, an independent implementation, gives for this map."""
    soft, truth = scores(0)
    soft = (soft * 255).astype(np.uint8) / 255
    assert measures.s_measure(soft, truth) == pytest.approx(0.9651366169536086, abs=1e-12)
    assert measures.mae(soft, truth) == pytest.approx(0.10829019607843138, abs=1e-12)
    assert measures.e_measure_curve(soft, truth).mean() == pytest.approx(0.8362707331745081, abs=1e-12)


def test_e_measure_curve_is_the_measure_at_each_threshold() -> None:
    soft, truth = scores(1)
    curve = measures.e_measure_curve(soft, truth)
    levels = (soft * 255).astype(int)
    for threshold in (0, 1, 90, 128, 200, 255):
        assert curve[threshold] == pytest.approx(measures.e_measure(levels >= threshold, truth))
    for constant in (np.zeros_like(truth), np.ones_like(truth)):
        assert measures.e_measure_curve(soft, constant)[100] == pytest.approx(
            measures.e_measure(levels >= 100, constant)
        )


def test_threshold_curves() -> None:
    soft, truth = scores(2)
    dice, iou = measures.threshold_curve(soft, truth)
    for threshold in (0, 17, 128, 250):
        cut = (soft * 255).astype(int) >= threshold
        assert dice[threshold] == pytest.approx(measures.dice(cut, truth))
        assert iou[threshold] == pytest.approx(measures.iou(cut, truth))


def test_s_measure_of_constants() -> None:
    empty, full = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    soft = np.full((8, 8), 0.25)
    assert measures.s_measure(soft, empty) == 0.75 and measures.s_measure(soft, full) == 0.25
    half = np.zeros((8, 8), bool)
    half[:, 4:] = True
    assert measures.s_measure(half.astype(float), half) == pytest.approx(1, abs=1e-6)


# -- protocols ---------------------------------------------------------------------------------------------------------


def masks(predicted: bool, true: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    prediction, truth = np.zeros((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    prediction[0, 0, 0], truth[0, 0, 0] = predicted, true
    return prediction, truth


WORST = float(np.linalg.norm([15, 3.2, 3.5]))


@pytest.mark.parametrize(
    ("protocol", "predicted", "true", "dice", "hd95"),
    [
        ("strict", True, True, 1, 0),
        ("strict", False, False, 1, 0),
        ("strict", False, True, 0, WORST),
        ("strict", True, False, 0, WORST),
        ("transunet", True, True, 1, 0),
        ("transunet", False, False, 0, 0),
        ("transunet", False, True, 0, 0),
        ("transunet", True, False, 1, 0),
    ],
)
def test_empty_masks(protocol: str, predicted: bool, true: bool, dice: float, hd95: float) -> None:
    found = find_protocol(protocol).score(*masks(predicted, true), SPACING, None)
    assert found["dice"] == dice and found["hd95"] == pytest.approx(hd95)
    assert tuple(found) == PROTOCOLS[protocol].measures


def test_strict_is_in_millimetres_and_transunet_in_voxels() -> None:
    prediction, truth = masks(True, False)
    truth[2, 0, 0] = True
    assert find_protocol("strict").score(prediction, truth, SPACING, None)["hd95"] == 10
    assert find_protocol("transunet").score(prediction, truth, SPACING, None)["hd95"] == 2


def test_isic_threshold() -> None:
    truth = np.zeros((1, 10, 10), bool)
    truth[0, :, :5] = True
    near, far = truth.copy(), truth.copy()
    near[0, :3, 0], far[0, :, 0] = False, False
    far[0, :, 5] = True
    score = find_protocol("isic2018").score
    assert score(near, truth, (), None)["jaccard_thresholded"] == pytest.approx(47 / 50)
    assert score(far, truth, (), None)["iou"] == pytest.approx(40 / 60)
    assert score(far, truth, (), None)["jaccard_thresholded"] == pytest.approx(40 / 60)
    far[0, :3, 1] = False
    assert score(far, truth, (), None)["iou"] == pytest.approx(37 / 60)
    assert score(far, truth, (), None)["jaccard_thresholded"] == 0
    assert score(near, truth, (), None)["sensitivity"] == pytest.approx(0.94)
    assert score(near, truth, (), None)["specificity"] == 1


def test_polyp_measures_of_a_perfect_picture() -> None:
    truth = scores(0)[1][None]
    found = find_protocol("polyp").score(truth, truth, (), truth[0][None].astype(np.float32))
    assert found["dice"] == found["iou"] == 1 and found["mae"] == pytest.approx(0, abs=1e-6)
    assert found["s_measure"] == pytest.approx(1, abs=1e-4) and found["e_measure_max"] == pytest.approx(1, abs=1e-3)
    assert found["dice_curve"] == pytest.approx(1, abs=5e-3)


def test_unknown_protocol() -> None:
    with pytest.raises(DataError) as error:
        find_protocol("transunnet")
    assert str(error.value) == (
        'no protocol "transunnet". Nearest: "transunet". Known: isic2018, polyp, strict, transunet.'
    )


# -- whole cases -------------------------------------------------------------------------------------------------------


class Threshold(torch.nn.Module):
    """Knows the answer: class k where the first channel lies between k and k+1 thirds."""

    def __init__(self, classes: int = 3, one_channel: bool = False, many: bool = False) -> None:
        super().__init__()
        self.classes, self.one_channel, self.many = classes, one_channel, many
        self.scale = torch.nn.Parameter(torch.tensor(200.0))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> Any:
        self.seen.append(tuple(x.shape))
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
    found = predict(network, case, How(batch_size=2), foreground=True)
    np.testing.assert_array_equal(found.label, case.label)
    assert found.foreground is not None and ((found.foreground > 0.5) == (case.label > 0)).all()
    assert network.training and network.seen == [(2, 1, 32, 40), (2, 1, 32, 40), (1, 1, 32, 40)]


@pytest.mark.parametrize("resize", ["nearest", "linear"])
def test_prediction_at_another_size(resize: Any) -> None:
    case, network = picture_case(size=(64, 80)), Threshold()
    found = predict(network, case, How(size=32, resize=resize))
    assert found.label.shape == case.label.shape and network.seen[0][-2:] == (32, 32)
    assert np.mean(found.label != case.label) < 0.08
    if resize == "nearest":  # exactly as the community does it: scipy's zoom there and back
        small = np.stack([ndimage.zoom(p[0], (32 / 64, 32 / 80), order=3) for p in case.image])
        with torch.no_grad():
            low = network(torch.from_numpy(small[:, None])).argmax(1).numpy().astype(np.uint8)
        np.testing.assert_array_equal(
            found.label, np.stack([ndimage.zoom(p, (64 / 32, 80 / 32), order=0) for p in low])
        )


def test_binary_by_one_channel() -> None:
    case = picture_case(classes=2)
    found = predict(Threshold(one_channel=True), case, How())
    np.testing.assert_array_equal(found.label, case.label)


@pytest.mark.parametrize(("window", "shape"), [((16, 16), (16, 16)), ((4, 16, 16), (4, 16, 16))])
def test_sliding_windows(window: tuple[int, ...], shape: tuple[int, ...]) -> None:
    case, network = picture_case(), Threshold()
    found = predict(network, case, How(window=window, batch_size=3))
    np.testing.assert_array_equal(found.label, case.label)
    assert all(seen[2:] == shape and seen[0] <= 3 for seen in network.seen)


def test_flips_average_and_turn_back() -> None:
    class Leaning(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lean = torch.linspace(-3, 3, x.shape[-1])
            return super().forward(x) * 0 + torch.stack([lean, -lean, -lean]).reshape(1, 3, 1, -1)

    case = picture_case()
    with torch.no_grad():
        straight = predict(Leaning(), case, How(), foreground=True).foreground
        turned = predict(Leaning(), case, How(flips=True), foreground=True).foreground
    assert straight is not None and turned is not None
    np.testing.assert_allclose(turned, (straight + straight[..., ::-1]) / 2, atol=1e-6)


def test_a_network_that_cannot_be_scored() -> None:
    class Broken(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x) * float("nan")

    with pytest.raises(RunError) as error:
        predict(Broken(), picture_case(), How())
    assert str(error.value).startswith("the network returned NaN or infinite logits.")

    class Dict(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            return {"out": super().forward(x)}

    with pytest.raises(RunError, match="the network returned dict; evaluation needs logits"):
        predict(Dict(), picture_case(), How())


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
        Row(f"p{i // 2}_{i % 2}", f"p{i // 2}", c, {"dice": rng.uniform(0.5, 0.9) + shift, "hd95": float("nan")})
        for i in range(cases)
        for c in ("a", "b")
    ]
    return Evaluation("strict", "mm", tuple(rows))


def test_intervals_are_drawn_by_patient() -> None:
    """Doubling every case of a patient adds no evidence."""
    once = table(0)
    doubled = Evaluation(
        "strict", "mm", (*once.rows, *(Row(r.case + "x", r.patient, r.label, r.scores) for r in once.rows))
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
    found = compare(table(0), table(0.05), names=("plain", "mixture"))
    mean = found.rows[0]
    assert mean.patients == 6 and mean.difference == pytest.approx(0.05)
    assert (mean.low, mean.high) == pytest.approx((0.05, 0.05)) and mean.p == pytest.approx(2 / 2**6)
    assert [row.label for row in found.rows] == ["mean", "a", "b"] and "| mixture |" in found.to_markdown()
    same = compare(table(0), table(0)).rows[0]
    assert same.p == 1 and same.difference == 0


def test_compare_refuses_what_cannot_be_paired() -> None:
    with pytest.raises(DataError) as error:
        compare(table(0), table(0, cases=10))
    assert str(error.value) == (
        "the two evaluations have different cases and cannot be paired.\n"
        "  Seen: only in A: p5_0, p5_1\n        only in B: –"
    )
    with pytest.raises(DataError, match=r'no measure "dic" in protocol strict\. Nearest: "dice"'):
        compare(table(0), table(0), "dic")


def test_scores_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds no scores"):
        read_evaluation(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_evaluation(tmp_path / "nothing.csv")
