"""Blocks that work on a spectrum beside the map, between layers that go down and up without skips."""

import torch
from torch import nn

from support.families.base import family
from support.families.layers import conv


class Spectral(nn.Module):
    """Convolutions work on the parts of a spectrum, laid out as channels."""

    def __init__(self, c):
        super().__init__()
        self.before, self.inside, self.after = conv(c, c, 1), conv(2 * c, 2 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x):
        x = self.before(x)
        parts = torch.view_as_real(torch.fft.rfftn(x, dim=(-2, -1), norm="ortho"))
        b, c, h, w, _ = parts.shape
        parts = self.inside(parts.permute(0, 1, 4, 2, 3).reshape(b, 2 * c, h, w))
        parts = parts.view(b, c, 2, h, w).permute(0, 1, 3, 4, 2).contiguous()
        y = torch.fft.irfftn(torch.view_as_complex(parts), s=x.shape[-2:], dim=(-2, -1), norm="ortho")
        return self.after(x + y)


class Mixed(nn.Module):
    """A residual block with a spectrum beside its convolution."""

    def __init__(self, c):
        super().__init__()
        self.near, self.far = nn.Conv2d(c, c, 3, padding=1), Spectral(c)
        self.finish = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())

    def forward(self, x):
        return x + self.finish(self.near(x) + self.far(x))


@family("spectra at the bottom, no skips", ["net.7", "net.10"], (1, 3, 32, 32), source="twentieth")
class Filler(nn.Module):
    """As LaMa: what comes back of a spectrum has gone up no level."""

    def __init__(self):
        super().__init__()
        down = (conv(3, 8), conv(8, 16, 3, 2), conv(16, 24, 3, 2))
        up = [layer for a, b in ((24, 16), (16, 8)) for layer in (self.up(a, b), nn.BatchNorm2d(b), nn.ReLU())]
        self.net = nn.Sequential(*down, Mixed(24), Mixed(24), *up, nn.Conv2d(8, 3, 7, padding=3))

    @staticmethod
    def up(a, b):
        return nn.ConvTranspose2d(a, b, 3, 2, 1, 1)

    def forward(self, x):
        return torch.sigmoid(self.net(x))
