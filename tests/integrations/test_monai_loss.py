"""The mixture of maps as MONAI's networks return them: stacked, in lists, fine to coarse or coarse to fine."""

from pathlib import Path
from pydoc import locate

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from support.mixture_losses import sample
from support.monai_engines import EXAMPLE, dynunet
from torch import Tensor

import lomix_search as lomix
from lomix_search.errors import LossError
from lomix_search.integrations.monai import LoMixLoss
from lomix_search.mixture.loss import MixtureLoss

ORIGINALS, CLASSES = 3, 3


def pair(**options: object) -> tuple[LoMixLoss, MixtureLoss]:
    torch.manual_seed(3)
    own = LoMixLoss("lomix", ORIGINALS, CLASSES, **options)  # type: ignore[arg-type]
    plain = MixtureLoss("lomix", ORIGINALS, CLASSES)
    plain.load_state_dict(own.state_dict())
    return own, plain


def test_dynunets_stack_is_read_from_the_finest_on() -> None:
    own, plain = pair()
    generator = torch.Generator().manual_seed(0)
    stacked = torch.randn(2, ORIGINALS, CLASSES, 8, 8, generator=generator)
    labels = torch.randint(0, CLASSES, (2, 1, 8, 8), generator=generator)
    wanted = plain([stacked[:, 2], stacked[:, 1], stacked[:, 0]], labels)
    for form in (labels, labels[:, 0], MetaTensor(labels.float())):
        assert torch.equal(own(MetaTensor(stacked), form), wanted)
    three = torch.randn(ORIGINALS, ORIGINALS, CLASSES, 8, 8, generator=generator)  # as many items as maps
    labels = torch.randint(0, CLASSES, (ORIGINALS, 8, 8), generator=generator)
    assert torch.equal(own(three, labels), plain(list(three.unbind(1))[::-1], labels))


def test_stacks_of_volumes() -> None:
    own, plain = pair()
    stacked, labels = torch.randn(2, ORIGINALS, CLASSES, 4, 4, 4), torch.randint(0, CLASSES, (2, 1, 4, 4, 4))
    assert torch.equal(own(stacked, labels), plain(list(stacked.unbind(1))[::-1], labels))


def test_sizes_say_where_a_list_begins() -> None:
    own, plain = pair()
    maps, labels = sample()
    assert torch.equal(own(maps, labels), plain(maps, labels))
    assert torch.equal(own(list(maps)[::-1], labels), plain(maps, labels))
    assert torch.equal(own(tuple(maps)[::-1], labels[:, None]), plain(maps, labels))


def test_maps_of_one_size_need_a_word() -> None:
    maps, labels = sample()
    same = [maps[-1], 2 * maps[-1], 3 * maps[-1]]
    own, plain = pair()
    with pytest.raises(LossError) as caught:
        own(same, labels)
    size = tuple(maps[-1].shape)
    assert str(caught.value) == (
        "3 maps of one size; which of them is the finest cannot be told.\n"
        f"  Seen: map 1: {size}\n        map 2: {size}\n        map 3: {size}\n"
        '  Try:  LoMixLoss(…, finest="first"), or "last": the one that the network returns in eval mode'
    )
    assert torch.equal(pair(finest="first")[0](same, labels), plain(same[::-1], labels))
    assert torch.equal(pair(finest="last")[0](same, labels), plain(same, labels))


def test_an_instrumented_network_with_maps_of_one_size() -> None:
    net = lomix.instrument(dynunet(deep_supervision=True), EXAMPLE).train()
    own, plain = LoMixLoss.for_network(net), MixtureLoss.for_network(net)
    plain.load_state_dict(own.state_dict())
    images, labels = torch.rand(2, 1, 32, 32), torch.randint(0, 3, (2, 1, 32, 32))
    maps = net(images)
    assert len({one.shape for one in maps}) == 1 and torch.equal(own(maps, labels), plain(maps, labels))


def test_one_map_is_the_finest_and_in_training_a_warning() -> None:
    own, plain = pair()
    maps, labels = sample()
    alone = maps[-1].detach()
    assert torch.equal(own(alone, labels), plain(alone, labels))  # as in validation
    with pytest.warns(UserWarning, match="the network returned one map .* in training; the loss mixes 3"):
        own(alone.clone().requires_grad_(), labels)
    own(alone.clone().requires_grad_(), labels)  # said once


def test_what_is_no_map_is_refused_by_name() -> None:
    own, _ = pair()
    _, labels = sample()
    with pytest.raises(LossError, match="Map 1 is a str; a tensor is needed."):
        own(["a", "b", "c"], labels)  # type: ignore[list-item]
    with pytest.raises(LossError, match="MixtureLoss got 2 maps; it was built for 3."):
        own([torch.zeros(2, CLASSES, 4, 4), torch.zeros(2, CLASSES, 8, 8)], labels)


def test_monai_itself_is_not_hidden() -> None:
    import monai.networks

    import lomix_search.integrations.monai as ours

    assert Path(monai.networks.__file__).parents[1].name == "monai" and "lomix_search" not in monai.networks.__file__
    for name, wanted in (
        ("lomix_search.integrations.monai.LoMixHandler", ours.LoMixHandler),
        ("lomix_search.integrations.monai.LoMixLoss", ours.LoMixLoss),
        ("lomix_search.instrument", lomix.instrument),
        ("lomix_search.MixtureLoss.for_network", MixtureLoss.for_network),
    ):
        assert locate(name) == wanted  # as a Bundle finds a _target_


def test_a_stack_carries_the_gradient() -> None:
    own, _ = pair()
    stacked: Tensor = torch.randn(2, ORIGINALS, CLASSES, 8, 8, requires_grad=True)
    own(MetaTensor(stacked), torch.randint(0, CLASSES, (2, 1, 8, 8))).mean().backward()
    assert stacked.grad is not None and bool((stacked.grad.flatten(2).abs().sum(2) > 0).all())
