"""What a network has and what a mixture costs: show, inspect, doctor."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from lomix_search.cli.common import MODEL, AsJson, app, console, listed, print_json, shape
from lomix_search.utils.shipped import shipped_files

Arguments = Annotated[list[str] | None, typer.Argument(help="its arguments: spatial_dims=2", metavar="KEY=VALUE")]
Classes = Annotated[int | None, typer.Option(help="channels of the logits (default: the model's)")]


@app.command("show")
def show_command(
    what: Annotated[
        str,
        typer.Argument(
            help="a mixture.json, a run or a cross-validation by folder or name; or a search space by name or file"
        ),
    ],
    stages: Annotated[int, typer.Option(help="number of stages, for a search space", min=1, max=12)] = 4,
    draw: Annotated[
        Path | None, typer.Option(help="also draw the graph into this file: .png .svg .pdf .dot .mmd .graphml")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="show only this many maps, the strongest")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a mixture as a ranked table, those of a cross-validation side by side, or a search space as a tree."""
    from lomix_search.cli.given import folds_of, space_called
    from lomix_search.cli.told import mixture_to_dict
    from lomix_search.experiments.folds.scored_folds import is_cross_validation
    from lomix_search.experiments.listing import locate_run
    from lomix_search.experiments.space_figure import draw_space
    from lomix_search.mixture.mixture import Mixture

    place = Path(what) if what in shipped_files("search_spaces") else locate_run(Path(what))
    shown: Any
    told: dict[str, Any]
    if is_cross_validation(place):
        found = folds_of(place)
        shown, told = found.table(top), found.to_dict(top)
        space, stages, weights = found.first.space, found.first.num_maps, {one.id: one.mean for one in found.maps}
    elif place.suffix == ".json" or (place / "mixture.json").is_file():
        mixture = Mixture.load(place if place.suffix == ".json" else place / "mixture.json")
        shown, told = mixture.table(top), mixture_to_dict(mixture, top)
        space, stages, weights = mixture.space, mixture.num_maps, mixture.weights
    else:
        space, weights = space_called(what, place), {}
        ids = [m.id for m in space.maps(stages)][:top]
        shown = f"{space}\n\n{space.count(stages)} maps for {stages} stages: {', '.join(ids)}"
        told = {"space": space.name, "about": space.about, "stages": stages, "count": space.count(stages), "maps": ids}
    if draw is not None:
        draw_space(space, stages, draw, weights)
    if as_json:
        print_json(told)
        return
    console.print(shown)
    if draw is not None:
        console.print(f"drawn: {draw}", soft_wrap=True)


@app.command("inspect")
def inspect_command(
    model: Annotated[str, typer.Argument(help=MODEL, metavar="MODEL")],
    arguments: Arguments = None,
    example: Annotated[
        str,
        typer.Option(help="shape of an input, (images, channels, rows, columns) or with slices: 1,3,256,256"),
    ] = "",
    classes: Classes = None,
    stages: Annotated[str, typer.Option(help="your own choice: comma-separated paths of modules, coarse to fine")] = "",
    picture: Annotated[
        Path | None, typer.Option("--draw", help="draw the network with its stages: .svg or .html")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the decoder stages that instrument finds in a network, and how."""
    import torch

    from lomix_search.cli.given import build_model, draw_network, stages_to_list
    from lomix_search.instrumentation.heads import make_heads
    from lomix_search.instrumentation.stages import find_stages
    from lomix_search.mixture.space import SearchSpace

    built, given = build_model(model, arguments or ()), torch.zeros(shape(example))
    found = find_stages(built, given, classes, listed("--stages", stages) or None)
    if as_json:
        if picture is not None:
            draw_network(found, picture)
        print_json(stages_to_list(found.stages))
        return
    console.print(found.stages)
    maps = SearchSpace.load("lomix").count(len(found.stages))
    heads = sum(p.numel() for p in make_heads(found.stages, found.num_classes, found.tensors).parameters())
    console.print(f"{heads} parameters in heads; the paper's space has {maps} maps here")
    if picture is not None:
        draw_network(found, picture)
        console.print(f"drawn: {picture}", soft_wrap=True)


@app.command("doctor")
def doctor_command(
    model: Annotated[str, typer.Argument(help=MODEL, metavar="MODEL")],
    arguments: Arguments = None,
    example: Annotated[
        str,
        typer.Option(help="shape of a training batch, (images, channels, rows, columns) or with slices: 6,3,224,224"),
    ] = "",
    classes: Classes = None,
    space: Annotated[str, typer.Option(help="search space, a name or a file")] = "lomix",
    multilabel: Annotated[bool, typer.Option("--multilabel", help="the channels are regions that may overlap")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure what training with a mixture costs, before training."""
    import torch

    from lomix_search.cli.given import build_model, stages_to_list
    from lomix_search.mixture.space import SearchSpace
    from lomix_search.training.cost import doctor

    built = build_model(model, arguments or ())
    cost = doctor(built, torch.rand(shape(example)), classes, SearchSpace.load(space), multilabel=multilabel)
    if as_json:
        told = {field.name: getattr(cost, field.name) for field in dataclasses.fields(cost)}
        print_json(told | {"stages": stages_to_list(cost.stages)})
        return
    console.print(str(cost))
