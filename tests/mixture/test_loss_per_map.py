"""``loss.per_map``: what the last call said of each map, whatever the loss is wrapped in."""

import copy
import pickle

import pytest
import torch
from support.mixture_losses import build, sample
from support.zoo import small_unet_2d
from torch import Tensor, nn

import lomix_search as lomix
from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.weighting import Fixed


def test_it_is_of_the_last_call_and_holds_no_graph() -> None:
    maps, labels = sample()
    loss = build()
    total = loss(maps, labels)
    first = loss.per_map
    assert isinstance(total, Tensor) and total.shape == () and total.requires_grad
    assert first.ids == loss.map_ids and len(first) == 19
    assert not first.losses.requires_grad and not first.weights.requires_grad
    torch.testing.assert_close((first.losses * first.weights).sum(), total.detach())
    loss([2 * one for one in maps], labels)
    assert not torch.equal(loss.per_map.losses, first.losses)  # and what was read before stays what it was
    with torch.no_grad():
        loss.weighting.theta.fill_(1.0)
    assert float(loss.per_map.weights[0]) == pytest.approx(0.6931, abs=1e-4)  # weights of that call, not of now


def test_it_reads_by_id_and_prints_as_a_table_with_the_largest_share_first() -> None:
    maps, labels = sample()
    chosen = [0.0 if name == "P1" else 1.0 + i for i, name in enumerate(build().map_ids)]
    loss = build(weighting=Fixed(build().maps, chosen))
    loss(maps, labels)
    found = loss.per_map.as_dict()
    assert list(found) == list(loss.map_ids) and found["add(1,3)"][1] == chosen[loss.map_ids.index("add(1,3)")]
    assert found["P1"][0] != found["P1"][0] and found["P1"][1] == 0  # NaN: it was skipped
    head, *rows = str(loss.per_map).splitlines()
    products = [float(row.split()[-1]) for row in rows]
    assert head.split() == ["map", "loss", "weight", "product"] and rows[-1].startswith("P1 ")
    assert products[:-1] == sorted(products[:-1], reverse=True) and len(rows) == 19


def test_one_map_alone_is_the_finest() -> None:
    maps, labels = sample()
    loss = build()
    total = loss(maps[-1], labels)
    assert loss.per_map.as_dict() == {"P3": (float(total.detach()), 1.0)} and loss.culprits() == ()
    loss(maps[-1] * torch.nan, labels)
    assert loss.culprits() == ("P3",)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
def test_before_a_call_it_says_so_also_in_copies_and_it_is_no_state(again: object) -> None:
    maps, labels = sample()
    loss = build()
    before = set(loss.state_dict())
    loss(maps, labels)
    assert set(loss.state_dict()) == before
    for fresh in (build(), again(loss)):  # type: ignore[operator]
        with pytest.raises(LossError, match="not called yet") as caught:
            _ = fresh.per_map
        assert "loss(maps, labels)" in str(caught.value)
        with pytest.raises(LossError, match="not called yet"):
            fresh.culprits()
    assert len(loss.per_map) == 19


class _Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.loss = nn.Conv2d(3, 3, 1).double(), build()

    def forward(self, maps: list[Tensor], labels: Tensor) -> Tensor:
        total: Tensor = self.loss([self.head(one) for one in maps], labels)
        return total


def test_replicas_of_data_parallel_tell_the_original() -> None:
    maps, labels = sample()
    whole = _Wrapped()
    replica = whole.loss._replicate_for_data_parallel()  # what DataParallel makes of a module, for each device
    replica._parameters, replica._buffers = dict(whole.loss._parameters), dict(whole.loss._buffers)
    replica._modules = dict(whole.loss._modules)
    total = replica(maps, labels)
    torch.testing.assert_close((whole.loss.per_map.losses * whole.loss.per_map.weights).sum(), total.detach())


@pytest.mark.slow
def test_a_compiled_step_tells_it_too() -> None:
    maps, labels = sample()
    whole = _Wrapped()
    compiled = torch.compile(copy.deepcopy(whole), fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for scale in (1, 2):
            given = [scale * one.detach() for one in maps]
            whole(given, labels)
            compiled(given, labels)
            torch.testing.assert_close(compiled.loss.per_map.losses, whole.loss.per_map.losses)
            torch.testing.assert_close(compiled.loss.per_map.weights, whole.loss.per_map.weights)


def test_for_network_counts_stages_and_channels_itself() -> None:
    model, example, _ = small_unet_2d()
    net = lomix.instrument(model, example)
    for given in (net, nn.DataParallel(net)):
        loss = MixtureLoss.for_network(given, "mutation", weighting="uniform", ignore_index=255)
        assert loss.plan.num_maps == len(net.stages) and loss.num_classes == net.num_classes
        assert loss.space.name == "mutation" and loss.ignore_index == 255 and loss.weighting.name == "uniform"
    assert (
        MixtureLoss.for_network(net).space.name == "lomix" and MixtureLoss.for_network(net, multilabel=True).multilabel
    )
    assert MixtureLoss.for_network(net, num_maps=len(net.stages)).plan.num_maps == len(net.stages)
    with pytest.raises(LossError, match="is not the network's"):
        MixtureLoss.for_network(net, num_classes=net.num_classes + 1)
    net.train()
    loss(net(example), torch.zeros(len(example), *example.shape[2:]).long()).backward()


@pytest.mark.parametrize("net", [nn.Conv2d(1, 1, 1), nn.Sequential(), None, nn.DataParallel(nn.Conv2d(1, 1, 1))])
def test_for_network_refuses_what_is_not_instrumented(net: object) -> None:
    with pytest.raises(LossError, match="needs an instrumented network") as caught:
        MixtureLoss.for_network(net)  # type: ignore[arg-type]
    assert "lomix.instrument(net, example=images)" in str(caught.value)
