"""Whether an engine of the loss agrees with the reference, in losses and gradients."""

import os

import torch
from torch import Tensor

from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.dispatch import choose_engine
from support.mixture_losses import taken

RULES = ("add", "mul", "sub", "avg", "max", "concat", "attention")


def able() -> list[str]:
    """Engines other than the reference that run here; C++ wherever a compiler is, Triton on its interpreter."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ["triton"]
    return ["tiled", "native"] if choose_engine("auto", "cpu") == "native" else ["tiled"]


def outcome(loss: MixtureLoss, maps: list[Tensor], labels: Tensor, engine: str) -> list[Tensor]:
    """Return total, per-map losses and the gradients of maps, parameters and weights."""
    loss.engine = engine
    leaves = [one.detach().requires_grad_() for one in maps]
    step = taken(loss, leaves, labels)
    wanted = [*leaves, *loss.parameters()]
    grads = torch.autograd.grad(step.total, wanted, allow_unused=True)
    filled = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(grads, wanted, strict=True)]
    return [step.total.detach(), step.per_map.nan_to_num(-1), *filled]


def agree(found: list[Tensor], expected: list[Tensor], tolerance: float, case: dict[str, object]) -> None:
    """Compare relative to the largest value of each tensor.

    Where a map is certain and right, losses and gradients are mere rounding: of differences between numbers of order
    1 / pixels, times a logit for those of the fused maps and times another for the parameters'. Smaller ones are
    resolved no better by the reference. Where logits are 1e4, softmax turns their rounding into 1e-12 of each
    exponential, and differences of those lose two digits more: there a digit is given away. In float32 the rounding of
    such differences is a larger part of the tolerance: the reference itself is off by 6e-5 of a gradient of 1e-4.
    """
    rounding = 1e-2 if tolerance > 1e-6 else 1e-4
    tolerance *= 10 if case["scale"] > 100 else 1
    noise = rounding * max(1, case["scale"]) ** 2 / case["pixels"]
    for i, (f, e) in enumerate(zip(found, expected, strict=True)):
        scale = max(float(e.abs().max()), noise)
        assert f.shape == e.shape
        assert f.dtype == e.dtype
        assert float((f - e).abs().max()) <= tolerance * scale, (i, f, e)


plain = {"scale": 1.0, "pixels": 1}


def right_by_differences(engine: str, classes: int, fast_mode: bool = False) -> bool:
    """Check gradients by maps and parameters by finite differences; in ``fast_mode`` along one random direction."""
    loss = MixtureLoss("extended", 2, classes, engine=engine).double()
    maps = [torch.randn(1, classes, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    labels = torch.randint(2, (1, 3))
    names, parameters = zip(*loss.named_parameters(), strict=True)

    def total(*values: Tensor) -> Tensor:
        bound = dict(zip(names, values[2:], strict=True))
        return torch.func.functional_call(loss, bound, (values[:2], labels))

    values = [*maps, *parameters]
    if not fast_mode:
        return torch.autograd.gradcheck(total, values)
    sizes, shapes = [one.numel() for one in values], [one.shape for one in values]

    def of_one_vector(flat: Tensor) -> Tensor:
        return total(*(part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)))

    flat = torch.cat([one.detach().reshape(-1) for one in values]).requires_grad_()
    return torch.autograd.gradcheck(of_one_vector, flat, fast_mode=True)
