"""What a referee finds: a question, whether it is answered well, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lomix_search.experiments.audit.entry import AuditEntry

State = Literal["passed", "failed", "could not be checked"]
Reason = tuple[str, str]
"""What was seen, and in which setting; empty where there is one without a name, or where it is about all."""
_MOST = 6  # reasons that are shown


@dataclass(frozen=True)
class Finding:
    """One check.

    Args:
        key: A short name, for scripts.
        title: What was asked.
        state: The answer.
        because: Why.
    """

    key: str
    title: str
    state: State
    because: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons in one line, some of them where there are many."""
        more = f"; and {len(self.because) - _MOST} more" if len(self.because) > _MOST else ""
        return "; ".join(self.because[:_MOST]) + more


Check = Callable[[Sequence[AuditEntry]], Finding]


def judge(key: str, title: str, failed: Sequence[Reason], unknown: Sequence[Reason], passed: str) -> Finding:
    """Return failed where anything failed, else not checkable where anything is unknown, else passed.

    Args:
        key: Of the finding.
        title: Of the finding.
        failed: What is wrong.
        unknown: What could not be looked at.
        passed: What to say where all is well.

    Returns:
        The finding. What failed is never hidden by what is unknown, and what is unknown never passes.
    """
    if failed:
        return Finding(key, title, "failed", _told(failed))
    if unknown:
        return Finding(key, title, "could not be checked", _told(unknown))
    return Finding(key, title, "passed", (passed,))


def in_words(names: Sequence[str], most: int = 4) -> str:
    """Write some names in a row."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def unsaid(what: str, silent: Sequence[str], every: Sequence[str], setting: str) -> list[Reason]:
    """Return that something is not said: of which methods, or of none at all.

    Args:
        what: As it begins the sentence: ``steps are``.
        silent: Methods of which it is not said.
        every: All methods of the setting.
        setting: The setting.

    Returns:
        A reason, or nothing where no method is silent.
    """
    if not silent:
        return []
    return [(f"{what} not said" + ("" if len(silent) == len(every) else f" of {in_words(silent)}"), setting)]


def _told(reasons: Sequence[Reason]) -> tuple[str, ...]:
    """Say each thing once, with the setting or the number of settings that it was seen in."""
    where: dict[str, list[str]] = {}
    for text, setting in dict.fromkeys(reasons):
        where.setdefault(text, []).append(setting)
    told = []
    for text, settings in where.items():
        place = f" ({len(settings)} settings)" if len(settings) > 1 else f" ({settings[0]})" if settings[0] else ""
        told.append(text + place)
    return tuple(told)
