"""Every option of the loss computes what MONAI, torch, nnU-Net, segmentation_models_pytorch or PraNet compute.

MONAI is asked; of the others, which are not installed, the formulas stand here as their documentation gives them.
"""

from typing import Any

import pytest
import torch
from support.loss_terms import STRUCTURE
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.plan import LossPlan, plan_from_text, plan_to_text
from lomix_search.mixture.loss.reference import reference_losses
from lomix_search.mixture.loss.single_map import FINEST_ALONE
from lomix_search.mixture.loss.terms import LossTerms


@pytest.fixture(scope="module")
def monai() -> Any:
    return pytest.importorskip("monai.losses")


def given(channels: int = 3, regions: bool = False) -> tuple[Tensor, Tensor]:
    """Logits and labels of two images; with ``regions``, or of one channel, 0 and 1 of the shape of the logits."""
    torch.manual_seed(0)
    z = torch.randn(2, channels, 6, 7, dtype=torch.float64)
    own = regions or channels == 1
    return z, torch.randint(2, z.shape) if own else torch.randint(channels, (2, 6, 7))


def of(z: Tensor, y: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Return our cross-entropy and region loss of one map."""
    own = y.shape == z.shape
    plan = LossPlan(FINEST_ALONE, 1, z.shape[1], multilabel=own, terms=LossTerms(**options))
    ce, region = reference_losses([z], y, plan, {})
    return ce[0], region[0]


def same(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=tolerance, atol=0)


SMOOTH = {"smooth_nr": 1e-5, "smooth_dr": 1e-5}
CLASSES = {"softmax": True, "to_onehot_y": True}


def one_hot(y: Tensor) -> Tensor:
    """In float64: where MONAI does it, part of its loss is in float32."""
    return F.one_hot(y, 3).movedim(-1, 1).double()


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_dice_is_monais(monai: Any, squared: bool, per_image: bool, background: bool) -> None:
    z, y = given()
    options = {"squared_pred": squared, "batch": not per_image, "include_background": background}
    loss = monai.DiceLoss(softmax=True, **SMOOTH, **options)
    same(of(z, y, squared=squared, per_image=per_image, background=background)[1], loss(z, one_hot(y)))


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_dice_of_regions_is_monais(monai: Any, channels: int, per_image: bool) -> None:
    z, y = given(channels, regions=True)
    loss = monai.DiceLoss(sigmoid=True, **SMOOTH, batch=not per_image)
    same(of(z, y, squared=False, per_image=per_image)[1], loss(z, y))


@pytest.mark.parametrize("per_image", [True, False])
def test_iou_is_monais_jaccard(monai: Any, per_image: bool) -> None:
    """MONAI doubles both sides of the fraction, and its smoothing stays as it is."""
    z, y = given()
    loss = monai.DiceLoss(**CLASSES, jaccard=True, smooth_nr=2e-3, smooth_dr=2e-3, batch=not per_image)
    same(of(z, y, region="iou", squared=False, per_image=per_image, smooth=1e-3)[1], loss(z, y[:, None]))


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("regions", [True, False])
def test_tversky_is_monais(monai: Any, regions: bool, per_image: bool) -> None:
    z, y = given(regions=regions)
    kind = {"sigmoid": True} if regions else CLASSES
    loss = monai.TverskyLoss(**kind, **SMOOTH, alpha=0.3, beta=0.7, batch=not per_image)
    found = of(z, y, region="tversky", tversky_alpha=0.3, tversky_beta=0.7, per_image=per_image)[1]
    same(found, loss(z, y if regions else y[:, None]))


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("per_image", [True, False])
def test_generalized_dice_is_monais(monai: Any, per_image: bool, missing: bool) -> None:
    """To the float32 in which MONAI computes its weights; a class may be missing."""
    z, y = given()
    y = y.clamp(max=1) if missing else y
    loss = monai.GeneralizedDiceLoss(**CLASSES, **SMOOTH, batch=not per_image)
    same(of(z, y, region="generalized_dice", per_image=per_image)[1], loss(z, y[:, None]), 1e-6)


def test_weights_and_smoothed_labels_are_monais(monai: Any) -> None:
    z, y = given()
    weights = (0.2, 1.0, 3.0)
    for options, more in (
        ({"class_weights": weights}, {"weight": z.new_tensor(weights)}),
        ({"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
        ({"class_weights": weights, "label_smoothing": 0.2}, {"weight": z.new_tensor(weights), "label_smoothing": 0.2}),
    ):
        same(of(z, y, **options)[0], monai.DiceCELoss(**CLASSES, lambda_dice=0, **more)(z, y[:, None]))


def test_weights_of_regions_are_torchs_and_of_one_channel_monais(monai: Any) -> None:
    z, y = given(3, regions=True)
    weights = z.new_tensor([0.5, 2.0, 3.0])
    expected = F.binary_cross_entropy_with_logits(z, y.double(), pos_weight=weights[:, None, None])
    same(of(z, y, class_weights=(0.5, 2.0, 3.0))[0], expected)
    z, y = given(1)
    loss = monai.DiceCELoss(sigmoid=True, lambda_dice=0, weight=z.new_tensor([2.0]))
    same(of(z, y, class_weights=(2.0,))[0], loss(z, y))


def test_smoothed_regions_are_softened_as_smp_does() -> None:
    z, y = given(3, regions=True)
    expected = F.binary_cross_entropy_with_logits(z, y.double() * 0.95 + (1 - y.double()) * 0.05)
    same(of(z, y, label_smoothing=0.1)[0], expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_monais(monai: Any, gamma: float) -> None:
    """To the float32 in which it computes. Of classes it divides by their number too; we do not: γ = 0 is plain."""
    z, y = given(3, regions=True)
    same(of(z, y, focal_gamma=gamma)[0], monai.FocalLoss(gamma=gamma)(z, y), 1e-6)
    z, y = given()
    loss = monai.FocalLoss(gamma=gamma, use_softmax=True, to_onehot_y=True)
    same(of(z, y, focal_gamma=gamma)[0], 3 * loss(z, y[:, None]), 1e-6)


@pytest.mark.parametrize("percent", [10, 29, 100])
def test_top_k_is_nnunets(percent: int) -> None:
    z, y = given()
    losses = F.cross_entropy(z, y, reduction="none").view(-1)
    expected = losses.topk(int(losses.numel() * percent / 100), sorted=False).values.mean()
    same(of(z, y, top_k=percent / 100)[0], expected)


def test_top_k_counts_pixels_that_are_not_ignored_and_ties_in_equal_parts() -> None:
    z = torch.zeros(1, 2, 10, dtype=torch.float64, requires_grad=True)  # ten losses of log 2
    y = torch.zeros(1, 10, dtype=torch.int64)
    y[0, 8:] = 255
    plan = LossPlan(FINEST_ALONE, 1, 2, 255, terms=LossTerms(top_k=0.25))
    ce = reference_losses([z], y, plan, {})[0]
    same(ce[0].detach(), torch.tensor(2.0).double().log())
    grad = torch.autograd.grad(ce[0], z)[0]
    same(grad[0, 0, :8], torch.full((8,), -0.5 / 8))  # 2 of 8 pixels count: each with a quarter
    assert not grad[0, :, 8:].any()


def test_dice_and_tversky_are_smps_where_no_class_is_missing() -> None:
    """SMP: sums over the batch, (2I + s) / (P + Y + s), (I + s) / (I + α·FP + β·FN + s)."""
    z, y = given()
    p, t = z.softmax(1), F.one_hot(y, 3).movedim(-1, 1).double()
    i, card = (p * t).sum((0, 2, 3)), (p + t).sum((0, 2, 3))
    same(of(z, y, squared=False, smooth=0.5)[1], (1 - (2 * i + 0.5) / (card + 0.5)).mean())
    fp, fn = (p * (1 - t)).sum((0, 2, 3)), ((1 - p) * t).sum((0, 2, 3))
    expected = (1 - (i + 0.5) / (i + 0.2 * fp + 0.8 * fn + 0.5)).mean()
    same(of(z, y, region="tversky", tversky_alpha=0.2, tversky_beta=0.8, smooth=0.5)[1], expected)


@pytest.mark.parametrize("size", [(40, 33), (6, 7)])
def test_structure_is_pranets(size: tuple[int, int]) -> None:
    """weit = 1 + 5·|avg_pool31(mask) − mask|; wbce and wiou of each image, added up, the mean over images."""
    z, y = torch.randn(2, 1, *size, dtype=torch.float64), torch.randint(2, (2, 1, *size))
    mask = y.double()
    weit = 1 + 5 * torch.abs(F.avg_pool2d(mask, 31, 1, 15) - mask)
    bce = F.binary_cross_entropy_with_logits(z, mask, reduction="none")
    wbce = (weit * bce).sum((2, 3)) / weit.sum((2, 3))
    p = z.sigmoid()
    inter, union = (p * mask * weit).sum((2, 3)), ((p + mask) * weit).sum((2, 3))
    wiou = 1 - (inter + 1) / (union - inter + 1)
    same(sum(of(z, y, **STRUCTURE)), (wbce + wiou).mean())


def test_plans_with_options_survive_the_way_through_text() -> None:
    for terms in (LossTerms(), LossTerms(class_weights=(0.1, 2), top_k=1 / 3, region="iou", per_image=True)):
        plan = LossPlan(FINEST_ALONE, 1, 2, -1, True, False, terms)
        assert plan_from_text(plan_to_text(plan)) == plan
        assert hash(plan_from_text(plan_to_text(plan))) == hash(plan)


def test_weights_may_be_a_tensor_and_the_loss_prints_its_options() -> None:
    loss = MixtureLoss("lomix", 3, 3, class_weights=torch.tensor([0.5, 1, 2]), per_image=True)
    assert loss.plan.terms == LossTerms(class_weights=(0.5, 1.0, 2.0), per_image=True)
    assert "dice=0.7, class_weights=(0.5, 1.0, 2.0), per_image=True, engine" in repr(loss)
    assert MixtureLoss("lomix", 3, 3, **loss.settings).plan == loss.plan


# -- bad input ---------------------------------------------------------------------------------------------------------


def refused(channels: int = 3, multilabel: bool = False, **options: Any) -> str:
    with pytest.raises(LossError) as caught:
        MixtureLoss("lomix", 3, channels, multilabel=multilabel, **options)
    return str(caught.value)


@pytest.mark.parametrize(("given", "message", "own"), [
    ({"top_k": 0}, "top_k is 0; a share above 0 and at most 1 is needed, 0.1 for a tenth.", "top_k=1.0"),
    ({"top_k": 10}, "top_k is 10; a share above 0 and at most 1 is needed, 0.1 for a tenth.", "top_k=1.0"),
    ({"class_weights": [-1, 1]}, "class_weights is (-1, 1); finite numbers ≥ 0 are needed.", "class_weights=None"),
    ({"class_weights": [0, 0, 0]}, "class_weights are all 0; nothing would be trained.", "class_weights=None"),
    ({"class_weights": "even"}, "class_weights is 'even'; finite numbers ≥ 0 are needed.", "class_weights=None"),
    ({"focal_gamma": float("nan")}, "focal_gamma is nan; a finite number ≥ 0 is needed.", "focal_gamma=0.0"),
    ({"label_smoothing": 1}, "label_smoothing is 1; a number from 0 to less than 1 is needed.", "label_smoothing=0.0"),
    ({"smooth": 0}, "smooth is 0; a finite number > 0 is needed.", "smooth=1e-05"),
    ({"per_image": "yes"}, "per_image is 'yes'; True or False is needed.", "per_image=False"),
])  # fmt: skip
def test_values_out_of_range_are_refused(given: dict[str, Any], message: str, own: str) -> None:
    assert refused(**given) == f"{message}\n  Try:  MixtureLoss(…, {own})  # as in the paper"


def test_all_faults_are_named_at_once() -> None:
    assert refused(top_k=2, region="dise", smooth=-1) == (
        "3 options of the loss do not fit.\n"
        "  Seen: top_k is 2; a share above 0 and at most 1 is needed, 0.1 for a tenth\n"
        "        smooth is -1; a finite number > 0 is needed\n"
        "        region 'dise': unknown. Nearest: \"dice\". Known: dice, generalized_dice, iou, tversky\n"
        "  Try:  MixtureLoss(…, top_k=1.0, region='dice', smooth=1e-05)  # as in the paper"
    )
    assert refused(1, class_weights=[1, 2], background=False) == (
        "2 options of the loss do not fit.\n"
        "  Seen: class_weights has 2 weights; 1 are needed, one a channel\n"
        "        background=False: with a sigmoid there is no class of background to leave out\n"
        "  Try:  MixtureLoss(…, class_weights=None, background=True)  # as in the paper"
    )


def test_options_that_do_not_fit_classes_or_one_another_are_refused() -> None:
    assert refused(class_weights=[1, 2]) == (
        "class_weights has 2 weights; 3 are needed, one a class, background first.\n"
        "  Try:  MixtureLoss(…, class_weights=None)  # as in the paper"
    )
    assert refused(boundary_weight=5.0) == (
        "boundary_weight=5 is of binary and multi-label maps; these have 3 classes of which one is true.\n"
        "  Try:  MixtureLoss(…, boundary_weight=0.0)  # as in the paper"
    )
    assert "no class of background" in refused(multilabel=True, background=False)
    assert "exclude each other" in refused(focal_gamma=2.0, label_smoothing=0.1)
    assert "MixtureLoss(…, focal_gamma=0.0, label_smoothing=0.0)" in refused(focal_gamma=2.0, label_smoothing=0.1)
    assert "exclude each other" in refused(1, boundary_weight=5.0, top_k=0.1)
    assert "no error would count" in refused(region="tversky", tversky_alpha=0, tversky_beta=0)


def test_unknown_options_and_those_beside_an_own_loss_are_refused() -> None:
    assert refused(focal_gama=2.0).startswith('option "focal_gama": unknown. Nearest: "focal_gamma". Known: ')
    assert refused(loss=F.cross_entropy, top_k=0.5, per_image=True) == (
        "top_k, per_image: options of the shipped losses, whose place loss=… takes.\n"
        "  Try:  leave loss=… out, or top_k and per_image"
    )
