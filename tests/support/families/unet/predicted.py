"""Ways up beside which logits come: those of a level laid beside the next, between bounds, products with a vector."""

import torch
from torch import nn
from torch.nn import functional as F

from support.families.base import family
from support.families.layers import Encoder, conv, up_to


@family(
    "flows of each level come up beside it",
    ["in:heads.0", "in:heads.1", "in:heads.2"],
    (1, 2, 1, 32, 32),
    source="twenty-first",
    started=True,
)
class Flows(nn.Module):
    """As FlowNet and PWC-Net: two frames in, and an axis of frames out, of which the only one is taken."""

    def __init__(self, widths=(8, 12, 16)):
        super().__init__()
        self.encoder, self.heads = (
            Encoder(widths, 2),
            nn.ModuleList(nn.Conv2d(c, 2, 3, padding=1) for c in (24, 22, 18)),
        )
        self.bottom = conv(16, 8)
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, 2, 4, 2, 1) for c in (24, 22))
        self.flow = nn.ModuleList(nn.ConvTranspose2d(2, 2, 4, 2, 1) for _ in range(2))
        self.work = nn.ModuleList([conv(16, 6), conv(12, 6)])

    def forward(self, frames):
        *skips, x = self.encoder(frames.flatten(1, 2))
        x = torch.cat([self.bottom(x), x], 1)
        flow = self.heads[0](x)
        for up, rise, work, head in zip(self.up, self.flow, self.work, self.heads[1:], strict=True):
            x = torch.cat([skips.pop(), rise(flow), up(x)], 1)
            x = torch.cat([work(x), x], 1)
            flow = head(x)
        return (20 * flow)[:, None][:, 0]


@family("depths of some levels between bounds", ["work.0", "work.1", "work.2"], source="twenty-first")
class Depths(nn.Module):
    """As DispNet: the sigmoid is scaled and shifted, and what it makes of a level is laid beside the next."""

    def __init__(self, widths=(8, 12, 16, 24)):
        super().__init__()
        self.encoder = Encoder(widths)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, 2) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.work = nn.ModuleList([conv(32, 16), conv(25, 12), conv(9, 8)])
        self.heads = nn.ModuleList(nn.Sequential(nn.Conv2d(c, 1, 3, padding=1), nn.Sigmoid()) for c in (16, 12, 8))

    def forward(self, x):
        *skips, x = self.encoder(x)
        depths = []
        for up, work, head in zip(self.up, self.work, self.heads, strict=True):
            x, skip = up(x), skips.pop()
            beside = [skip] if skips else []  # none at full size
            x = work(torch.cat([x, *beside, *(up_to(depth, x) for depth in depths[-1:])], 1))
            depths.append(10 * head(x) + 0.1)
        return depths[::-1]


@family(
    "products with a vector",
    ["work.0", "work.1"],
    (1, 1, 32, 32),
    (1, 1, 6),
    source="twenty-first",
    started=True,
)
class Asked(nn.Module):
    """The logits of each question are products of what a block made, activated, and are laid together."""

    def __init__(self, widths=(8, 12, 16)):
        super().__init__()
        self.encoder, self.ask = Encoder(widths), nn.Linear(6, 8)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in ((16, 12), (12, 8)))
        self.work = nn.ModuleList([conv(24, 12), conv(16, 8)])

    def forward(self, x, questions):
        *skips, x = self.encoder(x)
        for up, work in zip(self.up, self.work, strict=True):
            x = work(torch.cat([up(x), skips.pop()], 1))
        asked = self.ask(questions)
        return torch.cat([torch.einsum("bchw,bqc->bqhw", x, one) for one in asked.split(1, 1)], 1)


@family(
    "a pyramid up and down, whose levels are padded, enlarged, cropped and summed",
    ["refine.2", "refine.1", "tower.1"],
    (1, 3, 64, 64),
    alts={2: ["in:tower"]},
    source="twenty-first",
    started=True,
)
class SummedAtOneSize(nn.Module):
    """A layer works on each level, and several on the sum of all."""

    def __init__(self, widths=(8, 8, 8)):
        super().__init__()
        self.encoder = Encoder(widths, 3, stem=4)
        self.up, self.down = (nn.ModuleList(conv(8, 8) for _ in range(2)) for _ in range(2))
        self.refine = nn.ModuleList(conv(8, 12) for _ in range(3))
        self.tower = nn.Sequential(conv(12, 12), conv(12, 12), nn.Conv2d(12, 4, 1))

    def forward(self, x):
        fine, middle, coarse = self.encoder(x)
        middle_up = self.up[0](middle + up_to(coarse, middle))
        fine = self.up[1](fine + up_to(middle_up, fine))
        middle = self.down[0](middle + middle_up + F.max_pool2d(fine, 2))
        coarse = self.down[1](coarse + F.max_pool2d(middle, 2))
        maps = [refine(y) for refine, y in zip(self.refine, (fine, middle, coarse), strict=True)]
        whole = maps[0]
        for y, times in zip(maps[1:], (2, 4), strict=True):
            y = F.pad(y, (0, 1, 0, 1), "replicate")
            y = F.interpolate(
                y, size=[times * (side - 1) + 1 for side in y.shape[2:]], mode="bilinear", align_corners=True
            )
            whole = whole + F.pad(y, (times // 2, 0, times // 2, 0), "replicate")[..., : fine.shape[2], : fine.shape[3]]
        return self.tower(whole)
