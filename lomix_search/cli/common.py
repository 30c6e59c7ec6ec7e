"""What all commands share: the application, the console and the common options.

Help, ``--version`` and shell completion import every module of commands, so none of these imports torch, nor what
imports it: a command imports what it works with when it is called.
"""

import json
import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lomix_search.errors import RecipeError, RunError, nearest
from lomix_search.recipe.overrides import names_of
from lomix_search.utils.launched import launched_rank
from lomix_search.utils.shipped import VERSION
from lomix_search.utils.terminal import Terminal

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", context_settings=HELP)
console = Terminal(quiet=launched_rank() > 0)  # of several processes the first speaks

RECIPE = "a shipped name (lomix ls), a recipe.toml, its folder, or the name of a run for the recipe that it ran"
RUN = "a run: its folder, or its name in runs"
MODEL = "package.module:Name or file.py:Name, a class or a function that returns the network"

_LARGEST = 1 << 32  # numbers in an example: 16 GiB

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="changes of the recipe, by dotted key: optimizer.lr=1e-3", metavar="KEY=VALUE"),
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with what was stopped or killed")]
Folder = Annotated[Path | None, typer.Option(help="run folder (default: runs/<recipe>)")]
TrackOption = Annotated[
    str | None, typer.Option(help="wandb (offline unless --online), tensorboard, or both: wandb,tensorboard")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
Online = Annotated[bool, typer.Option("--online", help="let wandb send while running")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lomix-search {VERSION}")
        raise typer.Exit


@app.callback()
def lomix(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="print the version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Learn how the multi-scale outputs of a segmentation network are mixed in training."""


@contextmanager
def silent(yes: bool) -> Iterator[None]:
    """Print nothing in between, where JSON alone is to be printed."""
    before = console.quiet
    console.quiet = before or yes
    try:
        yield
    finally:
        console.quiet = before


def tell_files(folder: Path, names: str) -> None:
    """Say which files a command left: the folder stays whole in a line of its own, to be pasted."""
    console.print(f"all in {folder}", soft_wrap=True)
    console.print(f"  {names}")


def print_json(value: Any) -> None:
    """Print a value for scripts, and nothing else: numbers at full precision, null for what is not defined."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def typed(*words: object) -> str:
    """Return a command that can be pasted into a shell: ``lomix`` and these words, quoted where they need it."""
    return shlex.join(["lomix", *map(str, words)])


def numbers(text: str) -> list[float]:
    """Read ``0.1,1``; raise RunError for anything else than a list of numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RunError(f'--label-fraction "{text}" is no list of numbers.', hint="--label-fraction 0.1,1") from None


def fractions_of(text: str) -> list[str]:
    """Read ``0.1,1`` as texts, for names of folders; raise RunError for a number outside (0, 1] or given twice."""
    parts = [part.strip() for part in text.split(",")]
    values = numbers(text)
    if strange := [part for part, value in zip(parts, values, strict=True) if not 0 < value <= 1]:
        raise RunError(f"--label-fraction {', '.join(strange)}: lies outside (0, 1].", hint="--label-fraction 0.1,1")
    if len(set(values)) < len(values):
        raise RunError(f'--label-fraction "{text}" names a part twice.', hint="--label-fraction 0.1,1")
    return parts


def shape(text: str) -> tuple[int, ...]:
    """Read ``1,3,256,256``; raise RunError for anything else than a shape that fits into memory."""
    if not text:
        raise RunError("--example is missing: the shape of what the network takes.", hint="--example 1,3,256,256")
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RunError(f'--example "{text[:80]}" is no shape.', hint="--example 1,3,256,256") from None
    if min(sizes) < 1 or math.prod(sizes) > _LARGEST:
        raise RunError(
            f'--example "{text[:80]}": every size is at least 1, and all together give at most {_LARGEST} numbers.',
            hint="--example 1,3,256,256",
        )
    return sizes


def listed(option: str, text: str) -> list[str]:
    """Read a list of names, ``liver,"lung, left"``; raise RecipeError where a name is missing or a quote left open."""
    try:
        return names_of(text)
    except ValueError as cause:
        raise RecipeError(f"{option}: {cause}", hint=f"""{option} 'liver,"lung, left"'""") from None


def tracked(track: str | None, online: bool) -> list[str]:
    """Turn ``--track wandb,tensorboard --online`` into changes of the recipe; RecipeError for unknown ones."""
    names = listed("--track", track or "")
    known = ("wandb", "tensorboard")
    for name in names:
        if name not in known:
            raise RecipeError(f"--track {name}: unknown. {nearest(name, known)}", hint="--track wandb,tensorboard")
    if online and "wandb" not in names:
        raise RecipeError("--online goes with --track wandb.", hint="--track wandb --online")
    return [*(f"track.{name}=true" for name in names), *(["track.online=true"] if online else [])]
