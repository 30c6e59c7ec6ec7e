"""Text in a terminal: a user's words are shown as they are, also where they hold brackets, colons or control codes.

rich reads ``[red]`` as a colour, ``[/x]`` as an error and ``:x:`` as a picture in every plain string that it is given.
Names of cases, classes, maps, files and studies come from users. So all tables of this library are of this ``Table``,
and text goes through ``plain`` on its way to a console that is not a ``Terminal``.
"""

import copy
import math
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from rich import table
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_NUMBER = r"[+−-]?(?:\d[\d.,]*|inf)(?:e[+-]?\d+)?(?:/\d+)?(?: ?%)?"
_FIGURES = re.compile(rf"[–-]?|{_NUMBER}(?: [–…±] (?:{_NUMBER}|–))*(?: \({_NUMBER} … {_NUMBER}\))?")
_ANY = 10_000  # columns: wider than any table
_LEAST = 10  # columns that a name keeps beside figures; where there are fewer, an interval goes on in the next line
_CODES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # they move the cursor, or cannot be written at all


class Table(table.Table):
    """rich's table whose strings are text, never markup: in heads, cells, title and caption.

    Where it is wider than the terminal, heads and words go on in the next line, for a name that is cut off cannot be
    typed; figures stay whole, for half a number is another number. A title or caption wider than its table is no part
    of it, but text above or below, as wide as the terminal.

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
        header = _shown(header)
        if isinstance(header, Text):
            header.no_wrap = False  # also above figures, which must not go on in a next line
        super().add_column(header, *rest, **{"overflow": "fold", **options})

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row as rich does."""
        super().add_row(*map(_shown, cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay out as rich does, once it is known which columns hold figures alone."""
        figures = [column for column in self.columns if all(map(_is_figures, column.cells))]
        for column in figures:
            column.max_width = None
        left = options.max_width - Measurement.get(console, options.update_width(_ANY), self).maximum
        for column in figures if left < 0 else ():
            cells, before = max(map(cell_len, map(str, column.cells)), default=0), cell_len(str(column.header))
            column.max_width = max([cells, *map(cell_len, str(column.header).split())])
            left += max(0, max(cells, before) - column.max_width)
        words = [column for column in self.columns if column not in figures]
        held = [max([0, *map(cell_len, map(str, (column.header, *column.cells)))]) for column in words]
        whole = left + sum(max(0, one - _LEAST) for one in held) >= 0  # names keep room enough to be read
        for column in figures:
            column.no_wrap, column.overflow = whole, "ellipsis"
        width = Measurement.get(console, options, self).maximum
        inside, above, below = copy.copy(self), _wider(self.title, width), _wider(self.caption, width)
        if above is not None:
            inside.title = None
            yield above
        if below is not None:
            inside.caption = None
        yield from super(Table, inside).__rich_console__(console, options)
        if below is not None:
            yield below


def plain(*parts: object) -> Text:
    """Return text for a console that shows it letter by letter.

    Args:
        *parts: What to show, one after the other; a pair is a part and its style, as in ``("failed", "red")``.

    Returns:
        The text.
    """
    pairs = [part if isinstance(part, tuple) else (part, "") for part in parts]
    return Text.assemble(*((_CODES.sub(_spelled, str(text)), style) for text, style in pairs))


def wrapped(text: str, width: int, begun: int = 0) -> str:
    """Return the text of an error for a terminal: words that do not fit go on in the next line, below their own text.

    Words stay whole, and so do the lines of ``Try``, which are copied.

    Args:
        text: The text, several lines with their indents.
        width: Of the terminal.
        begun: Columns of the first line that are written already.
    """
    told, copied = [], math.inf  # lines that are indented further than this belong to what is copied
    for i, line in enumerate(text.splitlines()):
        label = re.match(r" +(?:Seen: |Try:  |$)", line)
        indent = len(line) - len(line.lstrip())
        if indent > copied or (label and "Try" in label[0]):
            copied = min(indent, copied)
            told.append(line)
            continue
        copied, beyond = math.inf, len(label[0]) if label else indent + 2
        before, room = "·" * begun if i == 0 else line[:indent], max(width, beyond + _LEAST, begun + 1)
        lines = textwrap.wrap(
            line.lstrip(), room, initial_indent=before, subsequent_indent=" " * beyond,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        told += [lines[0].removeprefix("·" * begun), *lines[1:]] if lines else [""]
    return "\n".join(told)


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


def _wider(words: Any, width: int) -> Text | None:
    """Return a title or caption without its style, where one of its lines is wider than the table."""
    lines = str(words).splitlines() if words else []
    return Text("\n".join(lines)) if any(cell_len(line) > width for line in lines) else None


def _shown(cell: Any) -> Any:
    return plain(cell) if isinstance(cell, str) else cell


def _is_figures(cell: object) -> bool:
    return _FIGURES.fullmatch(str(cell)) is not None


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
