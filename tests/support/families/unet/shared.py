"""U-Nets after what was not right at once of the list "unseen-4": parts that several levels or decoders share."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, twice, up_to


class Picture(Tensor):
    """A tensor of a class of its own, which each operation hands on, with a note that it carries."""

    note = ""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        made = super().__torch_function__(function, types, args, kwargs or {})
        noted = [one.note for one in args if isinstance(one, Picture)]
        if isinstance(made, Picture) and noted:
            made.note = noted[0]
        return made


class AsPicture(nn.Module):
    def forward(self, x):
        made = x.as_subclass(Picture)
        made.note = "seen"
        return made


@family("on hooks, with tensors of a class of its own", ["ups.0", "ups.1", "ups.2"], source="thirteenth")
class OnHooks(nn.Module):
    """Hooks on an encoder keep the skips; the layers before and after it make tensors of another class."""

    class Up(nn.Module):
        def __init__(self, c, beside, made, kept, name):
            super().__init__()
            self.expand, self.norm = nn.Conv2d(c, 4 * (c // 2), 1), nn.BatchNorm2d(beside)
            self.work, self.kept, self.name = twice(c // 2 + beside, made), kept, name

        def forward(self, x):
            x, skip = F.pixel_shuffle(self.expand(x), 2), self.norm(self.kept[self.name])
            return self.work(torch.cat([x, skip], 1).relu())

    def __init__(self, widths=(8, 16, 24, 32)):
        super().__init__()
        self.first, self.encoder, self.kept = AsPicture(), Encoder(widths), {}
        for i, layer in enumerate(self.encoder.layers[:-1]):
            layer.register_forward_hook(self.keeper(i))
        self.middle = twice(32, 32)
        sizes = zip(widths[:0:-1], widths[-2::-1], (2, 1, 0), strict=True)
        self.ups = nn.ModuleList(self.Up(a, b, b, self.kept, i) for a, b, i in sizes)
        self.head, self.last = nn.Conv2d(8, 3, 1), AsPicture()

    def keeper(self, name):
        def keep(_module, _given, made):
            self.kept[name] = made

        return keep

    def forward(self, x):
        x = self.middle(self.encoder(self.first(x))[-1])
        for up in self.ups:
            x = up(x)
        return self.last(self.head(x))


@family(
    "features returned beside the logits, one dropout", ["net.ups.0", "net.ups.1", "net.ups.2"], source="thirteenth"
)
class FeaturesToo(nn.Module):
    """One dropout ends all levels; the last map is enlarged to the image, and the network returns what it enlarged."""

    class Net(nn.Module):
        def __init__(self, widths=(8, 16, 24, 32)):
            super().__init__()
            self.encoder, self.drop, self.head = Encoder(widths, stem=2), nn.Dropout(), nn.Conv2d(8, 3, 1)
            self.ups = nn.ModuleList(twice(a + b, b) for a, b in itertools.pairwise(widths[::-1]))

        def forward(self, image):
            *skips, x = self.encoder(image)
            for up, skip in zip(self.ups, skips[::-1], strict=True):
                x = self.drop(up(torch.cat([up_to(x, skip), skip], 1)))
            return {"features": x, "logits": self.head(up_to(x, image))}

    def __init__(self):
        super().__init__()
        self.net = self.Net()

    def forward(self, x):
        return self.net(x)["logits"]


@family(
    "two decoders whose last blocks make the logits",
    ["first.0", "first.1", "first.2.0"],
    source="thirteenth",
    alts={2: ["first.2"]},
)
class TwoLastBlocks(nn.Module):
    """They share what goes up, and their probabilities are laid beside each other."""

    def __init__(self, widths=(8, 16, 24, 32)):
        super().__init__()
        self.encoder = Encoder(widths)
        steps = list(itertools.pairwise(widths[::-1]))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, a, 2, 2) for a, _ in steps)
        self.first, self.second = self.decoder(steps, 3), self.decoder(steps, 1)

    @staticmethod
    def decoder(steps, classes):
        blocks = [nn.Sequential(conv(a + b, b), conv(b, b)) for a, b in steps[:-1]]
        a, b = steps[-1]
        last = nn.Sequential(conv(a + b, classes), nn.Conv2d(classes, classes, 3, padding=1), nn.BatchNorm2d(classes))
        return nn.ModuleList([*blocks, nn.Sequential(last, nn.Sigmoid())])

    def forward(self, image):
        made = []
        for blocks in (self.first, self.second):
            *skips, x = self.encoder(image)
            for up, block, skip in zip(self.ups, blocks, skips[::-1], strict=True):
                x = block(torch.cat([up(x), skip], 1))
            made.append(x)
        return torch.cat(made, 1)


@family(
    "a pyramid smoothed on all levels, brought to one size by blocks",
    ["neck.smooth3", "neck.smooth2", "neck.smooth1", "in:decoder.head"],
    source="thirteenth",
)
class Smoothed(nn.Module):
    """Lateral and smoothing layers are built alike; each level goes up by its own blocks, and the head has the mean."""

    class Block(nn.Sequential):
        def __init__(self, given, made, kernel):
            super().__init__(nn.Conv2d(given, made, kernel, padding=kernel // 2), nn.Identity(), nn.Identity())

    class Neck(nn.Module):
        def __init__(self, widths):
            super().__init__()
            for i, c in enumerate(widths):
                setattr(self, f"lateral{i}", Smoothed.Block(c, 8, 1))
                setattr(self, f"smooth{i}", Smoothed.Block(8, 8, 3))

        def forward(self, features):
            x, made = None, []
            for i in (3, 2, 1, 0):
                lateral = getattr(self, f"lateral{i}")(features[i])
                x = lateral if x is None else lateral + up_to(x, lateral, "nearest")
                made.append(getattr(self, f"smooth{i}")(x))
            return made[::-1]

    def __init__(self, widths=(8, 16, 24, 32)):
        super().__init__()
        self.encoder, self.neck = Encoder(widths, stem=2), self.Neck(widths)
        steps = [[conv(8, 8)], *([self.step() for _ in range(i)] for i in (1, 2, 3))]
        rises = nn.ModuleList(nn.Sequential(*one) for one in steps)
        self.decoder = nn.ModuleDict({"rises": rises, "head": nn.Conv2d(8, 3, 3, padding=1)})

    @staticmethod
    def step():
        return nn.Sequential(conv(8, 8), nn.UpsamplingBilinear2d(scale_factor=2))

    def forward(self, image):
        made = [rise(x) for rise, x in zip(self.decoder["rises"], self.neck(self.encoder(image)), strict=True)]
        return F.interpolate(self.decoder["head"](sum(made) / len(made)), image.shape[2:])
