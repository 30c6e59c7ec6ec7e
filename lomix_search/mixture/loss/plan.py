"""What a loss computes, as a value: which maps, of how many originals and classes, and which pixels count."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from lomix_search.mixture.loss.terms import LossTerms
from lomix_search.mixture.maps import Map


@dataclass(frozen=True)
class LossPlan:
    """What one call of an engine computes, without its tensors.

    Args:
        maps: The maps whose losses are wanted, in order.
        num_maps: L, number of originals, coarse to fine.
        num_classes: C; 1 means binary, with a sigmoid.
        ignore_index: Pixels with this label count nowhere; None if all count.
        together: Sums are those of all processes of a distributed run.
        multilabel: Each channel is a class of its own: labels (B, C, *spatial) of 0 and 1, with a sigmoid.
        terms: Which cross-entropy and which region loss.
    """

    maps: tuple[Map, ...]
    num_maps: int
    num_classes: int
    ignore_index: int | None = None
    together: bool = False
    multilabel: bool = False
    terms: LossTerms = field(default_factory=LossTerms)

    @property
    def binary(self) -> bool:
        """Whether there is one channel: sigmoid instead of softmax."""
        return self.num_classes == 1

    @property
    def sigmoid(self) -> bool:
        """Whether each channel is judged by itself, by a sigmoid: binary and multi-label."""
        return self.binary or self.multilabel

    @property
    def num_values(self) -> int:
        """Labels are integers from 0 to one less than this, or the ignored one."""
        return 2 if self.sigmoid else self.num_classes


def widest(maps: Sequence[Tensor]) -> torch.dtype:
    """Return the type that losses of these maps are computed in: float64 if one of them is, else float32."""
    return torch.float64 if any(one.dtype == torch.float64 for one in maps) else torch.float32


def plan_to_text(plan: LossPlan) -> str:
    """Write a plan as two lines of text.

    An operator that is opaque to ``torch.compile`` takes tensors, numbers and text, but no Python value. It is not
    given a key into a table of this process either: torch keeps compiled graphs for processes to come.
    """
    maps = [f"{m.operator}:{','.join(map(str, m.scales))}:{m.parameters or ''}" for m in plan.maps]
    ignored = "" if plan.ignore_index is None else str(plan.ignore_index)
    flags = f"{'together' * plan.together};{'multilabel' * plan.multilabel}"
    return "|".join([f"{plan.num_maps};{plan.num_classes};{ignored};{flags}", *maps]) + "\n" + plan.terms.text


@lru_cache(maxsize=256)
def plan_from_text(text: str) -> LossPlan:
    """Read what ``plan_to_text`` wrote."""
    text, _, terms = text.partition("\n")
    head, *rows = text.split("|")
    num_maps, num_classes, ignored, *flags = head.split(";")
    parts = [row.split(":") for row in rows]
    maps = tuple(Map(name, tuple(map(int, scales.split(","))), key or None) for name, scales, key in parts)
    together, multilabel = map(bool, flags)
    numbers = int(num_maps), int(num_classes), int(ignored) if ignored else None
    return LossPlan(maps, *numbers, together, multilabel, LossTerms.from_text(terms))
