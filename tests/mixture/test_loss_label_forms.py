"""Labels of every form that users have give the very loss of plain class numbers, or are refused by name."""

from collections.abc import Callable

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from support.mixture_losses import ENGINE_NAMES, build, sample
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError
from lomix_search.mixture.loss.label_checks import LateCheck, check_labels, check_range
from lomix_search.mixture.loss.label_forms import NO_CLASS, shaped_labels
from lomix_search.mixture.loss.plan import LossPlan


def one_hot(labels: Tensor, classes: int = 3) -> Tensor:
    return F.one_hot(labels, classes).movedim(-1, 1)


def scales(labels: Tensor) -> list[Tensor]:
    """As nnU-Net's deep supervision has them: finest first, each with an axis for its channel."""
    return [labels[:, None].float(), labels[:, None, ::2, ::2].float(), labels[:, None, ::4, ::4].float()]


FORMS: dict[str, Callable[[Tensor], object]] = {
    "channel axis": lambda labels: labels[:, None],
    "bfloat16": lambda labels: labels.bfloat16(),
    "float with a channel axis": lambda labels: labels[:, None].double(),
    "uint16": lambda labels: labels.to(torch.uint16),
    "MONAI's MetaTensor": lambda labels: MetaTensor(labels[:, None].float()),
    "one-hot": one_hot,
    "one-hot of bool": lambda labels: one_hot(labels).bool(),
    "one-hot of float": lambda labels: one_hot(labels).float(),
    "one-hot of MONAI": lambda labels: MetaTensor(one_hot(labels).float()),
    "several scales": scales,
    "several scales, coarse first": lambda labels: tuple(reversed(scales(labels))),
    "several scales, one-hot": lambda labels: [one_hot(one) for one in (labels, labels[:, ::2, ::2])],
    "one scale in a list": lambda labels: [labels],
}


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_loss_of_class_numbers(form: str, engine: str) -> None:
    maps, labels = sample()
    loss = build(engine=engine)
    assert torch.equal(loss(maps, FORMS[form](labels)), loss(maps, labels))
    assert torch.equal(loss(maps[-1], FORMS[form](labels)), loss(maps[-1], labels))  # as in eval mode
    stacked = torch.stack([maps[-1]] * 3)
    assert torch.equal(loss(stacked, FORMS[form](labels)), loss([maps[-1]] * 3, labels))


def test_maps_of_a_subclass_give_plain_tensors() -> None:
    maps, labels = sample()
    loss = build()
    given = [MetaTensor(one.detach()).requires_grad_() for one in maps]
    total = loss(given, MetaTensor(labels[:, None].float()))
    total.backward()
    assert type(total) is Tensor and type(loss.per_map.losses) is Tensor
    assert torch.equal(total, loss(maps, labels)) and given[0].grad is not None
    assert type(loss(given[-1], labels)) is Tensor  # as in eval mode


def test_binary_masks_of_every_form() -> None:
    maps, labels = sample(classes=1)
    loss = build(num_classes=1)
    for form in (labels.bool(), labels[:, None].float(), one_hot(labels, 2), [labels, labels[:, ::2]]):
        assert torch.equal(loss(maps, form), loss(maps, labels))


def test_volumes_keep_their_axes_apart_from_channels() -> None:
    maps, labels = sample((3, 4, 5))  # as many slices as classes
    loss = build()
    assert torch.equal(loss(maps, one_hot(labels)), loss(maps, labels))
    assert torch.equal(loss(maps[-1], one_hot(labels)), loss(maps[-1], labels))
    assert torch.equal(loss(maps, labels[:, None]), loss(maps, labels))


def test_pixels_that_are_ignored_in_all_channels_of_one_hot_labels() -> None:
    maps, labels = sample()
    loss, given = build(ignore_index=255), one_hot(labels)
    given.movedim(1, -1)[:, 2] = 255
    labels[:, 2] = 255
    assert torch.equal(loss(maps, given), loss(maps, labels))


def wrong(maps: object, labels: object, **settings: object) -> str:
    with pytest.raises(LossError) as caught:
        build(**settings)(maps, labels)
    return str(caught.value)


def test_lists_that_are_no_label_at_several_scales() -> None:
    maps, labels = sample()
    assert "list of 2 tensors of one size" in wrong(maps, list(labels))
    assert "torch.stack(labels)" in wrong(maps, list(labels))
    assert wrong(maps, []) == (
        "Labels are an empty list.\n  Try:  loss(maps, labels)  # a tensor (B, *spatial) of class numbers"
    )
    assert "Labels are a str; a tensor is needed." in wrong(maps, ["labels"])
    assert "one batch size and one rank" in wrong(maps, [labels, labels[:1, ::2]])
    assert "Labels are a dict" in wrong(maps, {"label": labels})


