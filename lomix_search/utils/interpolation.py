"""Linear interpolation of scores, the same to the last bit on any number of threads."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""What torch calls it, by the number of spatial axes."""


def interpolate(scores: Tensor, size: Sequence[int], *, corners: bool = False, antialias: bool = False) -> Tensor:
    """Resize logits or probabilities linearly.

    Where there are 3 channels of 2 axes on a CPU, torch takes another kernel on one thread than on several, with other
    rounding. So those are handed over one by one: each channel as an image of its own.

    Args:
        scores: (B, C, *spatial).
        size: The spatial size wanted.
        corners: The centres of corner pixels lie on each other; else borders do.
        antialias: Widen the filter where the image shrinks; two axes only.

    Returns:
        (B, C, *size), of the same type.
    """
    alone = scores.device.type == "cpu" and scores.ndim == 4 and scores.shape[1] == 3
    given = scores.flatten(0, 1)[:, None] if alone else scores
    made = F.interpolate(given, tuple(size), mode=MODES[len(size)], align_corners=corners, antialias=antialias)
    return made.view(*scores.shape[:2], *size) if alone else made
