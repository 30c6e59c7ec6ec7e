"""Networks that bring a map to the size of a skip, or cut off a row of it, with or without a layer around."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import up_to


@family(
    "what goes up is fitted to the skip, which is added",
    ["up.0", "up.1", "last"],
    (1, 1, 8, 32, 32),
    source="twenty-second",
)
class FittedToTheSkip(nn.Module):
    """The way up makes a frame more than there were; a resizing brings each level back."""

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24)
        self.down = nn.ModuleList(self.layer(a, b, (1, 2, 2)) for a, b in zip((1, *widths), widths, strict=False))
        self.up = nn.ModuleList(self.rise(a, b) for a, b in ((24, 16), (16, 8)))
        self.whole, self.last = self.rise(8, 8), self.layer(8, 8, 1)
        self.logits = nn.Conv3d(8, 2, 1)

    def layer(self, given, made, stride):
        return nn.Sequential(nn.Conv3d(given, made, 3, stride, 1), nn.BatchNorm3d(made), nn.ReLU())

    def rise(self, given, made):
        rise = nn.ConvTranspose3d(given, made, (4, 4, 4), (1, 2, 2), 1)
        return nn.Sequential(nn.ConstantPad3d((0, 0, 0, 0, 1, 1), 0.1), rise, nn.BatchNorm3d(made), nn.ReLU())

    def forward(self, x):
        skips, whole = [], x
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        for rise, skip in zip(self.up, skips[-2::-1], strict=True):
            x = up_to(rise(x), skip, "trilinear") + skip
        return self.logits(self.last(up_to(self.whole(x), whole, "trilinear")))


class Shifted(nn.Module):
    """A layer that sees only rows above, as a row more is laid on top and the last one is cut off."""

    def __init__(self, given, made):
        super().__init__()
        self.conv = nn.Conv2d(given, made, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(F.pad(x, (0, 0, 1, 0))))[..., :-1, :]


@family("each layer ends with a row that is cut off", ["up.0", "up.1"], (1, 2, 32, 32), source="twenty-second")
class ShiftedLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(self.block(a, b) for a, b in ((2, 8), (8, 16), (16, 24)))
        self.up = nn.ModuleList(self.block(a, b) for a, b in ((40, 16), (24, 8)))
        self.logits = nn.Conv2d(8, 3, 1)

    def block(self, given, made):
        return nn.Sequential(Shifted(given, made), Shifted(made, made))

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.logits(x)
