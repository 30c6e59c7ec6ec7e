"""The checks that users run on what they wrote: ``check_operator`` and ``check_weighting``."""

import io
import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import LomixError, LossError
from lomix_search.mixture.operators import Operator, find_operator
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Weighting, build_weighting

ORDERS = 120
"""Orders of the maps that are tried, at most: all orders of five maps."""


class OperatorFault(LomixError, AssertionError):
    """An operator does not keep what its registration promises."""


def check_operator(name: str, *, classes: Iterable[int] = (1, 3), arities: Iterable[int] = (2, 3, 4)) -> None:
    """Check that a registered operator is fit for a search: call it in a test of your own.

    Tried in 1D, 2D and 3D, on CPU in float64: the mutant has the shape and type of its maps, no map is changed in
    place, the gradient reaches every map and every parameter and is right (finite differences), the order of maps does
    not matter if ``symmetric=True``, the same input gives the same mutant, and the parameters survive a state_dict.

    Args:
        name: The name that ``@operator`` was given.
        classes: Numbers of channels to try.
        arities: Numbers of maps to try.

    Raises:
        OperatorFault: what is wrong, and with which shapes; or there is nothing to try.
        SpaceError: no such operator.

    Example:
        >>> check_operator("add")
    """
    row, numbers, channel_numbers = find_operator(name), tuple(arities), tuple(classes)
    if not numbers or not channel_numbers:
        raise OperatorFault(f'check_operator("{name}") was given nothing to try.', hint=f'check_operator("{name}")')
    for arity in numbers:
        for channels in channel_numbers:
            for spatial in ((5,), (2, 3), (2, 1, 2)):
                _check_case(row, _maps(arity, channels, spatial))


class WeightingFault(LomixError, AssertionError):
    """A weighting does not keep what a search asks of it."""


def check_weighting(name: str, **settings: Any) -> None:
    """Check that a registered weighting is fit for a search: call it in a test of your own.

    Tried on seven maps, with losses in float64: the total is one finite number of their type, the weights are finite,
    ≥ 0, and 0 for maps that are not active, a gradient reaches every loss that counts and every parameter, dropped maps
    weigh 0 (a weighting may also refuse to drop any), and the state survives a state_dict.

    Args:
        name: The name that ``@weighting`` was given.
        **settings: Its settings, as in a recipe's ``[weighting]`` table.

    Raises:
        WeightingFault: what is wrong.
        LossError: no such weighting, or settings that it does not have.

    Example:
        >>> check_weighting("softplus")
    """
    maps = tuple(SearchSpace.load("mutation").maps(3))
    built = build_weighting(name, maps, settings)
    for progress in (0.0, 0.5, 1.0):
        built.advance(progress)
        _check_step(name, built)
    _check_resumed(name, built, build_weighting(name, maps, settings))
    _check_dropping(name, built)


def _check_step(name: str, built: Weighting) -> None:
    """Check one step, and let the parameters move."""
    losses = torch.linspace(0.1, 1.3, len(built.map_ids), dtype=torch.float64)
    losses = losses.where(torch.tensor(built.active()), 0.0).requires_grad_()
    total, parameters = built(losses), list(built.parameters())
    if not isinstance(total, Tensor) or total.shape != () or total.dtype != losses.dtype or not total.isfinite():
        raise WeightingFault(
            f'weighting "{name}": its total is not one finite number of the losses\' type.',
            seen=f"{total}",
            hint="return (self.weights().to(losses.dtype) * losses).sum()   # in forward",
        )
    if not total.requires_grad:
        raise WeightingFault(f'weighting "{name}" lets no gradient through.', hint="use no .detach() in forward")
    by_loss, *grads = torch.autograd.grad(total, [losses, *parameters], allow_unused=True)
    dead = [n for (n, _), g in zip(built.named_parameters(), grads, strict=True) if g is None or not g.isfinite().all()]
    if by_loss is None or not by_loss.isfinite().all() or dead:
        where = ", ".join(dead) or "the losses"
        raise WeightingFault(
            f'weighting "{name}" lets no finite gradient through to {where}.',
            hint="use each of them in forward, and .clamp_min(1e-8) before log, sqrt and division",
        )
    _check_weights(name, built)
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.sub_(0.1 * grad)


def _check_weights(name: str, built: Weighting) -> None:
    weights, active = built.weights().detach(), built.active()
    if weights.shape != (len(built.map_ids),) or not weights.isfinite().all() or (weights < 0).any():
        raise WeightingFault(
            f'weighting "{name}": its weights are not one finite number ≥ 0 a map.',
            seen=f"{weights}",
            hint="return torch.nn.functional.softplus(self.theta) * self.kept   # in weights, θ one number a map",
        )
    if len(active) != len(weights) or (weights[~torch.tensor(active)] != 0).any():
        raise WeightingFault(
            f'weighting "{name}": active() skips maps that have weight, or is not one answer a map.',
            seen=[f"active:  {active}", f"weights: {weights.tolist()}"],
            hint="leave active() out: Weighting's own counts every map that is kept",
        )


