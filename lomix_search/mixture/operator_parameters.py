"""The parameters of operators that learn: which ones the maps of a mixture have, and whether given ones are those."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lomix_search.mixture.maps import Map
from lomix_search.mixture.operators import find_operator


def operator_shapes(maps: Iterable[Map], num_classes: int) -> dict[str, torch.Size]:
    """Return the shape of each parameter that the operators of maps have, without making any.

    Args:
        maps: The maps.
        num_classes: C, channels of every map.

    Returns:
        Shapes by state_dict name, such as ``concat(1,2).weight``.
    """
    users = {m.parameters: m for m in maps if m.parameters is not None}
    kinds: dict[tuple[str, int], Mapping[str, Tensor]] = {}
    for m in users.values():
        kind, factory = (m.operator, len(m.scales)), find_operator(m.operator).module
        if kind not in kinds and factory is not None:
            with torch.device("meta"):
                kinds[kind] = factory(num_classes, len(m.scales)).state_dict()
    return {
        f"{key}.{name}": one.shape for key, m in users.items() for name, one in kinds[m.operator, len(m.scales)].items()
    }


def misfits(given: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> list[str]:
    """Say what is wrong with parameters.

    Args:
        given: By state_dict name.
        shapes: What their operators have.

    Returns:
        One line for each that no operator has, of another shape, or not finite.
    """
    return [fault for name, one in given.items() if (fault := _misfit(name, one, shapes.get(name)))]


def _misfit(name: str, one: Tensor, shape: torch.Size | None) -> str:
    if shape is None:
        return f"{name}: no operator of this mixture has it"
    if one.shape != shape:
        return f"{name}: shape {tuple(one.shape)}, its operator has {tuple(shape)}"
    return "" if bool(one.isfinite().all()) else f"{name}: values that are not finite"
