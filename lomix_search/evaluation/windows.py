"""Sliding windows: a network that sees blocks, run over whole images, weighted by a Gaussian where blocks overlap."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lomix_search.data.nested_datasets import window_of
from lomix_search.errors import require
from lomix_search.instrumentation.outputs import Reader

OVERLAP = 0.5
"""Share that neighbouring blocks of a volume have in common, along each axis: in validation and evaluation alike."""
_AT_ONCE = 2  # blocks that a network sees at a time


def windowed(
    read: Reader,
    window: Sequence[int],
    at_once: int = _AT_ONCE,
    overlap: float = OVERLAP,
    device: torch.device | str | None = None,
) -> Reader:
    """Run a network block by block.

    Args:
        read: Images (B, C, *window) → logits (B, classes, *window).
        window: Size of a block; an image that is smaller lies in its middle, with 0 around.
        at_once: Blocks at a time.
        overlap: Share that neighbours have in common, in [0, 1).
        device: Where blocks are moved to; images and logits stay where the images are, so that a GPU holds blocks only.

    Returns:
        Images (B, C, *spatial) → logits (B, classes, *spatial) of float32, for any size.
    """
    sliding = require("monai.inferers", "data").sliding_window_inference

    def whole(images: Tensor) -> Tensor:
        places = {"sw_device": device, "device": images.device}
        logits: Tensor = sliding(images, tuple(window), at_once, _full_size, overlap=overlap, mode="gaussian", **places)
        return logits

    def _full_size(blocks: Tensor) -> Tensor:
        return read(blocks).float()

    return whole


def reader_for(items: Any, read: Reader, device: torch.device) -> Reader:
    """Return what reads the logits of a dataset's items: block by block where the dataset says how large these are.

    Args:
        items: A dataset, however nested.
        read: The network's.
        device: Where the network is.

    Returns:
        A reader of images that lie on the CPU, whole volumes where there are blocks.
    """
    window = window_of(items)
    if window is not None:
        return windowed(read, window, device=device)
    return lambda images: read(images.to(device))
