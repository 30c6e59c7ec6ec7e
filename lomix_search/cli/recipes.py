"""Recipes and data: list, copy, write, prepare, check."""

from pathlib import Path
from typing import Annotated

import typer

from lomix_search.cli.common import Overrides, app, console, listed
from lomix_search.data.prepare import prepare
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.copy import copy_shipped
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe
from lomix_search.utils.shipped import shipped_files
from lomix_search.utils.terminal import Table


@app.command("ls")
def ls_command() -> None:
    """List the recipes and search spaces that ship with the library."""
    for kind in ("recipes", "search_spaces"):
        table = Table("name", "what it is", title=kind.replace("_", " "), title_justify="left")
        for name, path in shipped_files(kind).items():
            about = load_recipe(name).about if kind == "recipes" else SearchSpace.load(path).about
            table.add_row(name, about)
        console.print(table)
    console.print("lomix cp NAME FOLDER copies one for you to edit; lomix run NAME runs a recipe")


@app.command("cp")
def cp_command(name: str, folder: Annotated[Path, typer.Argument(help="where to; made when missing")] = Path()) -> None:
    """Copy a shipped recipe or search space to edit it; nothing is ever overwritten."""
    target = copy_shipped(name, folder)
    console.print(f"copied to {target}", f"\nnext: lomix {'run' if target.is_dir() else 'show'} {target}")


@app.command("new")
def new_command(
    folder: Annotated[Path, typer.Argument(help="folder of the new recipe")],
    images: Annotated[Path, typer.Option(help="folder of images: NIfTI or pictures", prompt=True)],
    masks: Annotated[Path, typer.Option(help="folder of masks, named like the images", prompt=True)],
    classes: Annotated[str, typer.Option(help="comma-separated names of the label values in ascending order")] = "",
    patient: Annotated[str, typer.Option(help="regular expression; its first group is the patient in a name")] = "",
    binary: Annotated[bool, typer.Option("--binary", help="all label values above the lowest are one class")] = False,
) -> None:
    """Look at your own images and masks, and write a recipe that works on them."""
    names = listed("--classes", classes)
    path = new_recipe(folder, images, masks, classes=names, patient=patient, binary=binary)
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    console.print("\n".join(line.removeprefix("# ") for line in head[:4]))
    console.print(f"written: {path}\nnext: lomix validate {folder}, then lomix run {folder}")


@app.command("prepare")
def prepare_command(
    benchmark: Annotated[str, typer.Argument(help="synapse, acdc, polyp, isic2018 or busi")],
    raw: Annotated[Path, typer.Argument(help="folder of the raw files")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    size: Annotated[
        int | None, typer.Option(help="rows and columns for training  [default: the benchmark's]", min=1, max=65536)
    ] = None,
    labels: Annotated[str, typer.Option(help="comma-separated names of labels 1, 2, … of renumbered files")] = "",
    workers: Annotated[int | None, typer.Option(help="threads  [default: as many as cores]", min=1, max=1024)] = None,
) -> None:
    """Read a benchmark's raw files once, into a form that trains fast; goes on after an interruption."""
    names = listed("--labels", labels)
    manifest = prepare(benchmark, raw, out, size=size, label_names=names, workers=workers)
    console.print(f"{len(manifest.cases)} cases in {out}\nnext: lomix validate RECIPE data.root={out}")


@app.command("validate")
def validate_command(recipe: str, overrides: Overrides = None) -> None:
    """Check a recipe's files, splits, labels, spacing, class balance and network before an hour is spent."""
    found = validate_recipe(load_recipe(recipe, overrides or ()))
    console.print(found)
    found.check()
