"""What is decided about somebody's data: the values themselves, and each decision as it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One decision, as it is shown.

    Args:
        what: It is about.
        value: What was decided.
        why: What it was decided by.
        option: What changes it.
    """

    what: str
    value: str
    why: str
    option: str = ""


@dataclass(frozen=True)
class Question:
    """A decision that the data leave open.

    Args:
        option: The field of ``Choices`` that answers it.
        text: The question.
        answers: What can be answered.
        default: What is taken when nobody answers.
    """

    option: str
    text: str
    answers: tuple[str, ...]
    default: str


@dataclass(frozen=True)
class Decisions:
    """All that was decided.

    Args:
        dims: 2: slices or pictures; 3: volumes.
        size: Rows and columns of a slice (one number), or slices, rows and columns of a patch.
        spacing: Millimetres that volumes are brought to; empty: the median of all, or as they are.
        stated: Millimetres of files that do not say theirs, where others do; else empty.
        names: Names of the label values.
        regions: Label values of overlapping regions.
        written: Label value that each region is written as, in the order of painting, where the data say it.
        ignore: Label value that counts nowhere.
        modalities: Names of the channels.
        window: Lowest and highest intensity that is told apart.
        patients: Whose each case is.
        split: ``random``, ``folders`` or a split file.
        scaled: How intensities are scaled, in words.
        rows: The decisions in words.
        open: What the data leave open.
        measured: Cases whose intensities are measured: those of training.
    """

    dims: Literal[2, 3]
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    stated: tuple[float, ...]
    names: Mapping[int, str]
    regions: Mapping[str, tuple[int, ...]]
    ignore: int | None
    modalities: tuple[str, ...]
    window: tuple[float, float] | None
    patients: Mapping[str, str]
    split: str
    scaled: str = ""
    rows: tuple[Row, ...] = ()
    open: tuple[Question, ...] = ()
    written: tuple[int, ...] = ()
    measured: frozenset[str] = frozenset()
