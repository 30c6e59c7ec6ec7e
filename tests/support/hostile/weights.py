"""Networks that change their parameters and buffers, or what belongs to these."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from support.hostile.base import Odd, hostile
from support.zoo import SmallUNet


@hostile
class MaxNorm(Odd):
    def odd(self, x):
        with torch.no_grad():
            self.head.weight.renorm_(2, 0, 1e-3)


@hostile
class Renormalised(Odd):
    """In train mode alone, as weight standardisation by hand is written."""

    def odd(self, x):
        if self.training:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.data.div_(module.weight.data.norm() + 1)


@hostile
class MagnitudePreserving(SmallUNet):
    """Each convolution writes its normalised weight back before it uses it, as Karras and others do in training."""

    class Layer(nn.Conv2d):
        def forward(self, x):
            with torch.no_grad():
                if self.training:
                    self.weight.copy_(self.normal())
            return self._conv_forward(x, self.normal(), self.bias)

        def normal(self):
            size = torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
            return self.weight / (size + 1e-4) * self.weight[0].numel() ** -0.5

    def __init__(self):
        super().__init__()
        for block in (*self.down, *self.up):
            plain = block[0]
            block[0] = self.Layer(plain.in_channels, plain.out_channels, 3, padding=1)


@hostile
class ExponentialAverage(SmallUNet):
    def __init__(self):
        super().__init__()
        self.mean = [torch.zeros(3), {"inner": torch.zeros(3)}]
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        y = super().forward(x)
        if self.training:
            self.mean[0].mul_(0.9).add_(y.mean((0, 2, 3)), alpha=0.1)
            self.mean[1]["inner"] += 1
            self.steps += 1
        return y


@hostile
class Codebook(SmallUNet):
    def __init__(self):
        super().__init__()
        self.codes = nn.Parameter(torch.rand(8, 4), requires_grad=False)
        self.counts = torch.zeros(8)

    def forward(self, x):
        if self.training:
            flat = torch.rand(16, 4)
            near = torch.cdist(flat, self.codes).argmin(1)
            self.counts.index_add_(0, near, torch.ones(16))
            self.codes.data.index_copy_(0, near, flat)
        return super().forward(x)


@hostile
class Replaced(Odd):
    def odd(self, x):
        self.head.weight.data = self.head.weight.data * 2
        self.head.bias.set_(torch.zeros(3))


@hostile
class NewParameter(Odd):
    def odd(self, x):
        self.head.weight = nn.Parameter(self.head.weight.detach() + 1)


@hostile
class ThroughNumpy(Odd):
    def odd(self, x):
        self.head.weight.detach().numpy()[:] += 1


@hostile
class HoldsAnArray(Odd):
    """Has an array of numpy in the memory of a parameter."""

    def __init__(self):
        super().__init__()
        self.array = self.head.bias.detach().numpy()[1:]

    def odd(self, x):
        self.array += 1


@hostile
class HoldsABuffer(Odd):
    """A parameter and a norm's statistics are one piece of memory, as what was loaded flat is."""

    def __init__(self):
        super().__init__()
        flat = torch.ones(6)
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean, self.head.bias.data = flat[:3], flat[3:]

    def odd(self, x):
        self.norm.running_mean += 1


@hostile
class ThroughStorage(Odd):
    def odd(self, x):
        self.head.weight.untyped_storage().fill_(0)


@hostile
class Flags(Odd):
    def odd(self, x):
        self.head.weight.requires_grad_(False)
        self.head.weight.grad = torch.ones_like(self.head.weight)
        self.head.bias.note = "seen"
        self.down[0].eval()


@hostile
class Gradients(Odd):
    def __init__(self):
        super().__init__()
        self.head.weight.grad = torch.ones_like(self.head.weight)

    def odd(self, x):
        self.head.weight.grad.zero_()


@hostile
class TestTime(Odd):
    """Takes a step of an optimiser in each pass."""

    def __init__(self):
        super().__init__()
        self.optimizer = [torch.optim.Adam(self.head.parameters(), 0.1)]

    def odd(self, x):
        with torch.enable_grad():
            self.head.weight.square().sum().backward()
        self.optimizer[0].step()


@hostile
class Buffers(Odd):
    def __init__(self):
        super().__init__()
        self.register_buffer("old", torch.zeros(2))
        self.register_buffer("grows", torch.zeros(2))

    def odd(self, x):
        self.register_buffer("new", torch.ones(2))
        self.grows = torch.cat([self.grows, torch.ones(1)])
        if "old" in self._buffers:
            del self.old


@hostile
class Resized(Odd):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(4.0))

    def odd(self, x):
        self.table.resize_(2, 4).fill_(5)


@hostile
class SpectralNorm(SmallUNet):
    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.head)
        nn.utils.spectral_norm(self.down[0][0])


@hostile
class WeightNorm(SmallUNet):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.head)
        self.down[0][0] = nn.utils.weight_norm(self.down[0][0])
        parametrize.register_parametrization(self.up[0][0], "weight", nn.Identity())
