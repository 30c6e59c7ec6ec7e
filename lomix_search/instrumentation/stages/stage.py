"""What a stage is, where its tensor is tapped, and how the list of them prints."""

import dataclasses
import io
from collections.abc import Container, Iterator, Sequence
from typing import Any, overload

from rich import box
from rich.console import Console
from torch import fx

from lomix_search.instrumentation.stages.axes import FORMS, Layout, layout_of
from lomix_search.instrumentation.trace import Call, Path, Trace, sizes, spell
from lomix_search.utils.terminal import Table

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
    place: Path = ()
    copy: bool = False
    layout: Layout | None = None

    def __str__(self) -> str:
        nth = f", call {self.call + 1}" if self.call else ""
        place = spell(self.place) if self.side == "output" else ""
        form = f", {FORMS[self.layout.form]}" if self.layout else ""
        return f"{self.side} of {self.path or 'the model'}{place}{nth}{form}"


@dataclasses.dataclass(frozen=True)
class Returned:
    """Where a model's own logits are in what it returns, and what they were made into.

    Args:
        place: Where they sit.
        classes: Their channels.
        rank: Their axes.
        ends: What must be undone to have logits: "softmax", "sigmoid", "log_sigmoid", "clamp" (values cut to 0 … 1), or
            "" if nothing.
        tap: Where they are before all that, if a module sees them there.
        rivals: Number of other maps that the model returns and that could be meant as well.
    """

    place: Path
    classes: int
    rank: int
    ends: str = ""
    tap: Tap | None = None
    rivals: int = 0


@dataclasses.dataclass(frozen=True)
class Stage:
    """A decoder output at one scale.

    Args:
        name: The module at whose output or input it is found; what ``stages=[…]`` accepts.
        channels: Number of feature channels.
        size: Spatial size, at the example.
        stride: Input size over ``size``, per axis (a whole number where it is one).
        source: How it is tapped, in words.
        tap: The same for the program.
        own: The place, in what the model returns, of the logits that the model itself makes from this stage.
        logits: Where those logits are tapped instead, if the model returns probabilities.
        ends: What must be undone in those logits in train mode, as in :class:`Returned`.
        parts: Maps of this stage for each image, where the network lays its classes into the batch.
    """

    name: str
    channels: int
    size: tuple[int, ...]
    stride: tuple[float, ...]
    source: str
    tap: Tap
    own: Path | None = None
    logits: Tap | None = None
    ends: str = ""
    parts: int = 1


class Stages(Sequence[Stage]):
    """The stages of a network, coarse to fine; prints as a table.

    Args:
        stages: Coarse to fine.
        network: Class name of the network.
        backend: Which back end read the graph.
        returned: Where the logits are in what the network returns in eval mode.
        notes: Why earlier back ends were not used, and what else a user should know.
    """

    def __init__(
        self, stages: Sequence[Stage], network: str, backend: str, returned: Returned, notes: Sequence[str] = ()
    ) -> None:
        self._stages, self.network, self.backend, self.notes = tuple(stages), network, backend, tuple(notes)
        self.returned = returned

    @overload
    def __getitem__(self, index: int) -> Stage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Stage]: ...
    def __getitem__(self, index: int | slice) -> Stage | Sequence[Stage]:
        """Return one stage, or several as a tuple."""
        return self._stages[index]

    def __len__(self) -> int:
        return len(self._stages)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages)

    def __repr__(self) -> str:
        return f"Stages({[stage.name for stage in self]})"

    def __str__(self) -> str:
        """Return the table as plain text."""
        console = Console(file=io.StringIO(), width=118, color_system=None)
        console.print(self)
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined, no-any-return]

    def __rich__(self) -> Table:
        """Return the table for rich."""
        table = Table(
            title=f"{self.network}: {len(self)} stages, coarse to fine",
            caption="\n".join((f"read by {self.backend}", *self.notes)),
            caption_justify="left", title_justify="left", box=box.SIMPLE,
        )  # fmt: skip
        for column in ("", "stage", "channels", "size", "stride", "logits from", "tapped at"):
            table.add_column(column, overflow="fold")
        for i, stage in enumerate(self, 1):
            logits = "a 1×1 head" if stage.own is None else str(stage.logits or f"the model{spell(stage.own)}")
            stride = sizes(f"{step:g}" for step in stage.stride)
            table.add_row(str(i), stage.name, str(stage.channels), sizes(stage.size), stride, logits, stage.source)
        return table


def name_of(trace: Trace, tap: Tap) -> str:
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
    first = next((place for call in calls for place, node in values(call, tap.side) if layout_of(node)), tap.place)
    return name if first == tap.place else name + spell(tap.place)


Place = tuple[str, int, str, Path]
"""A module's path, its call, "input" or "output", and where in that: as in :class:`Tap`."""


def tap_of(trace: Trace, node: fx.Node, since: int = 0, wanted: Container[Place] | None = None) -> Tap | None:
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
    seen = [(call, side, at) for side in SIDES for call in trace.calls for at, n in values(call, side) if n is node]
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


def values(call: Call, side: str) -> tuple[tuple[Path, Any], ...]:
    """Return what a call returns or is given, with the place of each value."""
    return call.outputs if side == "output" else call.inputs
