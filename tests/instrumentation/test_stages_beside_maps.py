"""What lies like a map of a level and is none, also where an operation returns it as one of several values."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lomix_search.instrumentation.stages.axes import read_layouts
from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.trace import operation, trace


class Gated(nn.Module):
    def __init__(self, halves: bool):
        super().__init__()
        self.layer, self.head, self.halves = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(2, 2, 1), halves

    def forward(self, x):
        x = self.layer(x)
        if self.halves:
            one, other = F.adaptive_avg_pool2d(x, 1).chunk(2, 1)
        else:
            one = other = F.adaptive_max_pool2d(x, 1, return_indices=True)[0][:, :2]
        return self.head(x[:, :2] * one + x[:, 2:] * other)


@pytest.mark.parametrize("backend", ["fx", "record"])
@pytest.mark.parametrize("halves", [True, False])
def test_what_a_global_pooling_makes_is_no_map(halves, backend):
    flow = _flow(Gated(halves), backend)
    values = [node for node in flow.graph if node.meta.get("shape", ())[2:] == (1, 1)]
    assert len(values) > 1 and not set(values) & set(flow.maps)


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.inside, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.before(x)
        spectrum = torch.fft.rfft2(x)
        real, imaginary = self.inside(torch.cat([spectrum.real, spectrum.imag], 1)).chunk(2, 1)
        return self.head(x + torch.fft.irfft2(torch.complex(real, imaginary)))


@pytest.mark.parametrize("backend", ["fx", "record"])
def test_parts_of_a_spectrum_are_no_maps(backend):
    flow = _flow(Spectral(), backend)
    assert [operation(node).lower() for node in flow.maps][1:] == ["fft_irfft2", "add", "conv2d"]


def _flow(net: nn.Module, backend: str) -> Flow:
    found = trace(net.eval(), torch.rand(1, 1, 8, 12), (backend,))
    read_layouts(found)
    return Flow(found, found.outputs[0][1])
