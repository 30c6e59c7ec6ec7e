"""The loss of what a network gives in eval mode: the finest map's, by MONAI and torch."""

import pytest
import torch
from monai.losses import DiceLoss
from support.mixture_losses import taken
from support.zoo import monai_dynunet, small_unet_2d, small_unet_3d
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.single_map import single_map
from lomix_search.training.held_out import finest_loss


def by_hand(logits: Tensor, labels: Tensor, ignored: int | None = None) -> Tensor:
    """0.3·CE + 0.7·Dice: the Dice of the batch over all classes, smoothed as in the paper."""
    kept = labels != (-1 if ignored is None else ignored)
    if logits.shape[1] == 1:
        ce = F.binary_cross_entropy_with_logits(logits[:, 0][kept], labels[kept].to(logits.dtype))
        p, t = logits.sigmoid(), labels[:, None]
    else:
        ce = F.cross_entropy(logits, labels, ignore_index=-1 if ignored is None else ignored)
        p, t = logits.softmax(1), F.one_hot(labels.where(kept, 0), logits.shape[1]).movedim(-1, 1)
    p, t = p.movedim(1, -1)[kept], t.movedim(1, -1)[kept]
    dice = DiceLoss(squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)(p.T[None].double(), t.T[None].double())
    return 0.3 * ce + 0.7 * dice


@pytest.mark.slow
@pytest.mark.parametrize("build", [small_unet_2d, small_unet_3d, lambda: monai_dynunet(2, 2)])
@pytest.mark.parametrize("weighting", ["softplus", "normalized", "uniform"])
def test_in_eval_mode_it_is_the_finest_maps_loss(build: object, weighting: str) -> None:
    model, example, _ = build()  # type: ignore[operator]
    net = instrument(model, example).eval()
    loss = MixtureLoss("lomix", len(net.stages), net.num_classes, weighting)
    labels = torch.randint(0, 3, (len(example), *example.shape[2:]))
    logits = net(example)
    right = by_hand(logits, labels)
    for given in (logits, [logits], (logits,), net.logits(example)):
        for truth in (labels, labels[:, None]):
            step = taken(loss, given, truth)
            torch.testing.assert_close(step.total.double(), right.double(), atol=1e-5, rtol=1e-5)
            assert step.per_map.tolist() == [step.total.item()] and step.weights.tolist() == [1.0]
    torch.testing.assert_close(step.total, taken(finest_loss(loss), [logits] * len(net.stages), labels).per_map[0])
    step.total.backward()
    assert all(p.grad is None for p in loss.parameters())
    net.train()
    assert len(taken(loss, net(example), labels).per_map) == len(loss.maps)  # and training is what it was


@pytest.mark.parametrize("ignored", [None, 255, -1])
@pytest.mark.parametrize("classes", [1, 3])
def test_binary_and_ignored(classes: int, ignored: int | None) -> None:
    logits, labels = torch.randn(2, classes, 8, 8), torch.randint(0, max(2, classes), (2, 8, 8))
    if ignored is not None:
        labels[:, 2:4] = ignored
    step = taken(MixtureLoss("lomix", 3, classes, ignore_index=ignored), logits, labels)
    torch.testing.assert_close(step.total.double(), by_hand(logits, labels, ignored).double(), atol=1e-5, rtol=1e-5)


def test_a_loss_of_the_users_own() -> None:
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    step = taken(MixtureLoss("lomix", 3, 3, loss=F.cross_entropy), logits, labels)
    assert torch.equal(step.total, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("labels", [(2, 8, 8), (2, 1, 8, 8), (4, 8, 8), (4, 1, 8, 8), (2, 4, 8, 8), (2, 1, 4, 8, 8)])
@pytest.mark.parametrize(("stages", "classes"), [(2, 1), (2, 2), (4, 3), (4, 4), (3, 2)])
def test_stacked_maps_stay_stacked_and_one_map_one(labels: tuple[int, ...], stages: int, classes: int) -> None:
    loss, truth = MixtureLoss("deep_supervision", stages, classes), torch.zeros(labels).long()
    spatial = labels[2:] if labels[1] == 1 else labels[1:]
    one, stacked = torch.randn(labels[0], classes, *spatial), torch.randn(stages, labels[0], classes, *spatial)
    assert single_map(one, truth, loss.plan) is one and single_map(stacked, truth, loss.plan) is None
    assert (
        len(taken(loss, one, truth).per_map) == 1
        and len(taken(loss, stacked, truth).per_map) == len(loss.maps) == stages
    )
    assert torch.equal(loss(stacked, truth), loss(list(stacked), truth))


@pytest.mark.parametrize("given", [
    torch.randn(2, 5, 8, 8), torch.randn(3, 3, 8, 8), torch.randn(2, 8, 8), {"out": torch.randn(2, 3, 8, 8)},
    [torch.randn(2, 3, 8, 8), torch.randn(2, 3)], [], None,
])  # fmt: skip
def test_what_is_no_map_alone_is_refused(given: object) -> None:
    with pytest.raises(LossError):
        MixtureLoss("lomix", 2, 3)(given, torch.zeros(2, 8, 8).long())