def test_soft_labels_and_fractions_are_refused_by_name() -> None:
    maps, labels = sample()
    soft = one_hot(labels) * 0.9 + 0.05
    assert "needed is (B, *spatial), (B, 1, *spatial) or one-hot (B, 3, *spatial)" in wrong(maps, soft)
    assert "Try" not in wrong(maps, soft)
    mixed = labels.float()
    mixed[0, 0, 0] = 1.5
    assert "1 values, such as 1.5" in wrong(maps, mixed)
    assert "such as nan" in wrong(maps, mixed.where(mixed != 1.5, torch.nan))


REGIONS = LossPlan(build().maps, 3, 3, 255, multilabel=True)


def regions(labels: Tensor) -> Tensor:
    return torch.stack([labels > 0, labels > 1, labels == 2], 1)


def test_regions_of_every_type_have_one_form() -> None:
    maps, labels = sample()
    given = regions(labels)
    given_ignored = given.long()
    given_ignored.movedim(1, -1)[0, 2] = 255
    for one in (given, given.float(), given.to(torch.uint8), MetaTensor(given), [given, given[..., ::2]]):
        found = check_labels(one, maps, REGIONS)
        assert found.dtype == torch.int64 and torch.equal(found, given.long()) and type(found) is Tensor
    assert torch.equal(check_labels(given_ignored, maps, REGIONS), given_ignored)
    alone = LossPlan(REGIONS.maps, 3, 1, multilabel=True)
    assert check_labels(labels > 0, [one[:, :1] for one in maps], alone).shape == (2, 1, 6, 5)


def test_regions_that_are_none_are_refused_by_name() -> None:
    maps, labels = sample()

    def refused(given: Tensor) -> str:
        with pytest.raises(LossError) as caught:
            check_labels(given, maps, REGIONS)
        return str(caught.value)

    assert "with multilabel=True they are (B, 3, *spatial) of 0 and 1" in refused(labels)
    assert "torch.isin(labels, torch.tensor(values))" in refused(labels)
    assert "Labels have shape (2, 2, 6, 5)" in refused(regions(labels)[:, :2])
    assert "values outside 0 and 1 of multilabel=True, 255 is ignored" in refused(regions(labels) * 2)
    assert "such as 0.5" in refused(regions(labels) * 0.5)
    partly = regions(labels).long()
    partly[0, 0, 0, 0] = 255
    assert refused(partly) == (
        "Labels hold the ignored 255 in some channels of a pixel only; a pixel is ignored in all.\n  Seen: 1 values\n"
        "  Try:  labels.where(~(labels == 255).any(1, keepdim=True), 255)"
    )


def test_what_is_found_late_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, and in compiled steps, values are not looked at where they are brought into form."""
    maps, labels = sample()
    monkeypatch.setattr("lomix_search.mixture.loss.label_forms.reads_at_once", lambda labels: False)
    plan, soft, two = build().plan, labels.double(), one_hot(labels)
    soft[0, 0, :2] = torch.tensor([0.5, torch.inf])
    two[1, :, 0, 0] = 1
    for given, count in ((soft, 2), (two, 1)):
        found = shaped_labels(given, maps, plan)
        assert int((found == NO_CLASS).sum()) == count and torch.equal(found.where(found != NO_CLASS, labels), labels)
        message = f"Labels hold {count} pixels without a class: fractions, or channels that are not one-hot."
        with pytest.raises(LossError) as caught:
            check_range(found, plan)
        assert str(caught.value).startswith(f"{message}\n  Try:  from lomix_search.mixture.loss.label_checks import")
        late = LateCheck()
        late.look(found, plan)
        with pytest.raises(LossError) as caught:
            late.look(labels, plan)
        assert str(caught.value).startswith(f"In an earlier step: {message}")


@pytest.mark.slow
def test_a_compiled_step_takes_them_and_names_what_is_no_class() -> None:
    maps, labels = sample()
    loss = build(engine="auto")
    compiled = torch.compile(build(engine="auto"), fullgraph=True, backend="aot_eager")
    for form in ("one-hot", "float with a channel axis"):
        torch.testing.assert_close(compiled(maps, FORMS[form](labels)), loss(maps, labels))
    two = one_hot(labels)
    two[1, :, 0, 0] = 1
    with pytest.raises(LossError, match="Labels hold 1 pixels without a class"):
        compiled(maps, two)
