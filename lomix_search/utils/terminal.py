"""Text in a terminal: a user's words are shown as they are, also where they hold brackets, colons or control codes.

rich reads ``[red]`` as a colour, ``[/x]`` as an error and ``:x:`` as a picture in every plain string that it is given.
Names of cases, classes, maps, files and studies come from users. So all tables of this library are of this ``Table``,
and text goes through ``plain`` on its way to a console that is not a ``Terminal``.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from rich import table
from rich.console import Console
from rich.text import Text

_CODES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # they move the cursor, or cannot be written at all


class Table(table.Table):
    """rich's table whose strings are text, never markup: in heads, cells, title and caption.

    Args:
        *heads: Of the columns.
        title: Above the table.
        caption: Below it.
        **options: As rich's.
    """

    def __init__(self, *heads: str, title: str | None = None, caption: str | None = None, **options: Any) -> None:
        above = None if title is None else plain((title, "table.title"))
        below = None if caption is None else plain((caption, "table.caption"))
        super().__init__(*heads, title=above, caption=below, **options)

    def add_column(self, header: Any = "", *rest: Any, **options: Any) -> None:
        """Add a column as rich does."""
        super().add_column(_shown(header), *rest, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row as rich does."""
        super().add_row(*map(_shown, cells), **options)


def plain(*parts: object) -> Text:
    """Return text for a console that shows it letter by letter.

    Args:
        *parts: What to show, one after the other; a pair is a part and its style, as in ``("failed", "red")``.

    Returns:
        The text.
    """
    pairs = [part if isinstance(part, tuple) else (part, "") for part in parts]
    return Text.assemble(*((_CODES.sub(_spelled, str(text)), style) for text, style in pairs))


class Terminal(Console):
    """A console whose strings are text, never markup.

    Args:
        **options: Of rich's Console.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into text as rich does, control codes spelled out."""
        return super().render_str(_CODES.sub(_spelled, text), **options)


def _shown(cell: Any) -> Any:
    return plain(cell) if isinstance(cell, str) else cell


def _spelled(code: "re.Match[str]") -> str:
    return repr(code[0])[1:-1]


def telling_digits(values: Iterable[float], least: int = 3, most: int = 5) -> int:
    """Return how many decimals it takes to see that values differ.

    Args:
        values: The values.
        least: Decimals at least, and where all are equal.
        most: Decimals at most.
    """
    known = [value for value in values if math.isfinite(value)]
    spread = max(known, default=0.0) - min(known, default=0.0)
    return min(most, max(least, math.ceil(1.3 - math.log10(spread)))) if spread > 0 else least
