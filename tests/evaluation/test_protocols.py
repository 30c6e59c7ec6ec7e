"""Protocols: what an empty mask counts, units, thresholds, ignored pixels; each passes the check that ships."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from support import twins

from lomix_search.data.case import Case
from lomix_search.errors import DataError
from lomix_search.evaluation.inference import Prediction
from lomix_search.evaluation.protocols import PROTOCOLS, find_protocol
from lomix_search.evaluation.protocols.protocol import Protocol
from lomix_search.evaluation.score_case import score_case
from lomix_search.evaluation.testing import ProtocolFault, check_protocol

SPACING = (5.0, 0.8, 0.7)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_passes_the_check(name: str) -> None:
    check_protocol(PROTOCOLS[name])


def strict(prediction, truth, *rest):
    return PROTOCOLS["strict"].score(prediction, truth, *rest)


def harming(prediction, truth, *rest):
    prediction[...] = False
    return strict(prediction, truth, *rest)


def soft(prediction, truth, spacing, score, kept):
    found = strict(prediction, truth, spacing, score, kept)
    return found if score is None else found | {"asd": float(score.mean())}


FAULTY = {
    "reports no measure": {"measures": ()},
    "does not report its measures": {"measures": ("dice",)},
    "changes an array that it is given": {"score": harming},
    "reports what is no finite float": {"score": lambda *given: strict(*given) | {"asd": float("inf")}},
    "only pixels that do not count change": {"score": soft},
    "takes a volume of several slices": {"plane": True},
}


@pytest.mark.parametrize("words", FAULTY)
def test_the_check_finds_what_is_wrong(words: str) -> None:
    faulty: Protocol = replace(PROTOCOLS["strict"], **FAULTY[words])
    with pytest.raises(ProtocolFault, match=words):
        check_protocol(faulty)


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
    truth = (ndimage.gaussian_filter(np.random.default_rng(0).random((40, 50)), 4) > 0.5)[None]
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
