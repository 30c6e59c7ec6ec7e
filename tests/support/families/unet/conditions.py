"""Networks that are told something beside the image, on each level."""

import torch
from torch import nn

from support.families.base import family
from support.families.layers import Encoder, up_to


@family(
    "norms scaled and shifted by labels",
    ["steps.0.block", "steps.1.block", "steps.2"],
    (1, 1, 32, 32),
    (1, 4, 32, 32),
    source="sixteenth",
)
class LabelledNorms(nn.Module):
    """As in SPADE: the maps of labels that each norm takes are no skips; residual blocks, and skips on all levels."""

    class Norm(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm, self.share = nn.InstanceNorm2d(c), nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
            self.scale, self.shift = nn.Conv2d(8, c, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)

        def forward(self, x, labels):
            made = self.share(up_to(labels, x, "nearest"))
            return self.norm(x) * (1 + self.scale(made)) + self.shift(made)

    class Block(nn.Module):
        def __init__(self, given, made):
            super().__init__()
            self.norms = nn.ModuleList([LabelledNorms.Norm(given), LabelledNorms.Norm(made)])
            self.first, self.second = nn.Conv2d(given, made, 3, padding=1), nn.Conv2d(made, made, 3, padding=1)
            self.project, self.act = nn.Conv2d(given, made, 1), nn.SiLU()

        def forward(self, x, labels):
            y = self.first(self.act(self.norms[0](x, labels)))
            return self.project(x) + self.second(self.act(self.norms[1](y, labels)))

    class Step(nn.Module):
        def __init__(self, given, made, last=False):
            super().__init__()
            self.block = LabelledNorms.Block(given, made)
            self.up = nn.Identity() if last else nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(made, made, 1))

        def forward(self, x, skip, labels):
            return self.up(self.block(torch.cat([x, skip], 1), labels))

    def __init__(self):
        super().__init__()
        self.encoder, self.middle = Encoder((8, 16, 24)), nn.Conv2d(24, 24, 3, padding=1)
        self.steps = nn.ModuleList([self.Step(48, 24), self.Step(40, 16), self.Step(24, 8, last=True)])
        self.end = nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x, labels):
        skips = self.encoder(x)
        x = self.middle(skips[-1])
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = step(x, skip, labels)
        return self.end(x)
