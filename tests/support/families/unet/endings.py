"""What the last level ends in: a head that does all of its work, images of several levels summed, a sigmoid."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


@family("a head does all the work of the last level", ["work.0", "work.1", "head.0"], source="sixteenth")
class WorkedByTheHead(nn.Module):
    """Skips on all levels but the last, to which one layer goes up; the coarsest level has one too."""

    def __init__(self):
        super().__init__()
        self.encoder, self.middle = Encoder((8, 16, 24)), twice(24, 24)
        self.work = nn.ModuleList([twice(48, 16), twice(32, 8)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(16, 16, 4, 2, 1), nn.ConvTranspose2d(8, 8, 4, 2, 1)])
        self.head = nn.Sequential(conv(8, 8), nn.Conv2d(8, 3, 1))

    def forward(self, x):
        _, fine, coarse = self.encoder(x)
        x = self.middle(coarse)
        for work, up, skip in zip(self.work, self.up, (coarse, fine), strict=True):
            x = up(work(torch.cat([x, skip], 1)))
        return self.head(x)


@family(
    "images of all levels are summed, the last one's after a block of its own",
    ["blocks.0", "last"],
    ladders=[["middle", "blocks.0", "last"]],
    source="sixteenth",
)
class SummedImages(nn.Module):
    """Of the last level two images are made, before that block and after it."""

    def __init__(self):
        super().__init__()
        self.encoder, self.middle = Encoder((8, 16, 24)), twice(24, 24)
        self.blocks, self.last = nn.ModuleList([twice(40, 16), twice(24, 8)]), twice(8, 8)
        self.images = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in (24, 16, 8, 8))

    def forward(self, x):
        *skips, x = self.encoder(x)
        x = self.middle(x)
        image = self.images[0](x)
        for block, make, skip in zip(self.blocks, self.images[1:], reversed(skips), strict=False):
            x = block(torch.cat([up_to(x, skip), skip], 1))
            image = up_to(image, x) + make(x)
        return image + self.images[3](self.last(x))


@family(
    "the last block makes the logits, for a sigmoid",
    ["blocks.0", "blocks.1", "blocks.2"],
    alts={2: ["in:sigmoid"]},
    source="sixteenth",
)
class ForASigmoid(nn.Module):
    """Unpooling, no skips; the last stage is what the sigmoid is given."""

    class Up(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.up, self.work = nn.MaxUnpool2d(2, 2), nn.Sequential(conv(given, given), conv(given, made))

        def forward(self, x, places):
            return self.work(self.up(x, places))

    def __init__(self):
        super().__init__()
        widths = (8, 16, 24)
        self.down = nn.ModuleList(twice(a, b) for a, b in zip((1, *widths), widths, strict=False))
        self.pool, self.sigmoid = nn.MaxPool2d(2, 2, return_indices=True), nn.Sigmoid()
        self.blocks = nn.ModuleList([self.Up(24, 16), self.Up(16, 8), self.Up(8, 3)])

    def forward(self, x):
        places = []
        for block in self.down:
            x, place = self.pool(block(x))
            places.append(place)
        for block in self.blocks:
            x = block(x, places.pop())
        return self.sigmoid(x)


class Residual(nn.Module):
    def __init__(self, given, made):
        super().__init__()
        self.skip = nn.Conv2d(given, made, 1) if given != made else nn.Identity()
        self.main = nn.Sequential(
            nn.Conv2d(given, made, 3, padding=1), nn.ReLU(), nn.Conv2d(made, made, 3, padding=1), nn.ReLU()
        )

    def forward(self, x):
        return self.main(x) + self.skip(x)


@family("three blocks on each level, the last of which makes the image", ["up.2", "up.5"], source="twenty-second")
class BlocksToTheImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(Residual(a, b) for a, b in ((1, 8), (8, 16), (16, 16)))
        widths = ((32, 16), (16, 16), (16, 8), (16, 8), (8, 8), (8, 1))
        self.up = nn.ModuleList(Residual(*pair) for pair in widths)

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if i else x)
            skips.append(x)
        for i, block in enumerate(self.up):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skips[1 - i // 3]], 1) if i % 3 == 0 else x)
        return x


@family("the last block makes logits at half the size", ["up.0", "up.1"], source="twenty-third")
class HalfSized(nn.Module):
    """It is of the kind of the others, and only resizing follows (mermaid)."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(self.block(a, b) for a, b in ((1, 8), (8, 16), (16, 24), (24, 24)))
        self.up = nn.ModuleList(self.block(a, b) for a, b in ((48, 16), (32, 3)))

    def block(self, given, made):
        return nn.Sequential(nn.Conv2d(given, made, 3, 1, 1), nn.BatchNorm2d(made))

    def forward(self, x):
        size, skips = x.shape[2:], []
        for i, block in enumerate(self.down):
            x = F.relu(block(F.max_pool2d(x, 2) if i else x))
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=False):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return F.interpolate(x, size)
