"""What a stage is, and how the list of them prints."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import overload

from rich import box
from rich.console import Console

from lomix_search.instrumentation.stages.named_maps import NamedMap, by_level, line_to_type
from lomix_search.instrumentation.stages.sure import Opinion
from lomix_search.instrumentation.stages.taps import Tap
from lomix_search.instrumentation.trace import ValuePath, sizes, spell
from lomix_search.utils.terminal import Table


@dataclasses.dataclass(frozen=True)
class ReturnedLogits:
    """Where a model's own logits are in what it returns, and what they were made into.

    Args:
        place: Where they sit.
        classes: Their channels.
        rank: Their axes.
        ends: What must be undone to have logits: "softmax", "sigmoid", "log_sigmoid", "clamp" (values cut to 0 … 1), or
            "" if nothing.
        tap: Where they are before all that, if a module sees them there.
        rivals: Where other maps are that could be meant as well.
    """

    place: ValuePath
    classes: int
    rank: int
    ends: str = ""
    tap: Tap | None = None
    rivals: tuple[ValuePath, ...] = ()


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
        ends: What must be undone in those logits in train mode, as in :class:`ReturnedLogits`.
        parts: Maps of this stage for each image, where the network lays its classes into the batch.
    """

    name: str
    channels: int
    size: tuple[int, ...]
    stride: tuple[float, ...]
    source: str
    tap: Tap
    own: ValuePath | None = None
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
        opinion: What a second reading of the network says; None where the user named the stages.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        network: str,
        backend: str,
        returned: ReturnedLogits,
        notes: Sequence[str] = (),
        opinion: Opinion | None = None,
    ) -> None:
        self._stages, self.network, self.backend, self.notes = tuple(stages), network, backend, tuple(notes)
        self.returned, self.opinion = returned, opinion

    @property
    def sure(self) -> bool:
        """Whether the user named the stages, or they are likely to be right."""
        return self.opinion is None or self.opinion.sure

    def _how_sure(self) -> list[str]:
        """What is printed of the two readings."""
        if self.opinion is None:
            return []
        likely = f"right with probability {self.opinion.probability:.2f}"
        if not self.opinion.other and not self.opinion.apart:
            sure = "sure" if self.opinion.sure else "not sure, though"
            return [f"{sure}: two readings find these stages; {likely}"]
        mine = [NamedMap(stage.name, stage.channels, stage.size, stage.tap) for stage in self]
        names = self.opinion.other
        return [
            f"{'sure, though' if self.opinion.sure else 'not sure:'} a second reading of the network differs; {likely}",
            *by_level({"these stages": mine, "the other reading": self.opinion.others}),
            f"if the other is right: {line_to_type(names)}" if len(names) > 1 else "the other finds no ladder",
        ]

    @property
    def _names(self) -> list[str]:
        return [stage.name for stage in self]

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
        return f"Stages({self._names})"

    def __str__(self) -> str:
        """Return the table as plain text."""
        console = Console(file=io.StringIO(), width=118, color_system=None)
        console.print(self)
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined, no-any-return]

    def __rich__(self) -> Table:
        """Return the table for rich."""
        table = Table(
            title=f"{self.network}: {len(self)} stages, coarse to fine",
            caption="\n".join((*self._how_sure(), f"read by {self.backend}", *self.notes)),
            caption_justify="left", title_justify="left", box=box.SIMPLE, show_edge=False,
        )  # fmt: skip
        for column in ("", "stage", "channels", "size", "stride", "logits from", "tapped at"):
            table.add_column(column, overflow="fold")
        for i, stage in enumerate(self, 1):
            logits = "a 1×1 head" if stage.own is None else str(stage.logits or f"the model{spell(stage.own)}")
            stride = sizes(f"{round(step, 2):g}" for step in stage.stride)
            doubt = "?" if self.opinion and i - 1 in self.opinion.apart else ""
            place = "its output" if stage.source == f"output of {stage.name}" else stage.source
            table.add_row(f"{i}{doubt}", stage.name, str(stage.channels), sizes(stage.size), stride, logits, place)
        return table
