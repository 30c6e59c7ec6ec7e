"""What all commands share: the application, the console and the common options."""

from pathlib import Path
from typing import Annotated

import typer

from lomix_search.distributed import is_main
from lomix_search.errors import RecipeError, RunError, nearest
from lomix_search.screen import Terminal

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
console = Terminal(quiet=not is_main())  # of several processes the first speaks

Overrides = Annotated[
    list[str] | None, typer.Argument(help="KEY=VALUE pairs that change the recipe", metavar="KEY=VALUE")
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with a run that was stopped or killed")]
Folder = Annotated[Path | None, typer.Option(help="run folder  [default: runs/<recipe>]")]
Track = Annotated[
    str | None, typer.Option(help="wandb (offline unless --online), tensorboard, or both: wandb,tensorboard")
]
Online = Annotated[bool, typer.Option("--online", help="let wandb send while running")]


def numbers(text: str) -> list[float]:
    """Read ``0.1,1``; raise RunError where it is no list of numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RunError(f'--label-fraction "{text}" is no list of numbers.', hint="--label-fraction 0.1,1") from None


def shape(text: str) -> tuple[int, ...]:
    """Read ``1,3,256,256``; raise RunError where it is no shape."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RunError(f'--example "{text}" is no shape.', hint="--example 1,3,256,256") from None


def tracked(track: str | None, online: bool) -> list[str]:
    """Turn ``--track wandb,tensorboard --online`` into changes of the recipe; RecipeError for unknown ones."""
    names = [name.strip() for name in (track or "").split(",") if name.strip()]
    known = ("wandb", "tensorboard")
    for name in names:
        if name not in known:
            raise RecipeError(f"--track {name}: unknown. {nearest(name, known)}", hint="--track wandb,tensorboard")
    if online and "wandb" not in names:
        raise RecipeError("--online goes with --track wandb.", hint="--track wandb --online")
    return [*(f"track.{name}=true" for name in names), *(["track.online=true"] if online else [])]
