"""The paper's network: a PVTv2-B2 encoder under a decoder of multi-scale convolutional attention.

The decoder is written from the description in the EMCAD paper (Rahman et al., CVPR 2024); its authors' code is neither
used nor needed. Where the description leaves something open, the choice made here stands beside the line.

    stride 32        16            8             4
    512 ─attend─ up ─ + ─attend─ up ─ + ─attend─ up ─ + ─attend─ head ─ ×4 ─→ logits
                gated skip 320    gated skip 128   gated skip 64

The four ``attend`` modules are the stages that the mixture supervises. Several recipes share this file;
``lomix cp`` puts a copy beside the recipe that it copies, to change as you like.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lomix_search.errors import DataError, require


class ChannelAttention(nn.Module):
    """Weigh channels by what a small shared network makes of their maxima and means."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.shared = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.ReLU(), nn.Conv2d(inner, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        return x * torch.sigmoid(self.shared(x.amax((2, 3), keepdim=True)) + self.shared(x.mean((2, 3), keepdim=True)))


class SpatialAttention(nn.Module):
    """Weigh pixels by a 7 × 7 convolution over the maximum and the mean of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        return x * torch.sigmoid(self.conv(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)))


class MultiScaleConvolution(nn.Module):
    """Expand, convolve depth-wise with kernels 1, 3 and 5 side by side, add up, shuffle, project; with a shortcut."""

    def __init__(self, channels: int, expansion: int = 2, kernels: Sequence[int] = (1, 3, 5)) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6())
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inner, inner, k, padding=k // 2, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()
            )
            for k in kernels
        )
        self.shuffle = nn.ChannelShuffle(channels)  # open in the description: as many groups as the input has channels
        self.project = nn.Sequential(nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        wide = self.expand(x)
        return x + self.project(self.shuffle(torch.stack([scale(wide) for scale in self.scales]).sum(0)))


class Attend(nn.Sequential):
    """One stage: channel attention, spatial attention, multi-scale convolution."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__(ChannelAttention(channels), SpatialAttention(), MultiScaleConvolution(channels, expansion))


class Up(nn.Sequential):
    """Double the size: upsampling, a depth-wise 3 × 3 convolution, a projection to the next stage's channels."""

    def __init__(self, channels: int, to: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, to, 1),
        )


class Gate(nn.Module):
    """Let through what the decoder asks of a skip: two grouped 3 × 3 convolutions, added, decide pixel by pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        groups = max(1, inner // 2)  # open in the description: four channels in and two out for each group
        self.of_decoder, self.of_skip = (
            nn.Sequential(nn.Conv2d(channels, inner, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(inner))
            for _ in range(2)
        )
        self.decide = nn.Sequential(nn.ReLU(), nn.Conv2d(inner, 1, 1, bias=False), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, decoder: Tensor, skip: Tensor) -> Tensor:
        """Return the skip, weighed; all of one shape (B, C, H, W)."""
        return skip * self.decide(self.of_decoder(decoder) + self.of_skip(skip))


class PvtAttention(nn.Module):
    """Encoder, decoder and one head; logits at the input's size.

    Args:
        encoder: Returns four feature maps, strides 4, 8, 16, 32.
        widths: Their channels.
        out_channels: Classes; 1 for a binary task by the logistic function.
        expansion: Of the multi-scale convolutions.
    """

    def __init__(self, encoder: nn.Module, widths: Sequence[int], out_channels: int, expansion: int = 2) -> None:
        super().__init__()
        down = list(widths)[::-1]
        self.encoder = encoder
        self.attend = nn.ModuleList(Attend(width, expansion) for width in down)
        self.up = nn.ModuleList(Up(width, to) for width, to in pairwise(down))
        self.gate = nn.ModuleList(Gate(width) for width in down[1:])
        self.head = nn.Conv2d(down[-1], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, out_channels, H, W) for (B, 1 or 3, H, W); H and W are multiples of 32."""
        rgb = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image  # the encoder was pretrained on colour
        features = self.encoder(rgb).feature_maps[::-1]
        x = self.attend[0](features[0])
        for attend, up, gate, skip in zip(self.attend[1:], self.up, self.gate, features[1:], strict=True):
            x = up(x)
            x = attend(x + gate(x, skip))
        return F.interpolate(self.head(x), scale_factor=4.0, mode="bilinear", align_corners=False)


def build(
    out_channels: int,
    weights: str | None = None,
    widths: Sequence[int] = (64, 128, 320, 512),
    depths: Sequence[int] = (3, 4, 6, 3),
    expansion: int = 2,
) -> PvtAttention:
    """Build the network.

    Args:
        out_channels: Classes, the background included; 1 for a binary task.
        weights: Local ``.safetensors`` of ``OpenGVLab/pvt_v2_b2`` (or another PVTv2 of these sizes); random when left
            out. The paper starts from ImageNet's.
        widths: Channels of the encoder's four levels; PVTv2-B2's.
        depths: Blocks of the four levels; PVTv2-B2's.
        expansion: Of the multi-scale convolutions.

    Returns:
        The network.

    Raises:
        DataError: the weights do not fit.
        MissingExtraError: transformers is not installed.
    """
    models = require("transformers.models.pvt_v2", "paper")
    config = models.PvtV2Config(
        hidden_sizes=list(widths),
        depths=list(depths),
        num_attention_heads=[1, 2, 5, 8],
        mlp_ratios=[8, 8, 4, 4],
        drop_path_rate=0.1,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    encoder = models.PvtV2Backbone(config)
    if weights is None:
        _spread_biases(encoder)
    else:
        _load(encoder, Path(weights))
    return PvtAttention(encoder, widths, out_channels, expansion)


def _spread_biases(encoder: nn.Module) -> None:
    """Start the embeddings' biases as PyTorch starts a convolution's, not at 0 as PVTv2 does.

    A patch of zeros (air around a patient) would become a vector of zeros, whose LayerNorm multiplies the gradient by
    1/√eps = 1000; layer upon layer that ends in infinity. Seen with a CT clipped to 0 … 1; trained weights are safe.
    """
    for name, module in encoder.named_modules():
        if name.endswith("patch_embedding.proj") and isinstance(module, nn.Conv2d) and module.bias is not None:
            bound = module.weight[0].numel() ** -0.5
            nn.init.uniform_(module.bias, -bound, bound)


def _load(encoder: nn.Module, path: Path) -> None:
    if path.suffix != ".safetensors" or not path.is_file():
        raise DataError(f"network.args.weights = {str(path)!r}: not a .safetensors file.", hint="download pvt_v2_b2")
    found: dict[str, Any] = require("safetensors.torch", "paper").load_file(path)
    wanted = encoder.state_dict()
    found = {key.removeprefix("pvt_v2."): value for key, value in found.items() if not key.startswith("classifier")}
    if missing := [key for key, value in wanted.items() if key not in found or found[key].shape != value.shape]:
        raise DataError(f"{path} does not fit the encoder.", seen=f"{len(missing)} tensors, the first: {missing[0]}")
    encoder.load_state_dict({key: found[key] for key in wanted})
