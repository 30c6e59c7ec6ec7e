"""Maps and labels that do not fit the loss: each error in full, and its advice loses nothing where it is followed."""

import pytest
import torch
from support.mixture_losses import ENGINE_NAMES, build, sample, taken
from torch import Tensor
from torch.nn import functional as F

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss


def fails(loss: MixtureLoss, maps: object, labels: Tensor) -> str:
    with pytest.raises(LossError) as caught:
        loss(maps, labels)
    return str(caught.value)


def test_wrong_number_of_maps() -> None:
    maps, labels = sample()
    assert fails(build(num_maps=4), maps, labels) == (
        "MixtureLoss got 3 maps; it was built for 4.\n"
        "  Seen: map 1: (2, 3, 1, 1)\n"
        "        map 2: (2, 3, 3, 2)\n"
        "        map 3: (2, 3, 6, 5)\n"
        "  Try:  net.train()  # in eval mode the network returns one map only\n"
        "        MixtureLoss(…, num_maps=3)  # if it has so many stages"
    )
    assert "Seen: no map" in fails(build(), [], labels)


def test_one_map_with_a_batch_of_just_that_many() -> None:
    maps, labels = sample(batch=3)
    whole = taken(build(), maps, labels)
    assert torch.equal(build()(maps[-1], labels), whole.per_map[2])  # not three stacked maps


def test_wrong_shapes() -> None:
    maps, labels = sample()
    assert "Map 2 has 4 channels; the loss was built for 3 classes." in fails(
        build(), [maps[0], maps[1].repeat(1, 2, 1, 1)[:, :4], maps[2]], labels
    )
    assert "Map 1 has shape (2, 3); needed (B, 3, *spatial) with 1 to 3 spatial axes." in fails(
        build(), [m.flatten(2).sum(2) for m in maps], labels
    )
    assert "The maps have different batch sizes or ranks: map 3 differs." in fails(
        build(), [*maps[:2], maps[2][:1]], labels
    )
    assert "Map 1 is torch.int32; logits are floating point." in fails(
        build(), [m.detach().int() for m in maps], labels
    )
    assert "Labels have a batch of 1, the maps of 2." in fails(build(), maps, labels[:1])
    assert "Labels have shape (2, 30); maps of rank 4 need (B, *spatial) or (B, 1, *spatial)." in fails(
        build(), maps, labels.flatten(1)
    )
    assert "Labels are on meta, the maps on cpu." in fails(build(), maps, labels.to("meta"))


def test_float_labels() -> None:
    maps, labels = sample()
    loss = build()
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.float16, torch.float32, torch.float64):
        assert torch.equal(loss(maps, labels.to(dtype)), loss(maps, labels))
    assert build(num_classes=1)(sample(classes=1)[0], labels > 1).isfinite()


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_labels_out_of_range(engine: str) -> None:
    maps, labels = sample()
    labels.fill_(0)
    labels[0, 0, :2] = 3
    labels[1, 0, 0] = 255
    assert fails(build(engine=engine), maps, labels) == (
        "Labels hold 2 values outside the classes 0 … 2.\n"
        "  Seen: 3 (2 pixels), 255 (1 pixels)\n"
        "  Try:  MixtureLoss(…, num_classes=4, ignore_index=255)  # if the network has so many outputs, and 255 marks "
        "pixels without a label"
    )
    assert fails(build(ignore_index=255), maps, labels) == (
        "Labels hold 1 values outside the classes 0 … 2, 255 is ignored.\n"
        "  Seen: 3 (2 pixels)\n"
        "  Try:  MixtureLoss(…, num_classes=4)  # if the network has so many outputs"
    )
    labels.fill_(2)
    assert "outside the classes 0 … 1." in fails(build(num_classes=1), sample(classes=1)[0], labels)


def hint(loss: MixtureLoss, maps: list[Tensor], labels: Tensor) -> str:
    return fails(loss, maps, labels).partition("  Try:  ")[2].partition("  #")[0]


