"""Ways up beside which logits come: those of a level laid beside the next, between bounds, products with a vector."""

import torch
from torch import nn

from support.families.base import family
from support.families.layers import Encoder, conv


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
