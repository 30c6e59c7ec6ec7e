"""What the name of a trainer says: ``nnUNetTrainerLoMix_anneal_250epochs`` becomes typed choices.

    <nnU-Net's trainer>LoMix[_<weighting>][_<search space>][_<n>stages][_<n>epochs]

in any order, each at most once. Before ``LoMix`` stands the trainer of nnU-Net's, or of your own, that is built upon:
``nnUNetTrainer``, ``nnUNetTrainerNoMirroring``, ….
"""

import difflib
import re
from dataclasses import dataclass
from typing import Any

from lomix_search.errors import LomixError
from lomix_search.mixture.maps import MAX_STAGES
from lomix_search.utils.shipped import shipped_files

WORD = "LoMix"
"""Stands between the trainer that is built upon and the choices."""

WEIGHTING_WORDS = ("softplus", "normalized", "uncertainty", "anneal", "uniform", "halving", "random", "auto")
"""Weightings that need nothing but the training batch: ``lookahead`` needs a second, held-out one, ``fixed`` a file."""

_COUNTS = {"stages": (2, MAX_STAGES), "epochs": (1, 10**6)}
_COUNTED = re.compile(r"(\d+)([A-Za-z]*)")


class TrainerNameError(LomixError):
    """A trainer's name says something that there is not."""


@dataclass(frozen=True)
class TrainerChoice:
    """What a trainer of nnU-Net's is to do.

    Args:
        base: The trainer of nnU-Net's that is built upon.
        weighting: Name of a weighting.
        space: The search space, by name or by the path of a TOML file.
        stages: So many of the finest outputs are mixed, all where there are fewer.
        epochs: Length of training; None: as the trainer that is built upon.
    """

    base: str = "nnUNetTrainer"
    weighting: str = "softplus"
    space: str = "lomix"
    stages: int = 4
    epochs: int | None = None


def read_trainer_name(name: str) -> TrainerChoice:
    """Read the name of a trainer.

    Args:
        name: Such as ``nnUNetTrainerLoMix_uncertainty_3stages``.

    Returns:
        What it says.

    Raises:
        TrainerNameError: it says something unknown or something twice; the nearest name is given.
    """
    base, found, rest = name.partition(WORD)
    if not found:
        raise _unknown(name, f'it lacks "{WORD}"')
    chosen: dict[str, Any] = {}
    while rest:
        field, value, word = _next(rest, name)
        if field in chosen:
            raise _unknown(name, f'"{word}" is the second that says the {field}')
        chosen[field], rest = value, rest[len(word) + 1 :]
    return TrainerChoice(base, **chosen)


def is_meant(name: str) -> bool:
    """Tell whether a name is meant to be one of these, however it is spelt."""
    return name.startswith("nnUNetTrainer") and WORD.lower() in name.lower().replace("_", "")


def words() -> dict[str, str]:
    """Return the words that a name may hold, and which choice each of them makes."""
    return dict.fromkeys(WEIGHTING_WORDS, "weighting") | dict.fromkeys(shipped_files("search_spaces"), "space")


def _next(rest: str, name: str) -> tuple[str, str | int, str]:
    """Read the first word of ``_word_word``; returns the choice it makes, its value, and the word."""
    for word, field in words().items():
        if rest == f"_{word}" or rest.startswith(f"_{word}_"):
            return field, word, word
    first = rest[1:].partition("_")[0] if rest.startswith("_") else ""
    if first == "1epoch":  # as nnU-Net spells its own nnUNetTrainer_1epoch
        return "epochs", 1, first
    counted = _COUNTED.fullmatch(first)
    if counted is None or counted[2] not in _COUNTS:
        raise _unknown(name, f'"{rest.lstrip("_")}" is not known')
    least, most = _COUNTS[counted[2]]
    if not least <= int(counted[1]) <= most:
        raise _unknown(name, f'"{first}": {counted[2]} are {least} to {most}')
    return counted[2], int(counted[1]), first


def _unknown(name: str, why: str) -> TrainerNameError:
    return TrainerNameError(
        f"there is no trainer {name}: {why}.",
        seen=[
            f"<nnU-Net's trainer>{WORD}[_<weighting>][_<search space>][_<n>stages][_<n>epochs]",
            *(f"{kind}: {', '.join(w for w, k in words().items() if k == kind)}" for kind in ("weighting", "space")),
        ],
        hint=f"-tr {nearest_trainer_name(name)}",
    )


def nearest_trainer_name(name: str) -> str:
    """Return the name nearest to one that says something unknown.

    Args:
        name: Any text.

    Returns:
        A name that ``read_trainer_name`` reads. Words without a near one are left out.
    """
    spelt = re.search(r"_?l_?o_?m_?i_?x", name, re.IGNORECASE)
    base, rest = (name[: spelt.start()], name[spelt.end() :]) if spelt else ("nnUNetTrainer", "")
    chosen: dict[str, str] = {}
    parts = rest.strip("_").split("_")
    while parts:
        size, field, word = _nearest_word(parts)
        chosen.setdefault(field, word)
        parts = parts[size:]
    order = ("weighting", "space", "stages", "epochs")
    return "_".join([f"{base}{WORD}", *(chosen[field] for field in order if field in chosen)])


def _nearest_word(parts: list[str]) -> tuple[int, str, str]:
    """Find the word nearest to the first parts; returns how many parts it takes, the choice it makes, and the word."""
    if counted := _COUNTED.fullmatch(parts[0]):
        field = (difflib.get_close_matches(counted[2].lower(), _COUNTS, n=1, cutoff=0.3) or ["epochs"])[0]
        least, most = _COUNTS[field]
        return 1, field, f"{min(max(int(counted[1]), least), most)}{field}"
    known, best = words(), (0.6, 1, "", "")
    for size in range(1, len(parts) + 1):
        text = "_".join(parts[:size]).lower()
        for word in known:
            best = max(best, (difflib.SequenceMatcher(None, text, word).ratio(), size, known[word], word))
    return best[1:]
