"""Do the maps of a training step fit the loss? Each misfit gets one error that says what to type."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.mixture.loss.plan import LossPlan
from lomix_search.utils.interpolation import MODES

_EVAL = "net.train()  # in eval mode the network returns one map only"
_ONE_PASS = "loss(net(images), labels)  # all maps of one forward pass"


def check_maps(maps: Sequence[Tensor] | Tensor, plan: LossPlan) -> tuple[Tensor, ...]:
    """Check number, rank, channels and batch of the originals.

    Args:
        maps: The originals, or one stacked tensor (L, B, C, *spatial).
        plan: What the loss computes.

    Returns:
        The originals as a tuple of plain tensors, whatever subclass (MONAI's ``MetaTensor``, say) they came as.

    Raises:
        LossError: they do not fit; names the first one that does not.
    """
    if not isinstance(maps, Tensor | list | tuple):
        raise LossError(
            f"The maps are a {type(maps).__name__}; a list of tensors is needed, coarse to fine.",
            hint=_ONE_PASS
            if maps is None
            else f"loss(list(maps{'.values()' if isinstance(maps, Mapping) else ''}), labels)",
        )
    given = tuple(maps.unbind(0)) if isinstance(maps, Tensor) and maps.ndim else tuple(maps)
    _check_tensors(given)
    if len(given) != plan.num_maps:
        _raise_number(maps, given, plan)
    for i, one in enumerate(given):
        if one.ndim - 2 not in MODES or one.shape[1] != plan.num_classes:
            _raise_shape(i, given, plan, isinstance(maps, Tensor))
        if one.shape[0] != given[0].shape[0] or one.ndim != given[0].ndim:
            raise LossError(
                f"The maps have different batch sizes or ranks: map {i + 1} differs.",
                seen=list_shapes(given),
                hint=_ONE_PASS,
            )
        if not one.is_floating_point():
            raise LossError(
                f"Map {i + 1} is {one.dtype}; logits are floating point.",
                hint="loss([one.float() for one in maps], labels)  # of logits: classes and masks have no gradient",
            )
        if 0 in one.shape[2:]:
            raise LossError(
                f"Map {i + 1} has no pixel.",
                seen=list_shapes(given),
                hint="net(torch.nn.functional.interpolate(images, scale_factor=2))  # larger images reach each stage",
            )
    return tuple(one if type(one) is Tensor else one.as_subclass(Tensor) for one in given)


def _check_tensors(given: tuple[Tensor, ...]) -> None:
    """Check that all maps are tensors, on one device."""
    for i, one in enumerate(given):
        if not isinstance(one, Tensor):
            raise LossError(f"Map {i + 1} is a {type(one).__name__}; a tensor is needed.", hint=_tensors_of(one))
        if one.device != given[0].device:
            raise LossError(
                f"Map {i + 1} is on {one.device}, map 1 on {given[0].device}.",
                hint="loss([one.to(labels.device) for one in maps], labels)",
            )


def _tensors_of(one: object) -> str:
    """Say how maps that hold such a thing become a list of tensors."""
    if one is None:
        return "loss([one for one in maps if one is not None], labels)"
    if isinstance(one, Mapping):
        return f"loss([one[{next(iter(one), 'logits')!r}] for one in maps], labels)"
    taken = "one[0]" if isinstance(one, list | tuple) else "torch.as_tensor(one)"
    return f"loss([{taken} for one in maps], labels)"


def _raise_number(maps: Sequence[Tensor] | Tensor, given: tuple[Tensor, ...], plan: LossPlan) -> None:
    kind = f"one tensor {shape_text(maps)}, read as {len(given)} stacked maps" if isinstance(maps, Tensor) else None
    hint = [_EVAL]
    if not isinstance(maps, Tensor):
        hint.append(f"MixtureLoss(…, num_maps={len(given)})  # if it has so many stages")
    raise LossError(
        f"MixtureLoss got {len(given)} maps; it was built for {plan.num_maps}.",
        seen=kind or list_shapes(given),
        hint=hint,
    )


def _raise_shape(i: int, given: tuple[Tensor, ...], plan: LossPlan, stacked: bool) -> None:
    one, hint = given[i], []
    if stacked or one.ndim - 2 not in MODES:
        hint.append(_EVAL)
    if one.ndim - 2 not in MODES:
        what = f"has shape {shape_text(one)}; needed (B, {plan.num_classes}, *spatial) with 1 to 3 spatial axes"
    else:
        what = f"has {one.shape[1]} channels; the loss was built for {plan.num_classes} classes"
        hint.append(f"MixtureLoss(…, num_classes={one.shape[1]})")
    raise LossError(f"Map {i + 1} {what}.", seen=list_shapes(given), hint=hint)


def list_shapes(maps: Sequence[Tensor]) -> list[str]:
    """Return one line a map, for the ``Seen`` of an error."""
    return [f"map {i + 1}: {shape_text(one)}" for i, one in enumerate(maps)] or ["no map"]


def shape_text(one: Tensor) -> str:
    """Return a shape as an error writes it: ``(2, 9, 64, 64)``."""
    return f"({', '.join(map(str, one.shape))})"
