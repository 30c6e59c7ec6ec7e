"""Maps that a user could name as stages, and how a message shows them: by level, with the line to type."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from torch import fx

from lomix_search.errors import StageError
from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.layouts import map_layout
from lomix_search.instrumentation.stages.operations import weighted
from lomix_search.instrumentation.stages.taps import Tap, tap_name, tap_of
from lomix_search.instrumentation.trace import Trace, ValuePath, sizes, spell

_AT_MOST = 4  # maps of one level that a message shows: the line names the last of them


@dataclasses.dataclass(frozen=True)
class NamedMap:
    """A map and the name that taps it.

    Args:
        name: What ``stages=[…]`` takes.
        channels: Of the map.
        size: Spatial, at the example.
        tap: Where it is had.
    """

    name: str
    channels: int
    size: tuple[int, ...]
    tap: Tap

    def __str__(self) -> str:
        return f"{self.name} ({count_of(self.channels)})"


def named_map(found: Trace, node: fx.Node, tap: Tap) -> NamedMap:
    """Return a value with the name of a tap of it.

    Args:
        found: A trace.
        node: A map of it.
        tap: Where it is had.

    Returns:
        Name, channels and size.
    """
    layout = map_layout(node)
    return NamedMap(tap_name(found, tap), layout.channels, layout.size, tap)


def count_of(channels: int) -> str:
    """Write a number of channels: ``1 channel``."""
    return f"{channels} channel{'s' * (channels != 1)}"


def line_to_type(names: Sequence[str]) -> str:
    """Return the line that takes the stages of these names."""
    return f"instrument(net, example, stages=[{', '.join(map(quoted, names))}])"


def line_that_takes(place: ValuePath, network: str = "net") -> str:
    """Return the line after which a network returns one of its outputs alone."""
    return f"{network}.register_forward_hook(lambda module, inputs, output: output{spell(place)})"


def rival_notes(title: str, found: Trace, maps: Sequence[tuple[ValuePath, fx.Node]]) -> list[str]:
    """Say which of several outputs is taken as the logits, and how to take another.

    Args:
        title: The model's class name.
        found: A trace.
        maps: Where each output that could be meant sits, and its value; the first is taken.

    Returns:
        Lines; none for a single one.
    """
    if len(maps) < 2:
        return []
    lines = [f"{title} returns {len(maps)} maps that could be its logits; output{spell(maps[0][0])} is taken:"]
    for place, node in maps:
        tap, layout = tap_of(found, node), map_layout(node)
        made = f", made by {tap_name(found, tap)}" if tap and tap.path else ""
        lines.append(f"  {sizes(layout.size)}: output{spell(place)} ({count_of(layout.channels)}{made})")
    return [
        *lines,
        "to take another, type this and instrument anew:",
        *(f"  {line_that_takes(at)}" for at, _ in maps[1:]),
    ]


def quoted(name: str) -> str:
    """Write a name as Python would, in the quotes that it does not hold itself."""
    return repr(name) if '"' in name else f'"{name}"'


def by_level(readings: Mapping[str, Sequence[NamedMap]]) -> list[str]:
    """Set readings side by side, a line for each resolution, coarse to fine.

    Args:
        readings: What each is called, and its maps.

    Returns:
        A line of titles and one for each level; "—" where a reading has no map.
    """
    levels = sorted({one.size for maps in readings.values() for one in maps}, key=lambda size: (math.prod(size), size))
    rows = [["level", *readings]]
    for level in levels:
        held = [[str(one) for one in maps if one.size == level] for maps in readings.values()]
        rows.append([sizes(level), *(", ".join(here) or "—" for here in held)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def too_few(title: str, names: Sequence[str], found: Trace, logits: fx.Node) -> StageError:
    """Return the error that says that there is nothing to mix, with what could be named instead.

    Args:
        title: The model's class name.
        names: What was detected or named.
        found: A trace.
        logits: The model's main output.

    Returns:
        An error with the maps of each resolution and the line that takes the last ones.
    """
    count = f"{len(names)} decoder stage" if names else "no decoder stage that was found"
    levels = candidates(found, logits)
    rows = [f"{sizes(maps[0].size)}: {', '.join(map(str, maps))}" for maps in levels]
    line = line_to_type([maps[-1].name for maps in levels])
    return StageError(
        f"{title} has {count}; a mixture needs at least 2.",
        seen=rows or "no feature map on the way to the output",
        hint=f"{line}  # the last value of each size; leave out what is no decoder"
        if len(levels) > 1
        else "a network whose decoder has several scales; one scale leaves nothing to mix",
    )


def candidates(found: Trace, logits: fx.Node) -> list[list[NamedMap]]:
    """Return what modules of several layers return at each resolution, and the last value that a module sees there.

    Args:
        found: A trace.
        logits: The model's main output.

    Returns:
        For each size, coarse to fine, its maps in the order of execution, the last four at most.
    """
    flow = Flow(found, logits)
    blocks = [call for call in found.calls if call.path and sum(map(weighted, flow.layers_in(call))) > 1]
    returned = {node for call in blocks for _, node in call.outputs}
    levels: dict[tuple[int, ...], list[fx.Node]] = {}
    for node in flow.maps:
        if node in flow.seen and node is not logits and node.op != "placeholder":
            levels.setdefault(flow.size(node), []).append(node)
    shown = [
        [n for n in levels[size] if n in returned or n is levels[size][-1]] for size in sorted(levels, key=math.prod)
    ]
    named = [[named_map(found, n, tap) for n in nodes if (tap := tap_of(found, n)) and tap.path] for nodes in shown]
    return [maps[-_AT_MOST:] for maps in named if maps]
