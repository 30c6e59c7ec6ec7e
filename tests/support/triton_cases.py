"""One case for each branch of the Triton kernels, for Triton's interpreter and for a GPU: ``CASES`` and ``build``.

Inputs are as small as the branch allows: the interpreter takes milliseconds for each map of each tile.
"""

import pytest
import torch
from torch import Tensor

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed
from support.agreement import RULES
from support.loss_terms import STRUCTURE

BASE = {
    "operators": RULES,
    "subsets": None,  # sizes of the subsets; None for all
    "per_subset": False,
    "num_maps": 2,
    "batch": 1,
    "classes": 3,
    "size": (3, 5),
    "strides": 1,  # of each map to the next finer one
    "ignored": 200,
    "ignore": "some",
    "scale": 1.0,
    "zeros": False,
    "kept": True,  # originals stay in registers; else each map reads them again, as where classes are many
    "finer": False,  # the first map has more pixels than the labels along one axis
    "outer": None,  # products of inputs and outputs in registers at most; None for what is usual
    "tiles": None,  # of a program, at least; None for what is usual
    "options": {},  # of the loss
    "in_parts": False,  # gradients of coarse originals are gathered tile by tile; else as much at a time as is usual
}
BY_PIXEL = {"focal": {"focal_gamma": 2.0}, "smoothed": {"label_smoothing": 0.1}, "top": {"top_k": 0.3}}
BY_PIXEL |= {"structure": STRUCTURE, "weights": {}}
KINDS = {"linear": ("add", "sub", "avg"), "mul": ("mul",), "max": ("max",), "attention": ("attention",)}
KINDS |= {"concat": ("concat",)}

CASES: dict[str, dict[str, object]] = {
    # kinds of operators: three scales, so that subsets leave one out; one channel is a branch of its own
    **{
        f"{kind}-{c}": {"operators": names, "num_maps": 3, "classes": c}
        for kind, names in KINDS.items()
        for c in (1, 3)
    },
    "none": {"operators": [], "num_maps": 1},
    "per-subset": {"operators": ["concat", "attention"], "num_maps": 2, "per_subset": True, "batch": 2},
    "zeros": {"num_maps": 3, "subsets": (2,), "zeros": True, "operators": ["add", "mul", "concat"]},
    # classes: even and odd numbers, as weights are read in pairs; originals that are not kept; inputs in parts
    "2-classes": {"classes": 2, "operators": ["concat", "attention"]},
    "many-classes": {"kept": False},
    "many-classes-binary": {"kept": False, "classes": 1},
    "inputs-in-parts": {"operators": ["concat"], "outer": 12},
    # numbers of maps
    **{f"{n}-maps": {"num_maps": n, "subsets": (n,), "size": (4,), "classes": 2} for n in (4, 8)},
    # space
    "3d": {"size": (2, 3, 4), "operators": ["add"]},
    "one-pixel": {"size": (1,), "ignore": "none", "operators": ["mul"]},
    "tiles": {"batch": 2, "size": (13, 12), "operators": ["concat", "attention"], "tiles": 1},  # 128 pixels and 28
    "tiles-in-turns": {"size": (13, 12), "operators": ["add", "concat", "attention"], "tiles": 2},
    # originals coarser than the labels, by odd ratios; two images, gathered to their own size at once and in parts
    "coarse": {"num_maps": 3, "subsets": (2,), "strides": 2, "size": (7, 9), "batch": 2, "operators": ["mul"]},
    "coarse-learned": {"strides": 2, "operators": ["attention", "concat"]},
    "coarse-in-parts": {"strides": 3, "size": (13, 12), "batch": 2, "operators": ["add"], "in_parts": True},
    "coarse-by-32": {"strides": 32, "size": (33, 8), "operators": ["add"], "in_parts": True},
    "coarse-1d": {"strides": 8, "size": (131,), "operators": ["add"], "in_parts": True},
    "coarse-3d": {"strides": 3, "size": (3, 7, 8), "operators": ["add"], "in_parts": True},
    "coarse-many-classes": {"strides": 2, "size": (7, 5), "kept": False, "operators": ["max", "concat", "attention"]},
    "coarse-many-classes-3d": {
        "strides": 2,
        "size": (3, 6, 10),
        "classes": 1,
        "kept": False,
        "operators": ["add", "concat"],
        "in_parts": True,
    },
    "coarse-inputs-in-parts": {"strides": 2, "operators": ["concat"], "outer": 12},
    "finer": {"strides": 1, "finer": True, "operators": ["add"]},
    # pixels that do not count
    "a-sample-ignored": {"batch": 2, "ignore": "a sample", "operators": ["add"]},
    "all-ignored": {"ignore": "all", "operators": ["add", "concat"]},
    "ignored-is-a-class": {"ignored": 1, "operators": ["add"]},
    "ignored-is-a-class-binary": {"ignored": 0, "classes": 1, "operators": ["add"]},
    "ignored-is-negative": {"ignored": -100, "operators": ["add"]},
    # options that change each pixel's loss, where originals are not kept, and where tiles are many
    **{
        f"many-classes-{kind}-{name}": {
            "kept": False,
            "classes": classes,
            "batch": 2,
            "operators": ["add", "concat", "attention"],
            "options": options | ({"class_weights": (0.5, 2.0, 3.0)[:classes]} if name != "structure" else {}),
        }
        for kind, classes in (("of-classes", 3), ("binary", 1))
        for name, options in BY_PIXEL.items()
        if name != "structure" or classes == 1
    },
    "coarse-structure": {"strides": 2, "classes": 1, "size": (9, 7), "batch": 2, "options": STRUCTURE},
    "coarse-many-tiles-top": {
        "strides": 2,
        "size": (13, 12),
        "batch": 2,
        "operators": ["add", "attention"],
        "tiles": 2,
        "options": {"top_k": 0.3},
    },
    "nothing-counts-top": {"ignore": "all", "operators": ["add", "concat"], "options": {"top_k": 0.3}},
    # logits so large that only a difference to the greatest one can be exponentiated
    "large": {"scale": 300.0, "operators": ["add", "attention"]},
}


