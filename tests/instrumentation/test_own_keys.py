"""States of bare and instrumented networks load each other; attributes of the model are reached through its guest."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from support.zoo import SmallUNet, small_unet_2d
from torch import Tensor, nn

import lomix_search as lomix
from lomix_search.instrumentation.instrumented import Instrumented, instrument


class Awkward(SmallUNet):
    """Its own keys and attributes have the names that an instrumented network gives to its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.heads = nn.ModuleDict({"model": nn.Linear(2, 2)}), nn.Linear(2, 2)
        self.note, self._private = "mine", 1
        self.stages = 7

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * (self.model["model"].weight.sum() + self.heads.weight.sum())

    @property
    def decoder(self) -> nn.Module:
        return self.up

    def hello(self) -> str:
        return f"hello {self.note}"


def build(seed: int, kind: type[nn.Module] = Awkward) -> Instrumented:
    torch.manual_seed(seed)
    net = instrument(kind(), torch.zeros(1, 1, 16, 16))
    with torch.no_grad():
        for parameter in net.heads.parameters():
            parameter.normal_()
    return net


def saved(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("kind", [Awkward, SmallUNet])
def test_states_go_in_both_directions(kind: type[nn.Module]) -> None:
    net, bare = build(0, kind), kind()
    assert list(net.state_dict()) == list(bare.state_dict())
    bare.load_state_dict(net.state_dict())
    assert equal(bare, net.model)

    other, heads = build(1, kind), build(1, kind).heads
    other.load_state_dict(bare.state_dict())
    assert equal(other.model, bare) and equal(other.heads, heads)


@pytest.mark.parametrize("way", ["as it is", "saved", "deepcopy", "pickle"])
def test_heads_travel_with_the_state(way: str) -> None:
    ways: dict[str, Any] = {"as it is": lambda one: one, "saved": saved, "deepcopy": copy.deepcopy}
    ways["pickle"] = lambda one: pickle.loads(pickle.dumps(one))
    net, other = build(0), build(1)
    other.load_state_dict(ways[way](net.state_dict()))
    assert equal(other.model, net.model) and equal(other.heads, net.heads)
    whole, again = nn.ModuleDict({"net": net}), nn.ModuleDict({"net": build(1)})
    assert list(whole.state_dict()) == [f"net.{name}" for name in net.model.state_dict()]
    again.load_state_dict(ways[way](whole.state_dict()))
    assert equal(again["net"].model, net.model) and equal(again["net"].heads, net.heads)


@pytest.mark.parametrize("kind", [Awkward, SmallUNet])
def test_states_of_earlier_versions_are_read(kind: type[nn.Module]) -> None:
    net, other = build(0, kind), build(1, kind)
    old = {f"model.{name}": value for name, value in net.model.state_dict().items()}
    other.load_state_dict(old | {f"heads.{name}": value for name, value in net.heads.state_dict().items()})
    assert equal(other.model, net.model) and equal(other.heads, net.heads)


def test_a_state_that_lost_its_heads_says_so() -> None:
    net, other, heads = build(0), build(1), build(1).heads
    with pytest.warns(
        UserWarning, match=r"this state says nothing of heads.*net\.heads\.state_dict\(\) is theirs alone"
    ):
        other.load_state_dict(dict(net.state_dict()))
    assert equal(other.model, net.model) and equal(other.heads, heads)


def test_a_plain_destination_keeps_the_heads_among_the_keys() -> None:
    net, other = build(0), build(1)
    state = net.state_dict(destination={})
    assert [key for key in state if key.startswith("lomix_heads.")] == ["lomix_heads.0.weight", "lomix_heads.0.bias"]
    other.load_state_dict(state)
    assert equal(other.heads, net.heads)


def test_other_networks_are_refused_in_both_directions() -> None:
    net, bare = build(0, SmallUNet), SmallUNet()
    state = bare.state_dict()
    del state["head.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "model.head.bias"'):
        net.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "model.foot.bias"'):
        net.load_state_dict(_with(bare.state_dict(), "foot.bias"))
    with pytest.raises(RuntimeError, match="size mismatch for heads.0.weight"):
        build(0, Awkward).load_state_dict(_with_heads(build(0, Awkward).state_dict()))


def _with(state: Any, key: str) -> Any:
    state[key] = torch.zeros(1)
    return state


def _with_heads(state: Any) -> Any:
    state._metadata[""]["lomix_heads"]["0.weight"] = torch.zeros(3, 3, 1, 1)
    return state


def test_attributes_of_the_model_are_reached_and_set_through_it() -> None:
    for net in (build(0), copy.deepcopy(build(0)), pickle.loads(pickle.dumps(build(0)))):
        assert net.decoder is net.model.up and net.down is net.model.down and net.hello() == "hello mine"
        net.note = "yours"
        assert net.model.note == "yours" and "note" not in vars(net) and net.hello() == "hello yours"
        net.stages = net.stages  # its own, whatever the model has of the name
        assert net.model.stages == 7 and len(net.stages) == 2 and isinstance(net.heads, nn.ModuleDict)
        net.fresh = 3
        assert "fresh" not in vars(net.model)
        net.head = nn.Conv2d(4, 3, 1)
        assert net.model.head is net.head and "head" not in net._modules
        for missing in ("nothing", "_private"):
            with pytest.raises(AttributeError, match=f"'Instrumented' object has no attribute '{missing}'"):
                getattr(net, missing)
        net.train()
        assert len(net(torch.rand(1, 1, 16, 16))) == 2


def test_the_type_is_public() -> None:
    assert lomix.Instrumented is Instrumented and "Instrumented" in lomix.__all__
    assert isinstance(lomix.instrument(*small_unet_2d()[:2]), lomix.Instrumented)


@pytest.mark.slow
def test_a_compiled_model_is_told_that_it_trains_uncompiled() -> None:
    model, example, _ = small_unet_2d()
    with pytest.warns(UserWarning) as caught:
        instrument(torch.compile(model, backend="eager"), example)
    assert str(caught[0].message) == (
        "SmallUNet is compiled; with heads it trains uncompiled, as compiled code skips hooks.\n"
        "  Try:  net = torch.compile(lomix.instrument(model, example))  # of the bare model: trains compiled"
    )
