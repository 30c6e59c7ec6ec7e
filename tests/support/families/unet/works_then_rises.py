"""Networks whose modules work and then go up, with blocks between them on some levels alone."""

from torch import nn

from support.families.base import family


class WorkAndRise(nn.Sequential):
    def __init__(self, given, made):
        super().__init__(nn.Conv2d(given, made, 1), nn.Upsample(scale_factor=2))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layers = nn.Sequential(nn.GroupNorm(2, c), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x):
        return x + self.layers(x)


@family("only a norm before what works and goes up", ["first", "work.0", "work.1"], source="twenty-second")
class Generated(nn.Module):
    """The layer before each rise belongs to what goes up, where no block stands before it too."""

    def __init__(self):
        super().__init__()
        strides = [nn.Conv2d(a, b, 3, 2, 1) for a, b in ((1, 8), (8, 16), (16, 24))]
        self.down = nn.Sequential(*strides, nn.Conv2d(24, 4, 1))
        self.first = nn.Sequential(nn.Conv2d(4, 32, 1), nn.Upsample(scale_factor=2), nn.GroupNorm(2, 32), nn.ReLU())
        self.rise = nn.ModuleList([WorkAndRise(32, 16), WorkAndRise(16, 8)])
        self.work = nn.ModuleList([Block(16), Block(8)])
        self.logits = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.first(self.down(x))
        for rise, work in zip(self.rise, self.work, strict=True):
            x = work(rise(x))
        return self.logits(x)


@family("a block at the bottom, layers that go up beside it in one sequence", ["up.1", "up.2"], source="twenty-third")
class BlockThenLayersUp(nn.Module):
    """What stands in one sequence is of one kind, but a layer that goes up does not work as a block does (DALL-E)."""

    def __init__(self):
        super().__init__()
        strides = [nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()) for a, b in ((1, 8), (8, 16))]
        rises = [nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()) for a, b in ((16, 16), (16, 8))]
        self.down = nn.Sequential(*strides, nn.Conv2d(16, 6, 1), nn.Conv2d(6, 16, 1))
        self.up = nn.Sequential(Block(16), *rises, nn.Conv2d(8, 3, 1))

    def forward(self, x):
        return self.up(self.down(x))
