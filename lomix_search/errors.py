"""The one family of errors.

Every message has the same three parts, so that a user learns to read them once::

    StageError: UNet has 1 decoder stage; a mixture needs at least 2.
      Seen: up4 (64 × 224 × 224)
      Try:  instrument(net, example, stages=["up1", "up2", "up3", "up4"])

The first line says who, what was found and what was needed; ``Seen`` what the program saw; ``Try`` text to paste.
"""

import difflib
import importlib
import re
import types
from collections import Counter
from collections.abc import Iterable, Sequence


class LomixError(Exception):
    """Base of all errors that this library raises on purpose.

    Args:
        what: One sentence: who, what was found, what was needed.
        seen: What the program saw; one line or several.
        hint: What to type next; one line or several.
    """

    def __init__(self, what: str, *, seen: str | Sequence[str] = (), hint: str | Sequence[str] = ()) -> None:
        lines = [what, *_labelled("Seen: ", seen), *_labelled("Try:  ", hint)]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the finished text, so that an error survives the trip between processes."""
        return type(self), (str(self),)


class TraceError(LomixError):
    """The model did not run on the example, or no back end could read its graph."""


class StageError(LomixError):
    """The decoder stages could not be found, or the named ones do not fit."""


class SpaceError(LomixError):
    """A search space is malformed, or does not fit the number of stages."""


class LossError(LomixError):
    """Maps, labels or operators do not fit the loss."""


class MixtureError(LomixError):
    """A mixture file is malformed or belongs to another network."""


class RecipeError(LomixError):
    """A recipe has faults; all of them are listed."""


class DataError(LomixError):
    """A data file is missing, malformed or inconsistent; the message names it."""


class RunError(LomixError):
    """A run folder, checkpoint or training step is unusable."""


class MissingExtraError(LomixError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> types.ModuleType:
    """Import an optional dependency where it is used.

    Args:
        module: Dotted module name, e.g. ``"optuna"``.
        extra: The extra of this library that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{module.partition('.')[0]} is needed here and is not installed.",
            seen=f"import {module}: {error}",
            hint=f'pip install "lomix-search[{extra}]"',
        ) from None


def nearest(name: str, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """Return the tail of an "unknown name" message: nearest match and all that is known, or what is listed of it."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    shown = names if listed is None else sorted(listed)
    return (f'Nearest: "{close[0]}". ' if close else "") + f"Known: {', '.join(shown)}."


def list_faults(faults: Iterable[str], most: int = 20) -> tuple[list[str], list[str]]:
    """Return faults for one message about all of them, where what several of them say to try is said once.

    Args:
        faults: Texts of errors.
        most: Faults that are shown; how many more there are is told.

    Returns:
        Lines for ``seen``, and lines for ``hint``.
    """
    found = list(faults)
    parts = [(what, "\n".join(tries)) for what, *tries in (re.split(_TRY, fault) for fault in found[:most])]
    several = [hint for hint, count in Counter(hint for _, hint in parts).items() if hint and count > 1]
    seen = [what if hint in several else fault for fault, (what, hint) in zip(found, parts, strict=False)]
    more = [f"and {len(found) - most} more"] if len(found) > most else []
    return [*seen, *more], [line.strip() for hint in several for line in hint.splitlines()]


_TRY = re.compile(r"\n +Try:  ")


def _labelled(label: str, text: str | Sequence[str]) -> list[str]:
    lines = text.splitlines() if isinstance(text, str) else [line for item in text for line in item.splitlines()]
    return [f"  {label if i == 0 else ' ' * len(label)}{line}" for i, line in enumerate(lines)]