def test_hints_for_labels_with_channels_lose_nothing() -> None:
    """What is advised gives the right classes; overlapping regions have none, and argmax would drop one of them."""
    maps, labels = sample()
    loss, named = build(), {"loss": build(), "maps": maps, "torch": torch}
    last = F.one_hot(labels, 3)
    assert torch.equal(eval(hint(loss, maps, last), named | {"one_hot": last}), loss(maps, labels))
    for kind in (torch.int64, torch.uint8, torch.bool, torch.float32):
        foreground = F.one_hot(labels, 3).movedim(-1, 1)[:, 1:].to(kind)
        message = fails(loss, maps, foreground)
        assert "3 classes with it; or MixtureLoss(…, num_classes=2, multilabel=True)" in message
        found = eval(hint(loss, maps, foreground), named | {"channels": foreground.long()})
        assert torch.equal(found, loss(maps, labels))
    regions = torch.stack([labels > 0, labels > 1], 1).long()
    message = fails(loss, maps, regions)
    assert "argmax" not in message and f"overlap at {int((labels > 1).sum())} pixels" in message
    assert hint(loss, maps, regions) == "MixtureLoss(…, num_classes=2, multilabel=True)"
    three = torch.stack([labels > 0, labels > 1, labels == 0], 1)  # as many channels as classes, and no classes
    assert hint(loss, maps, three) == "MixtureLoss(…, num_classes=3, multilabel=True)"
    assert "one-hot of 4 classes, the loss is of 3" in fails(loss, maps, F.one_hot(labels, 4).movedim(-1, 1))
    colours = torch.randint(256, (2, 3, 6, 5))
    assert "Try" not in fails(loss, maps, colours)


def test_hints_for_labels_of_other_types_lose_nothing() -> None:
    maps, labels = sample()
    soft = labels.double()
    soft[0, 0, 0] = 0.5
    assert fails(build(), maps, soft) == (
        "Labels are torch.float64 and hold values that are no class; classes are whole numbers.\n"
        "  Seen: 1 values, such as 0.5\n"
        "  Try:  resize and turn labels by the nearest neighbour, so that they keep their class numbers"
    )
    for wrong in (float("nan"), float("inf")):
        soft[0, 0, 0] = wrong
        assert f"such as {wrong:g}" in fails(build(), maps, soft)
    assert "Try" not in fails(build(), maps, labels.to(torch.complex64))


@pytest.mark.parametrize(("values", "classes", "ignored", "expected"), [
    ([0, 255], 1, None, "loss(maps, labels > 0)"),
    ([0, 255], 2, None, "loss(maps, labels > 0)"),
    ([255], 1, None, "loss(maps, labels > 0)"),
    ([0, 2], 2, None, "loss(maps, labels > 0)"),
    ([0, 128], 1, 255, "loss(maps, labels == 128)"),
    ([0, 1, 255], 1, None, "MixtureLoss(…, ignore_index=255)"),
    ([0, 1, -1], 2, None, "MixtureLoss(…, ignore_index=-1)"),
    ([0, -100], 2, None, "MixtureLoss(…, ignore_index=-100)"),
    ([0, 255], 3, None, ""),  # the foreground of a mask, or no label at all
    ([0, 1, 2, 255], 3, None, "MixtureLoss(…, ignore_index=255)"),
    ([0, 1, 2], 2, None, "MixtureLoss(…, num_classes=3)"),  # a class, not to be ignored
    ([0, 1, 2], 1, None, "MixtureLoss(…, num_classes=3)"),
    ([1, 2, 3], 3, None, "MixtureLoss(…, num_classes=4)"),
    ([0, 1, 2, 3, 255], 3, None, "MixtureLoss(…, num_classes=4, ignore_index=255)"),
    ([0, 1, 255], 2, -1, ""),  # only one value can be ignored
    ([0, 1, -1, 255], 2, None, ""),
    ([0, 50, 100, 150], 2, None, ""),  # grey values
])  # fmt: skip
def test_hints_for_label_values_lose_nothing(
    values: list[int], classes: int, ignored: int | None, expected: str
) -> None:
    """255 beside 0 is a mask's foreground: to ignore it would leave nothing to learn."""
    maps, _ = sample(classes=classes)
    labels = torch.tensor(values)[torch.arange(60) % len(values)].view(2, 6, 5)
    loss = build(num_classes=classes, ignore_index=ignored)
    assert hint(loss, maps, labels) == expected
    if expected.startswith("loss"):
        found = eval(expected, {"loss": loss, "maps": maps, "labels": labels})
        assert torch.equal(found, loss(maps, (labels == max(values)).long()))
    elif expected:
        settings = eval(expected.replace("MixtureLoss(…, ", "dict("), {})
        mended = build(**({"num_classes": classes} | settings))
        assert mended(sample(classes=mended.num_classes)[0], labels).isfinite()
