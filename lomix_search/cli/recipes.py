"""Recipes and data: list, copy, write, prepare, check."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lomix_search.cli.common import RECIPE, AsJson, Overrides, app, console, listed, print_json, typed
from lomix_search.cli.questions import asked, data_folders, measures
from lomix_search.data.benchmarks.table import LAYOUTS
from lomix_search.utils.shipped import shipped_files
from lomix_search.utils.terminal import Table


@app.command("ls")
def ls_command(as_json: AsJson = False) -> None:
    """List the recipes and search spaces that ship with the library."""
    from lomix_search.mixture.space import SearchSpace
    from lomix_search.recipe.recipe import load_recipe

    found = {
        "recipes": {name: load_recipe(name).about for name in shipped_files("recipes")},
        "search_spaces": {name: SearchSpace.load(path).about for name, path in shipped_files("search_spaces").items()},
    }
    if as_json:
        print_json(found)
        return
    for kind, abouts in found.items():
        table = Table("name", "what it is", title=kind.replace("_", " "), title_justify="left")
        for name, about in abouts.items():
            table.add_row(name, about)
        console.print(table)
    console.print("lomix cp NAME TARGET copies one for you to edit; lomix run NAME runs a recipe")


@app.command("cp")
def cp_command(
    name: Annotated[str, typer.Argument(help="of a recipe or a search space that ships: lomix ls", metavar="NAME")],
    folder: Annotated[
        Path, typer.Argument(help="the copy; or a folder that is there, to copy it into", metavar="TARGET")
    ] = Path(),
) -> None:
    """Copy a shipped recipe or search space to edit it; nothing is ever overwritten."""
    from lomix_search.recipe.copy import copy_shipped

    target = copy_shipped(name, folder)
    console.print(
        f"copied to {target}\nnext: {typed('validate' if target.is_dir() else 'show', target)}", soft_wrap=True
    )


@app.command("new")
def new_command(
    folder: Annotated[Path, typer.Argument(help="folder of the new recipe, which is called like it", metavar="FOLDER")],
    data: Annotated[
        Path | None,
        typer.Argument(help="folder of your data: nnU-Net, MSD, images with masks, a folder a patient", metavar="DATA"),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="folder of images, where masks lie elsewhere")] = None,
    masks: Annotated[Path | None, typer.Option(help="folder of masks, named like the images")] = None,
    classes: Annotated[str, typer.Option(help="comma-separated names of the label values in ascending order")] = "",
    patient: Annotated[
        str, typer.Option(help="expression whose first group is the patient in a name; folder; case")
    ] = "",
    binary: Annotated[bool, typer.Option("--binary", help="all label values above the lowest are one class")] = False,
    modality: Annotated[str, typer.Option(help="ct, mr, picture or range; or names of the channels: T1,FLAIR")] = "",
    dims: Annotated[int | None, typer.Option(help="3: whole volumes; 2: their slices", min=2, max=3)] = None,
    spacing: Annotated[str, typer.Option(help="mm between slices, rows, columns: 3,1,1")] = "",
    size: Annotated[str, typer.Option(help="rows and columns: 224; of volumes slices, rows, columns: 48,64,48")] = "",
    ignore: Annotated[int | None, typer.Option(help="label value of pixels that count nowhere", min=0)] = None,
    regions: Annotated[str, typer.Option(help="overlapping regions of labels: whole=1+2+3,core=2+3")] = "",
    colors: Annotated[str, typer.Option(help="of masks in colours: liver=#ff0000,spleen=#00ff00")] = "",
    split: Annotated[str, typer.Option(help="random, or a split file")] = "random",
    window: Annotated[str, typer.Option(help="lowest and highest intensity that is told apart: -150,250")] = "",
    as_json: AsJson = False,
) -> None:
    """Look at your own images and masks, say what they are, and write a recipe that works on them."""
    from lomix_search.recipe.choices import colors_of, regions_of
    from lomix_search.recipe.new import plan_recipe

    where = data_folders(data, images, masks)
    plan = plan_recipe(
        folder, *where, classes=listed("--classes", classes), patient=patient, binary=binary, modality=modality,
        dims=dims, ignore=ignore, regions=regions_of(regions), colors=colors_of(colors), split=split,
        spacing=measures("--spacing", spacing), size=[int(n) for n in measures("--size", size)],
        window=measures("--window", window) or None,
    )  # fmt: skip
    for question in () if as_json else plan.decided.open:  # a script is asked nothing: the defaults are taken
        answer = asked(question.text, question.answers, question.default, f"--{question.option}")
        plan = plan.chosen(**{question.option: int(answer) if question.option == "dims" else answer})
    if as_json:
        decisions = [dataclasses.asdict(row) for row in plan.decided.rows]
        unanswered = [dataclasses.asdict(question) for question in plan.decided.open]
        print_json({"recipe": plan.write(), "decisions": decisions, "unanswered": unanswered})
        return
    table = Table(
        "decision", "value", "by", "changed by", title=f"{folder.name}: what was decided", title_justify="left"
    )
    for row in plan.decided.rows:
        table.add_row(row.what, row.value, row.why, row.option)
    console.print(table)
    console.print("\n".join(plan.look.lines(plan.decided.names, plan.decided.scaled)))
    path = plan.write()
    console.print(f"written: {path}\nnext: {typed('validate', folder)}\n      {typed('run', folder)}", soft_wrap=True)


@app.command("prepare")
def prepare_command(
    benchmark: Annotated[str, typer.Argument(help=", ".join(LAYOUTS), metavar="BENCHMARK")],
    raw: Annotated[Path, typer.Argument(help="folder of the raw files", metavar="RAW")],
    out: Annotated[Path, typer.Argument(help="folder to write", metavar="OUT")],
    size: Annotated[
        int | None,
        typer.Option(help="rows and columns for training, in pixels (default: the benchmark's)", min=1, max=65536),
    ] = None,
    spacing: Annotated[
        str, typer.Option(help="of volumes: mm between slices, rows, columns: 3,1,1 (default: the median)")
    ] = "",
    labels: Annotated[str, typer.Option(help="comma-separated names of labels 1, 2, … of renumbered files")] = "",
    workers: Annotated[int | None, typer.Option(help="threads (default: as many as cores)", min=1, max=1024)] = None,
    as_json: AsJson = False,
) -> None:
    """Read a benchmark's raw files once, into a form that trains fast; goes on after an interruption."""
    from lomix_search.data.prepare import prepare

    names = listed("--labels", labels)
    wanted = measures("--spacing", spacing)
    manifest = prepare(benchmark, raw, out, size=size, spacing=wanted, label_names=names, workers=workers)
    if as_json:
        print_json({"benchmark": benchmark, "folder": out, "cases": [case.name for case in manifest.cases]})
        return
    recipe = benchmark if benchmark in shipped_files("recipes") else "RECIPE"
    console.print(
        f"{len(manifest.cases)} cases in {out}\nnext: {typed('validate', recipe, f'data.root={out}')}", soft_wrap=True
    )


@app.command("validate")
def validate_command(
    recipe: Annotated[str, typer.Argument(help=RECIPE, metavar="RECIPE")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check a recipe's files, splits, labels, spacing, class balance and network before an hour is spent."""
    from lomix_search.recipe.recipe import load_recipe
    from lomix_search.recipe.validate import validate_recipe

    found = validate_recipe(load_recipe(recipe, overrides or ()))
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        console.print(found)
    found.check()
