"""Branches that read a map at positions of their own: positions are no maps, and branches no skips."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import conv


class Indexed(nn.Module):
    """Reads rows of a table of all positions, each moved by a layer's offset."""

    def __init__(self, given, made):
        super().__init__()
        self.offset, self.norm, self.work = nn.Conv2d(given, 3, 3, 1, 1), nn.GroupNorm(1, 3), conv(given, made)

    def forward(self, x):
        batch, channels, height, width = x.shape
        moved = torch.tanh(self.norm(self.offset(x)))[:, 0].reshape(-1)
        place = torch.arange(batch * height * width, device=x.device) + moved
        low = place.floor().clamp(0, batch * height * width - 1)
        table = x.permute(0, 2, 3, 1).reshape(-1, channels)
        share = (place - low)[:, None]
        taken = (1 - share) * table[low.long()] + share * table[(low.long() + 1).clamp(max=len(table) - 1)]
        return self.work(taken.reshape(batch, height, width, channels).permute(0, 3, 1, 2))


class Sampled(nn.Module):
    """Reads a map at places by keyword."""

    def __init__(self, given, made):
        super().__init__()
        self.offset, self.work = nn.Conv2d(given, 2, 3, 1, 1), conv(given, made)

    def forward(self, x):
        eye = torch.eye(2, 3).expand(len(x), 2, 3)
        grid = F.affine_grid(eye, list(x.shape), align_corners=False) + 0.1 * self.offset(x).permute(0, 2, 3, 1)
        return self.work(F.grid_sample(input=x, grid=grid, align_corners=False))


@family(
    "branches that read at positions of their own",
    ["levels.3.mix", "levels.4.mix"],
    (2, 3, 32, 32),
    source="twenty-third",
)
class Tubes(nn.Module):
    """Three branches on each level, the bottom too, laid side by side by forward(), which lays the skips there too."""

    def __init__(self):
        super().__init__()
        widths = ((3, 8), (8, 16), (16, 24), (40, 16), (24, 8))
        self.levels = nn.ModuleList(self.branches(*pair) for pair in widths)
        self.logits = nn.Conv2d(8, 2, 1)

    def branches(self, given, made):
        parts = dict(plain=conv(given, made), indexed=Indexed(given, made), sampled=Sampled(given, made))
        return nn.ModuleDict(parts | dict(mix=conv(3 * made, made)))

    def work(self, level, *maps):
        made = [level[name](torch.cat(maps, 1)) for name in ("plain", "indexed", "sampled")]
        return level["mix"](torch.cat(made, 1))

    def forward(self, x):
        skips = []
        for i, level in enumerate(self.levels[:3]):
            x = self.work(level, F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        for level, skip in zip(self.levels[3:], skips[-2::-1], strict=True):
            x = self.work(level, F.interpolate(x, scale_factor=2), skip)
        return self.logits(x)
