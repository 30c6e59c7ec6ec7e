"""Docstrings on their way into the site."""

import re
from typing import Any


def formulas_stand_apart(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep the lines of an indented formula apart: as running text they would be joined into one."""
    shown: list[str] = []
    inside = False
    for i, line in enumerate(lines):
        begins = line.startswith("    ") and i > 0 and not lines[i - 1].strip() and _before(shown)
        if begins and not inside:
            shown += [".. code-block:: text", ""]
            inside = True
        elif inside and line.strip() and not line.startswith("    "):
            inside = False
        shown.append(line)
    lines[:] = shown


def _before(shown: list[str]) -> bool:
    """Whether the last line with words is running text: no field, no item of a list, no directive."""
    last = next((line for line in reversed(shown) if line.strip()), "")
    return not re.match(r"\s*(:|\.\.|[-*] |>>>|\d+\. )", last) and not last.startswith(" ") and not last.endswith("::")


def signs_are_no_marks(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep ``*spatial`` and ``|x|`` of running text as they are; Sphinx would read emphasis and a substitution."""
    for i, line in enumerate(lines):
        words = line.split("``")  # every second part is code
        words[::2] = [re.sub(r"(?<=[ (])\*(?=spatial)", r"\\*", part).replace("|", r"\|") for part in words[::2]]
        lines[i] = "``".join(words)
