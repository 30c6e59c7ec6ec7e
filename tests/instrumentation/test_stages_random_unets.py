"""Random U-shaped networks are instrumented with exactly their true stages."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.instrumentation.instrumented import instrument
from lomix_search.instrumentation.stages import decoder_stages
from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.trace import BACKENDS, trace

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class Block(nn.Module):
    def __init__(self, dims: int, given: int, made: int, residual: bool) -> None:
        super().__init__()
        self.first, self.second = _CONV[dims](given, made, 3, padding=1), _CONV[dims](made, made, 3, padding=1)
        self.short = _CONV[dims](given, made, 1) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        return F.relu(y + self.short(x)) if self.short else F.relu_(y)


class Up(nn.Module):
    """One decoder level: go up, take the skip in, work."""

    def __init__(self, dims: int, given: int, skip: int, made: int, how: dict) -> None:
        super().__init__()
        self.dims, self.join, self.up = dims, how["join"], how["up"]
        middle = skip if self.join == "add" else made
        if self.up == "transposed":
            self.rise = _UP[dims](given, middle, 2, 2)
        elif self.up == "shuffle":
            self.rise = nn.Sequential(_CONV[2](given, 4 * middle, 1), nn.PixelShuffle(2))
        else:
            self.rise = _CONV[dims](given, middle, 1)
        self.gate = _CONV[dims](middle + skip, 1, 1) if self.join == "attention" else None
        self.block = Block(dims, middle if self.join == "add" else middle + skip, made, how["residual"])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.rise(F.interpolate(x, size=skip.shape[2:]) if self.up == "interpolate" else x)
        if self.gate is not None:
            skip = skip * torch.sigmoid(self.gate(torch.cat([x, skip], 1)))
        return self.block(x + skip if self.join == "add" else torch.cat([x, skip], 1))


class RandomUNet(nn.Module):
    def __init__(self, dims: int, widths: list[int], classes: int, how: dict) -> None:
        super().__init__()
        self.supervised, made = how["supervised"], [1, *widths]
        self.down = nn.ModuleList(Block(dims, a, b, how["residual"]) for a, b in zip(made, widths, strict=False))
        pairs = list(zip(widths[::-1], widths[-2::-1], strict=False))
        self.up = nn.ModuleList(Up(dims, a, b, b, how) for a, b in pairs)
        self.heads = nn.ModuleList(_CONV[dims](b, classes, 1) for _, b in pairs)
        self.pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[dims](2)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        skips = []
        for i, down in enumerate(self.down):
            x = down(self.pool(x) if i else x)
            skips.append(x)
        skips.pop()
        made = []
        for up in self.up:
            x = up(x, skips.pop())
            made.append(x)
        logits = [head(y) for head, y in zip(self.heads, made, strict=True)][::-1]
        return logits if self.supervised and self.training else logits[0]


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor, list[str]]:
    dims = draw(st.sampled_from([2, 3]))
    depth = draw(st.integers(3, 6 if dims == 2 else 4))
    widths = draw(st.lists(st.integers(2, 6), min_size=depth, max_size=depth))
    how = {
        "join": draw(st.sampled_from(["cat", "add", "attention"])),
        "up": draw(st.sampled_from(["interpolate", "transposed", *(["shuffle"] if dims == 2 else [])])),
        "residual": draw(st.booleans()),
        "supervised": draw(st.booleans()),
    }
    net = RandomUNet(dims, widths, draw(st.integers(1, 5)), how)
    return net, torch.rand(1, 1, *[2**depth] * dims), [f"up.{i}" for i in range(depth - 1)]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_many_random_networks_show_their_true_stages(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_the_stages_do_not_depend_on_the_back_end(case):
    net, example, names = case
    for backend in BACKENDS:
        found = trace(net, example, (backend,))
        read_layouts(found)
        shapes = [tuple(node.meta["shape"]) for node in decoder_stages(found, found.outputs[0][1])]
        assert len(shapes) == len(names), backend


def check(case) -> None:
    model, example, names = case
    model.train()
    keys = list(model.state_dict())
    model.eval()
    before = model(example)
    model.train()
    net = instrument(model, example)
    assert [stage.name for stage in net.stages] == names
    maps = net(example)
    assert [m.shape[2:] for m in maps] == [stage.size for stage in net.stages]
    assert len(list(net.head_parameters())) == (0 if model.supervised else 2 * (len(names) - 1))
    assert torch.equal(net.eval()(example), before)
    assert list(net.strip().state_dict()) == keys
