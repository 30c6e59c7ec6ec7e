"""Networks that make, are fed or return tensors of a class of their own are read, and return what they ever did."""

import pytest
import torch
from support.families.unet.shared import OnHooks, Picture
from torch import Tensor, nn

from lomix_search import instrument
from lomix_search.instrumentation.trace import trace
from lomix_search.mixture.loss import MixtureLoss


class Layers(nn.Module):
    """Two layers and something between them that no operation is seen of."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 1), between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


def written_as_two(x: Tensor) -> Tensor:
    """What is written through one class is read through the other."""
    one, other = x.as_subclass(Picture), x.as_subclass(Picture)
    one.mul_(2)
    return other


def written_by_a_part(x: Tensor) -> Tensor:
    x.data[:, :1].relu_()
    return x


WAYS = {
    "another class": lambda x: x.as_subclass(Picture),
    "there and back": lambda x: x.as_subclass(Picture).as_subclass(Tensor),
    "its data": lambda x: x.data,
    "written as two": written_as_two,
    "written by a part": written_by_a_part,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["fx", "record"])
def test_a_form_that_no_operation_made_is_no_constant(way, backend):
    model = Layers(WAYS[way]).eval()
    found = trace(model, torch.rand(1, 1, 8, 8), (backend,))
    image = torch.rand(1, 1, 8, 8)
    (made,) = found.run((image,), {})
    with torch.no_grad():
        assert torch.equal(made.as_subclass(Tensor), model(image).as_subclass(Tensor))


@pytest.mark.parametrize("fed", [Tensor, Picture])
def test_the_network_returns_its_own_class_and_the_maps_are_plain(fed):
    torch.manual_seed(0)
    model, image = OnHooks().eval(), torch.rand(2, 1, 32, 32).as_subclass(fed)
    model.kept.clear()
    expected = model(image)
    model.kept.clear()
    net = instrument(model, image)
    assert not model.kept, "a hook kept something of the trace"
    found = net.eval()(image)
    assert type(found) is Picture and found.note == "seen" and torch.equal(found, expected)
    assert type(net.logits(image)) is Tensor
    maps = net.train()(image)
    assert {type(one) for one in maps} == {Tensor}
    loss = MixtureLoss.for_network(net, space="lomix")(maps, torch.randint(3, (2, 32, 32)))
    loss.backward()
    assert type(loss) is Tensor
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert type(net.strip()(image)) is Picture