def _check_resumed(name: str, built: Weighting, again: Weighting) -> None:
    again.load_state_dict(built.state_dict())
    if not torch.equal(again.weights(), built.weights()) or again.active() != built.active():
        raise WeightingFault(
            f'weighting "{name}" differs after its state_dict was saved and loaded.',
            hint="register all state as parameters and buffers, or return it from get_extra_state()",
        )


def _check_dropping(name: str, built: Weighting) -> None:
    kept = [map_id for map_id, active in zip(built.map_ids, built.active(), strict=True) if active][:1]
    try:
        built.keep(kept)
    except LossError:  # it says so itself
        return
    weights = dict(zip(built.map_ids, built.weights().tolist(), strict=True))
    if left := [map_id for map_id, weight in weights.items() if weight and map_id not in kept]:
        raise WeightingFault(
            f'weighting "{name}": maps that were dropped still weigh.',
            seen=", ".join(left),
            hint="return weights * self.kept",
        )


def _check_case(row: Operator, maps: list[Tensor]) -> None:
    fuse = _build(row, maps)
    before = [m.detach().clone() for m in maps]
    mutant = _call(row, fuse, maps)
    _check_value(row, mutant, maps)
    if not all(torch.equal(m, b) for m, b in zip(maps, before, strict=True)):
        raise _fault(row, maps, "changes its maps in place", "work on m.clone()")
    if not torch.equal(mutant, _call(row, fuse, maps)):
        raise _fault(row, maps, "gives another mutant when called again", "draw no random numbers in an operator")
    for order in itertools.islice(itertools.permutations(maps), 1, ORDERS) if row.symmetric else ():
        if not torch.allclose(mutant, _call(row, fuse, list(order)), rtol=1e-9, atol=1e-12):
            raise _fault(row, maps, "is declared symmetric but the order matters", f'@operator("{row.name}")')
    _check_gradient(row, fuse, maps, mutant)
    _check_state(row, fuse, maps, mutant)


def _check_value(row: Operator, mutant: object, maps: list[Tensor]) -> None:
    if not isinstance(mutant, Tensor):
        raise _fault(row, maps, f"returns {type(mutant).__name__}, not a tensor", "return one map of logits")
    if mutant.shape != maps[0].shape:
        raise _fault(row, maps, f"returns shape {tuple(mutant.shape)}, not that of its maps", "")
    if mutant.dtype != maps[0].dtype:
        raise _fault(row, maps, f"returns {mutant.dtype} for {maps[0].dtype} maps", "keep the type of the maps")
    if not bool(mutant.isfinite().all()):
        raise _fault(row, maps, "returns values that are not finite", "try it on torch.randn maps")


def _check_gradient(row: Operator, fuse: object, maps: list[Tensor], mutant: Tensor) -> None:
    parameters = list(fuse.parameters()) if isinstance(fuse, nn.Module) else []
    if not mutant.requires_grad:
        raise _fault(row, maps, "lets no gradient through", "use no .detach(), argmax or rounding")
    gradients = torch.autograd.grad(mutant.square().sum(), [*maps, *parameters], allow_unused=True)
    names = [f"map {i + 1}" for i in range(len(maps))]
    names += [n for n, _ in fuse.named_parameters()] if isinstance(fuse, nn.Module) else []
    dead = [name for name, g in zip(names, gradients, strict=True) if g is None]
    if dead:
        raise _fault(row, maps, f"lets no gradient through to {', '.join(dead)}", "use every map and every parameter")
    try:
        torch.autograd.gradcheck(lambda *given: _call(row, fuse, list(given)), maps)
    except RuntimeError as cause:  # gradcheck's own message has pages of numbers
        raise _fault(row, maps, "has a wrong gradient", "", str(cause).splitlines()[0]) from None


def _check_state(row: Operator, fuse: object, maps: list[Tensor], mutant: Tensor) -> None:
    if not isinstance(fuse, nn.Module):
        return
    file = io.BytesIO()
    torch.save(fuse.state_dict(), file)
    file.seek(0)
    again = _build(row, maps)
    assert isinstance(again, nn.Module)
    again.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(mutant, _call(row, again, maps)):
        raise _fault(row, maps, "differs after its state_dict was saved and loaded", "register all state as parameters")


def _build(row: Operator, maps: list[Tensor]) -> object:
    return row.fuse if row.module is None else row.module(maps[0].shape[1], len(maps)).double()


def _call(row: Operator, fuse: object, maps: list[Tensor]) -> Tensor:
    assert callable(fuse)
    try:
        mutant: Tensor = fuse(*maps)
    except Exception as cause:
        raise _fault(row, maps, f"fails with {type(cause).__name__}", "", str(cause)) from cause
    return mutant


def _maps(arity: int, channels: int, spatial: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(arity)
    shape = (2, channels, *spatial)
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(arity)]


def _fault(row: Operator, maps: list[Tensor], what: str, hint: str, seen: str = "") -> OperatorFault:
    case = f"{len(maps)} maps of shape {tuple(maps[0].shape)}"
    return OperatorFault(f'operator "{row.name}" {what}.', seen=[case, seen] if seen else case, hint=hint)
