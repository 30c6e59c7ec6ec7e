"""Do the maps and labels of a training step fit the loss? Each misfit gets one error that says what to type."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.loss.plan import Plan

RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""Spatial ranks that the loss knows, and how maps of each are resized."""

EVAL = "net.train()  # in eval mode the network returns one map only"


def check_maps(maps: Sequence[Tensor] | Tensor, plan: Plan) -> tuple[Tensor, ...]:
    """Check number, rank, channels and batch of the originals.

    Args:
        maps: The originals, or one stacked tensor (L, B, C, *spatial).
        plan: What the loss computes.

    Returns:
        The originals as a tuple.

    Raises:
        LossError: they do not fit; names the first one that does not.
    """
    if not isinstance(maps, Tensor | list | tuple):
        raise LossError(f"The maps are a {type(maps).__name__}; a list of tensors is needed, coarse to fine.")
    given = tuple(maps.unbind(0)) if isinstance(maps, Tensor) and maps.ndim else tuple(maps)
    _check_tensors(given)
    if len(given) != plan.num_maps:
        _raise_number(maps, given, plan)
    for i, one in enumerate(given):
        if one.ndim - 2 not in RESIZE or one.shape[1] != plan.num_classes:
            _raise_shape(i, given, plan, isinstance(maps, Tensor))
        if one.shape[0] != given[0].shape[0] or one.ndim != given[0].ndim:
            raise LossError(f"The maps have different batch sizes or ranks: map {i + 1} differs.", seen=_shapes(given))
        if not one.is_floating_point():
            raise LossError(f"Map {i + 1} is {one.dtype}; logits are floating point.")
        if 0 in one.shape[2:]:
            raise LossError(f"Map {i + 1} has no pixel.", seen=_shapes(given))
    return given


def _check_tensors(given: tuple[Tensor, ...]) -> None:
    """Check that all maps are tensors, on one device."""
    for i, one in enumerate(given):
        if not isinstance(one, Tensor):
            raise LossError(f"Map {i + 1} is a {type(one).__name__}; a tensor is needed.")
        if one.device != given[0].device:
            raise LossError(f"Map {i + 1} is on {one.device}, map 1 on {given[0].device}.")


def check_tangents(tangents: Sequence[Tensor], maps: Sequence[Tensor] | Tensor) -> tuple[Tensor, ...]:
    """Check that each tangent has the shape of its map.

    Args:
        tangents: One for each original.
        maps: The originals.

    Returns:
        The tangents as a tuple.

    Raises:
        LossError: they do not fit.
    """
    shapes = [tuple(one.shape) for one in maps], [tuple(one.shape) for one in tangents]
    if shapes[0] != shapes[1]:
        raise LossError(
            "Tangents must have the shapes of their maps.", seen=[f"maps {shapes[0]}", f"tangents {shapes[1]}"]
        )
    return tuple(tangents)