def build(case: dict[str, object], dtype: torch.dtype) -> tuple[MixtureLoss, list[Tensor], Tensor]:
    """Make the loss, its maps and labels of a case; ignored pixels hold what would spoil everything."""
    rules = tuple(
        {"name": name, "per_subset": case["per_subset"]} | ({"sizes": case["subsets"]} if case["subsets"] else {})
        for name in case["operators"]
    )
    space, num_maps, classes, batch = SearchSpace(operator=rules), case["num_maps"], case["classes"], case["batch"]
    options = {"ignore_index": case["ignored"]} | case["options"]
    loss = MixtureLoss(space, num_maps, classes, **options)
    torch.nn.init.normal_(loss.weighting.theta)
    if case["zeros"]:
        chosen = Fixed(loss.maps, [float(i % 3) for i in range(len(loss.maps))])
        loss = MixtureLoss(space, num_maps, classes, chosen, **options)
    sizes = [[max(1, s // case["strides"] ** (num_maps - 1 - i)) for s in case["size"]] for i in range(num_maps)]
    if case["finer"]:  # than the labels along one axis, coarser along the other: resized before
        sizes[0] = [2 * case["size"][0], max(1, case["size"][1] // 2)]
    maps = [torch.randn(batch, classes, *size, dtype=torch.float64).to(dtype) * case["scale"] for size in sizes]
    labels = torch.randint(max(classes, 2), (batch, *case["size"]))
    out = {"none": labels < 0, "some": torch.rand(labels.shape) < 0.3, "all": labels >= 0}
    out["a sample"] = torch.arange(batch).view(batch, *[1] * len(case["size"])).expand_as(labels) == 0
    labels[out[case["ignore"]]] = case["ignored"]
    case["pixels"] = labels.numel()
    return loss.to(dtype), maps, labels


def set_kernels(case: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small inputs take the branches of large ones. Imports Triton."""
    from lomix_search.mixture.loss.backends import triton as host
    from lomix_search.mixture.loss.backends import triton_kernels as kernels
    from lomix_search.mixture.loss.backends import triton_tables
    from lomix_search.mixture.loss.backends.triton_writer import shape

    found = {"KEPT": None if case["kept"] else 0, "OUTER": case["outer"]}
    for name, value in found.items():
        monkeypatch.setattr(shape, name, getattr(shape, name) if value is None else value)
    if case["tiles"]:
        monkeypatch.setattr(host, "TILES", case["tiles"])
    if case["in_parts"]:
        monkeypatch.setattr(host, "PART_BYTES", 1)
        monkeypatch.setattr(host, "PROGRAMS", 1)
    for cached in (kernels.kernels, triton_tables.tables_of):
        cached.cache_clear()
