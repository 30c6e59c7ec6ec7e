"""What ``lomix new`` asks: only of somebody who sits at a terminal, and never what an option has answered."""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from lomix_search.cli.common import console
from lomix_search.errors import RecipeError


def data_folders(data: Path | None, images: Path | None, masks: Path | None) -> tuple[Path, Path | None]:
    """Return the folder of the data, or those of images and masks; ask for the latter where nothing is given.

    Raises:
        RecipeError: both are given, or only a part, or nothing and nobody can be asked.
    """
    if data is not None and (images or masks):
        raise RecipeError(
            "lomix new takes one folder of data, or --images with --masks, not both.",
            hint=["lomix new FOLDER DATA", "lomix new FOLDER --images IMAGES --masks MASKS"],
        )
    if data is not None:
        return data, None
    if not (images and masks) and not _can_ask():
        raise RecipeError(
            "lomix new needs the folder of your data, or --images and --masks.",
            hint=["lomix new FOLDER DATA", "lomix new FOLDER --images IMAGES --masks MASKS"],
        )
    return images or Path(typer.prompt("Images")), masks or Path(typer.prompt("Masks"))


def asked(text: str, answers: Sequence[str], default: str, option: str) -> str:
    """Ask a question; where nobody can be asked, take the default and say so."""
    if not _can_ask():
        console.print(f"{text} Taken: {default}. Say it with {option} {' or '.join(answers)}.")
        return default
    while (answer := str(typer.prompt(f"{text} {'/'.join(answers)}", default=default)).strip().lower()) not in answers:
        console.print(f"One of {', '.join(answers)}.")
    return answer


def measures(option: str, text: str) -> list[float]:
    """Read ``3,1,1``; nothing of an empty text.

    Raises:
        RecipeError: anything else than numbers.
    """
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise RecipeError(
            f'{option} "{text[:80]}" is no list of numbers.', hint=f"{option} {_MEASURES.get(option, '3,1,1')}"
        ) from None


_MEASURES = {"--size": "224", "--window": "-150,250"}
"""What to type for options whose numbers mean something else than millimetres."""


def _can_ask() -> bool:
    return sys.stdin.isatty()
