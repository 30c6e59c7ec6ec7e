"""A supervised map as a value, and the ids by which files and people name it: ``P4``, ``add(1,3)``."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MAX_STAGES = 64
"""More stages than any network has: each halves the one before it."""
MOST_LISTED = 8
"""Names that an error lists, at most."""

_ID = re.compile(r"P(?P<scale>[1-9][0-9]?)|(?P<operator>\w+)\((?P<scales>[1-9][0-9]?(?:,[1-9][0-9]?)+)\)")
_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Map:
    """One supervised map: an original (one scale) or a mutant (an operator applied to several).

    Args:
        operator: Name of the operator; ``"original"`` for the logits of one stage.
        scales: Stages it is made of, 1 the coarsest, ascending.
        parameters: Name of the learned module it uses, shared by all maps that give the same name; None if it has none.
    """

    operator: str
    scales: tuple[int, ...]
    parameters: str | None = None

    @property
    def id(self) -> str:
        """The stable name: ``P4`` for an original, ``add(1,3)`` for a mutant."""
        if self.operator == "original":
            return f"P{self.scales[0]}"
        return f"{self.operator}({','.join(map(str, self.scales))})"


def parse_id(name: str) -> tuple[str, tuple[int, ...]] | None:
    """Read an id.

    Args:
        name: Such as ``P4`` or ``add(1,3)``.

    Returns:
        Operator and scales; None if it is not an id. It says nothing about whether a space has such a map.
    """
    parts = _ID.fullmatch(name)
    if parts is None or parts["operator"] == "original":
        return None
    if parts["operator"] is None:
        return "original", (int(parts["scale"]),)
    return parts["operator"], tuple(map(int, parts["scales"].split(",")))


def has_wildcard(pattern: str) -> bool:
    """Tell whether a pattern may match several ids."""
    return bool(_WILD & set(pattern))


def id_filter(include: Sequence[str], exclude: Sequence[str]) -> Callable[[str], bool]:
    """Return what tells whether an id passes.

    Args:
        include: Patterns (``*`` and ``?``); an id must match one of them. An empty list lets every id in.
        exclude: Patterns; an id that matches one of them is left out.
    """
    inside, outside = _matcher(include or ("*",)), _matcher(exclude)
    return lambda name: inside(name) and not outside(name)


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether a name matches one of the patterns; those without wildcards cost nothing each."""
    names = frozenset(patterns)
    wild = [re.compile(fnmatch.translate(pattern)).match for pattern in names if has_wildcard(pattern)]
    return lambda name: name in names or any(match(name) for match in wild)
