"""Where a stage's tensor can be had while the network runs: at what a module returns or is given."""

import dataclasses
from collections.abc import Container
from typing import Any

from torch import fx

from lomix_search.instrumentation.stages.layouts import FORMS, MapLayout, layout_of
from lomix_search.instrumentation.trace import ModuleCall, Trace, ValuePath, spell

SIDES = ("output", "input")


@dataclasses.dataclass(frozen=True)
class Tap:
    """Where a tensor can be had while the model runs.

    Args:
        path: The module, by its dotted name in the user's network.
        call: Which of the module's calls in one forward pass, from 0.
        side: "output" for what the call returns, "input" for what it is given.
        place: Where the tensor sits in the returned value, or in ``(args, kwargs)``.
        copy: Whether the network changes the tensor in place later, so that a copy must be kept.
        layout: How the map lies in the tensor, where it is not B × C × space.
    """

    path: str
    call: int = 0
    side: str = "output"
    place: ValuePath = ()
    copy: bool = False
    layout: MapLayout | None = None

    def __str__(self) -> str:
        nth = f", call {self.call + 1}" if self.call else ""
        place = spell(self.place) if self.side == "output" else ""
        form = f", {FORMS[self.layout.form]}" if self.layout else ""
        return f"{self.side} of {self.path or 'the model'}{place}{nth}{form}"


def tap_name(trace: Trace, tap: Tap) -> str:
    """Return the name by which ``stages=[…]`` knows a tap: ``up.1``, ``in:head``, ``block#2`` or ``decoder[1][0]``.

    Args:
        trace: Where the tap was found.
        tap: A tap.

    Returns:
        The module's path, ``.`` for the model itself; the place of the tensor only where it is not the first map that
        the module returns or takes.
    """
    path = tap.path or "."
    name = path if tap.side == "output" else f"in:{path}"
    name = f"{name}#{tap.call}" if tap.call else name
    calls = [call for call in trace.calls if (call.path, call.index) == (tap.path, tap.call)]
    first = next((place for call in calls for place, node in call_values(call, tap.side) if layout_of(node)), tap.place)
    return name if first == tap.place else name + spell(tap.place)


TapPlace = tuple[str, int, str, ValuePath]
"""A module's path, its call, "input" or "output", and where in that: as in :class:`Tap`."""


def tap_of(trace: Trace, node: fx.Node, since: int = 0, wanted: Container[TapPlace] | None = None) -> Tap | None:
    """Return where a value can be had: at a module's output if there is one, else at an input; the outermost module.

    Args:
        trace: Where the value was found.
        node: The value.
        since: Position in the graph; modules that began before it hold more than this stage and are taken last.
        wanted: Places to take one of, if the value is at one.

    Returns:
        A tap, or None if no module sees the value.
    """
    copy = any(node in later.meta.get("writes", ()) for later in trace.graph.nodes)
    seen = [
        (call, side, at) for side in SIDES for call in trace.calls for at, n in call_values(call, side) if n is node
    ]
    if wanted is not None:
        seen = [(call, side, at) for call, side, at in seen if (call.path, call.index, side, at) in wanted] or seen
    seen = [found for found in seen if found[1] == "output"] or seen
    seen = [found for found in seen if found[0].path] or seen
    if not seen:
        return None
    call, side, place = min(
        seen, key=lambda s: (s[0].first < since, s[0].depth if s[0].first >= since else -s[0].first)
    )
    layout = layout_of(node)
    return Tap(call.path, call.index, side, place, copy, None if not layout or layout.form == "first" else layout)


def call_values(call: ModuleCall, side: str) -> tuple[tuple[ValuePath, Any], ...]:
    """Return what a call returns or is given, with the place of each value."""
    return call.outputs if side == "output" else call.inputs
