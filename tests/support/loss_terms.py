"""Options of the loss, one case for each and for what may stand together: ``CASES``, by name, and what they are of."""

from typing import Any

import torch
from torch import Tensor

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from support.agreement import RULES

STRUCTURE = {"region": "iou", "squared": False, "per_image": True, "smooth": 1.0, "boundary_weight": 5.0}
"""PraNet's."""

ANY: dict[str, dict[str, Any]] = {
    "plain denominators": {"squared": False},
    "per image": {"per_image": True},
    "iou": {"region": "iou"},
    "tversky": {"region": "tversky", "tversky_alpha": 0.3, "tversky_beta": 0.7},
    "generalized": {"region": "generalized_dice"},
    "generalized per image": {"region": "generalized_dice", "per_image": True},
    "focal": {"focal_gamma": 2.0},
    "focal below 1": {"focal_gamma": 0.5, "per_image": True},
    "smoothed": {"label_smoothing": 0.1},
    "top": {"top_k": 0.2},
    "top focal plain": {"top_k": 0.5, "focal_gamma": 1.5, "squared": False},
    "smooth": {"smooth": 1.0},
}
OF_CLASSES: dict[str, dict[str, Any]] = {
    "no background": {"background": False},
    "no background tversky per image": {"background": False, "region": "tversky", "per_image": True},
    "weights": {"class_weights": (0.2, 1.0, 3.0)},
    "weights plain per image": {"class_weights": (0.2, 0.0, 3.0), "squared": False, "per_image": True},
    "weights smoothed": {"class_weights": (0.2, 1.0, 3.0), "label_smoothing": 0.2},
    "weights focal": {"class_weights": (0.2, 1.0, 3.0), "focal_gamma": 2.0},
    "weights top": {"class_weights": (0.2, 1.0, 3.0), "top_k": 0.3},
}
OF_CHANNELS: dict[str, dict[str, Any]] = {
    "weights": {"class_weights": (0.5, 2.0, 3.0)},
    "weights focal": {"class_weights": (0.5, 2.0, 3.0), "focal_gamma": 2.0},
    "weights smoothed top": {"class_weights": (0.5, 2.0, 3.0), "label_smoothing": 0.2, "top_k": 0.3},
    "structure": STRUCTURE,
    "structure of the batch": STRUCTURE | {"per_image": False, "squared": True, "region": "dice"},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{kind}: {name}": (kind, options)
    for kind, own in (("classes", OF_CLASSES), ("regions", OF_CHANNELS), ("binary", OF_CHANNELS))
    for name, options in (ANY | own).items()
}
"""The kind, ``"classes"`` (3), ``"regions"`` (3 channels) or ``"binary"``, and the options."""
ON_INTERPRETER = (
    "classes: weights plain per image",
    "classes: weights focal",
    "classes: weights smoothed",
    "classes: weights top",
    "classes: top focal plain",
    "regions: weights",
    "regions: weights focal",
    "regions: weights smoothed top",
    "regions: structure",
    "binary: per image",
    "binary: focal below 1",
    "binary: smoothed",
    "binary: structure of the batch",
)
"""Cases in which each branch of the Triton kernels stands once: its interpreter has no time for all."""


def built(kind: str, options: dict[str, Any], operators: tuple[str, ...] = RULES, **more: Any) -> MixtureLoss:
    channels = 1 if kind == "binary" else 3
    if kind == "binary" and "class_weights" in options:
        options = options | {"class_weights": options["class_weights"][1:2]}
    space = SearchSpace(operator=tuple({"name": name} for name in operators))  # type: ignore[arg-type]
    torch.manual_seed(3)
    options = {"ignore_index": 200, "multilabel": kind == "regions"} | options | more
    return MixtureLoss(space, 3, channels, **options).double()


def given(
    kind: str, size: tuple[int, ...] = (6, 9), ignored: float = 0.2, batch: int = 2
) -> tuple[list[Tensor], Tensor]:
    """Maps and labels; a part is ignored, and holds NaN in the maps."""
    torch.manual_seed(5)
    channels = 1 if kind == "binary" else 3
    out = torch.rand(batch, *size) < ignored
    maps = [2 * torch.randn(batch, channels, *size, dtype=torch.float64) for _ in range(3)]
    maps = [one.masked_fill(out[:, None], torch.nan) for one in maps]
    if kind == "regions":
        return maps, (torch.rand(batch, 3, *size) < 0.4).long().masked_fill(out[:, None], 200)
    return maps, torch.randint(2 if kind == "binary" else 3, (batch, *size)).masked_fill(out, 200)