def check_labels(labels: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Check type, rank, batch and device of the labels; their values are ``check_range``'s.

    Args:
        labels: Classes (B, *spatial) or (B, 1, *spatial), any integer type.
        maps: The originals.

    Returns:
        Labels (B, *spatial), int64.

    Raises:
        LossError: they do not fit.
    """
    if not isinstance(labels, Tensor):
        raise LossError(f"Labels are a {type(labels).__name__}; a tensor is needed.", hint="torch.as_tensor(labels)")
    if labels.is_floating_point() or labels.is_complex():
        raise LossError(f"Labels are {labels.dtype}; classes are integers.", hint="loss(maps, labels.long())")
    like = maps[0]
    if labels.ndim == like.ndim and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.ndim != like.ndim - 1:
        raise LossError(
            f"Labels have shape {_shape(labels)}; maps of rank {like.ndim} need (B, *spatial) or (B, 1, *spatial).",
            seen=_shapes(maps),
            hint="loss(maps, one_hot.argmax(1))" if labels.ndim == like.ndim else "",
        )
    if 0 in labels.shape[1:]:
        raise LossError(f"Each image of the labels has no pixel: {_shape(labels)}.", seen=_shapes(maps))
    if labels.shape[0] != like.shape[0]:
        raise LossError(f"Labels have a batch of {labels.shape[0]}, the maps of {like.shape[0]}.", seen=_shapes(maps))
    if labels.device != like.device:
        raise LossError(
            f"Labels are on {labels.device}, the maps on {like.device}.", hint="loss(maps, labels.to(maps[0].device))"
        )
    return labels.long()


def check_range(labels: Tensor, plan: Plan) -> None:
    """Check that every label is a class or the ignored one. Reads the labels, so on a GPU it waits for them.

    Args:
        labels: Classes (B, *spatial).
        plan: What the loss computes.

    Raises:
        LossError: names the values found.
    """
    if labels.numel() and bool(out_of_range(labels, plan).any()):
        raise_range(labels, plan)


def out_of_range(labels: Tensor, plan: Plan) -> Tensor:
    """Return which labels are neither a class nor ignored; one value for all if a first look at the extremes suffices.

    Args:
        labels: Classes (B, *spatial), at least one.
        plan: What the loss computes.

    Returns:
        Booleans; none is true if all is well.
    """
    top = max(plan.num_classes, 2)
    if labels.device.type == "cpu":
        low, high = torch.aminmax(labels)
        if low >= 0 and high < top:
            return torch.zeros((), dtype=torch.bool)
    wrong = (labels < 0) | (labels >= top)
    return wrong if plan.ignore_index is None else wrong & (labels != plan.ignore_index)


def raise_range(labels: Tensor, plan: Plan) -> None:
    """Raise the error of ``check_range``, knowing that a label is out of range."""
    found, counts = torch.unique(labels[out_of_range(labels, plan)], return_counts=True)
    pairs = list(zip(found.tolist(), counts.tolist(), strict=True))
    listed = ", ".join(f"{value} ({count} pixels)" for value, count in pairs[:8])
    top = max(plan.num_classes, 2)
    more = f", … ({len(pairs)} values)" if len(pairs) > 8 else ""
    hints = [f"MixtureLoss(…, ignore_index={pairs[0][0]})  # if these pixels are not to count"]
    if pairs[0][0] >= 0 and pairs[-1][0] < 64 and plan.num_classes > 1:
        hints.append(f"MixtureLoss(…, num_classes={pairs[-1][0] + 1})  # if the network has so many outputs")
    ignored = "" if plan.ignore_index is None else f", {plan.ignore_index} is ignored"
    raise LossError(
        f"Labels hold {len(pairs)} values outside the classes 0 … {top - 1}{ignored}.", seen=listed + more, hint=hints
    )


class LateCheck:
    """The check of label values without waiting for the device: what one step finds, a later one raises.

    Until then the engines leave such pixels out.
    """

    def __init__(self) -> None:
        self._found: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def look(self, labels: Tensor, plan: Plan) -> None:
        """Raise for labels seen earlier, and have a look at these.

        Args:
            labels: Classes (B, *spatial), on any device.
            plan: What the loss computes.

        Raises:
            LossError: labels of an earlier step were out of range; names the extremes.
        """
        self._raise_if_known(plan)
        if self._found is None and labels.numel():
            wrong = out_of_range(labels, plan)
            values = torch.stack([wrong.sum(), labels.where(wrong, 0).amin(), labels.where(wrong, 0).amax()])
            self._found = values.to("cpu", non_blocking=True)
            if labels.is_cuda:
                self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._arrived.record()

    def _raise_if_known(self, plan: Plan) -> None:
        if self._found is None or (self._arrived is not None and not self._arrived.query()):  # type: ignore[no-untyped-call]
            return
        count, low, high = self._found.tolist()
        self._found = self._arrived = None
        if count:
            raise LossError(
                f"{count} labels of an earlier step were outside the classes 0 … {max(plan.num_classes, 2) - 1}.",
                seen=f"values from {low} to {high}",
                hint="MixtureLoss(…, ignore_index=…)  # if these pixels are not to count",
            )

    def __reduce__(self) -> tuple[type["LateCheck"], tuple[()]]:
        """Copies start afresh: events cannot be copied."""
        return LateCheck, ()


def _raise_number(maps: Sequence[Tensor] | Tensor, given: tuple[Tensor, ...], plan: Plan) -> None:
    kind = f"one tensor {_shape(maps)}, read as {len(given)} stacked maps" if isinstance(maps, Tensor) else None
    hint = [EVAL]
    if not isinstance(maps, Tensor):
        hint.append(f"MixtureLoss(…, num_maps={len(given)})  # if it has so many stages")
    raise LossError(
        f"MixtureLoss got {len(given)} maps; it was built for {plan.num_maps}.", seen=kind or _shapes(given), hint=hint
    )


def _raise_shape(i: int, given: tuple[Tensor, ...], plan: Plan, stacked: bool) -> None:
    one, hint = given[i], []
    if stacked or one.ndim - 2 not in RESIZE:
        hint.append(EVAL)
    if one.ndim - 2 not in RESIZE:
        what = f"has shape {_shape(one)}; needed (B, {plan.num_classes}, *spatial) with 1 to 3 spatial axes"
    else:
        what = f"has {one.shape[1]} channels; the loss was built for {plan.num_classes} classes"
        hint.append(f"MixtureLoss(…, num_classes={one.shape[1]})")
    raise LossError(f"Map {i + 1} {what}.", seen=_shapes(given), hint=hint)


def _shapes(maps: Sequence[Tensor]) -> list[str]:
    return [f"map {i + 1}: {_shape(one)}" for i, one in enumerate(maps)] or ["no map"]


def _shape(one: Tensor) -> str:
    return f"({', '.join(map(str, one.shape))})"
