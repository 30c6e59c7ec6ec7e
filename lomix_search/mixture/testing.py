"""The check that users run on an operator of their own."""

import io
import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lomix_search.errors import LomixError
from lomix_search.mixture.operators import Operator, find_operator

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
