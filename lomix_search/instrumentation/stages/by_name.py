"""The stages that a user names."""

import re
from collections.abc import Sequence

from torch import fx, nn

from lomix_search.errors import StageError, nearest
from lomix_search.instrumentation.stages.layouts import layout_of
from lomix_search.instrumentation.trace import Trace, sizes, spell


def maps_by_name(found: Trace, network: nn.Module, names: Sequence[str]) -> list[fx.Node]:
    """Return the values at the places that the user names.

    Args:
        found: A trace.
        network: The user's network.
        names: As :func:`named` takes them.

    Returns:
        Nodes in the same order.

    Raises:
        StageError: a name gives no map, two give the same one, or the names are no list.
    """
    if isinstance(names, str):
        raise StageError(f'stages="{names}" is no list of names.', hint=f'stages=["{names}", …], two or more')
    nodes: dict[fx.Node, str] = {}
    for name in names:
        node = map_by_name(found, network, name)
        if node in nodes:
            raise StageError(
                f'stages=[…] names one map of {type(network).__name__} twice: "{nodes[node]}" and "{name}".',
                hint="leave one of them out",
            )
        nodes[node] = name
    return list(nodes)


def map_by_name(found: Trace, network: nn.Module, name: str) -> fx.Node:
    """Return the value at a place that the user names.

    Args:
        found: A trace.
        network: The user's network.
        name: A module path; ``in:path`` is the module's first input, ``path#2`` its third call, ``path[1]['key'].attr``
            a place in what it returns, ``in:path[0][1]`` its second argument.

    Returns:
        The node of the tensor.

    Raises:
        StageError: no such module, it did not run, or it gives no feature map.
    """
    known = [known or "." for known, _ in network.named_modules()]
    path = name.removeprefix("in:")
    while path not in known and (cut := max(map(path.rfind, ".[#"))) > 0:
        path = path[:cut]
    rest = re.fullmatch(r"(?:#(\d+))?(.*)", name.removeprefix("in:")[len(path) :])
    if path not in known or rest is None:
        path = name.removeprefix("in:")
        near = nearest(path, known, listed=[k for k in known if k.count(".") <= path.count(".")][:40])
        raise StageError(
            f'{type(network).__name__} has no module "{path}", which stages=[…] names.',
            seen=near,
            hint="[name for name, _ in net.named_modules()]   # all that there are",
        )
    calls = [c for c in found.calls if (c.path or ".") == path and c.index == int(rest[1] or 0)]
    values = [value for c in calls for value in (c.inputs if name.startswith("in:") else c.outputs)]
    maps = [node for place, node in values if layout_of(node) and rest[2] in ("", spell(place))]
    if not maps:
        raise StageError(
            f'"{name}", which stages=[…] names, gives no feature map when the model runs.',
            seen=[f"{spell(at)}: {sizes(node.meta.get('shape', ()))}".removeprefix(": ") for at, node in values]
            or "the module is never called",
            hint="name modules that return batch × channels × size tensors; print(net) lists them",
        )
    return maps[0]
