"""What a network has and what a mixture costs: show, inspect, doctor."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from lomix_search.cli.common import MODEL, AsJson, app, console, listed, print_json, shape, typed
from lomix_search.cli.told import mixture_to_dict
from lomix_search.errors import RunError, nearest
from lomix_search.experiments.folds.found_maps import FoundMaps, found_maps
from lomix_search.experiments.folds.scored_folds import is_cross_validation
from lomix_search.experiments.listing import locate_run
from lomix_search.experiments.space_figure import draw_space
from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.diagram_page import zoomable
from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.instrumentation.stages import Stages
from lomix_search.instrumentation.trace import trace
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.objects import call, load_object
from lomix_search.recipe.overrides import split_setting, toml_or_text
from lomix_search.training.cost import doctor
from lomix_search.utils.files import write_text
from lomix_search.utils.schema import shortened
from lomix_search.utils.shipped import shipped_files
from lomix_search.utils.terminal import Table

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
    place = Path(what) if what in shipped_files("search_spaces") else locate_run(Path(what))
    shown: Table | str
    told: dict[str, Any]
    if is_cross_validation(place):
        found = _of_folds(place)
        shown, told = found.table(top), found.to_dict(top)
        space, stages, weights = found.first.space, found.first.num_maps, {one.id: one.mean for one in found.maps}
    elif place.suffix == ".json" or (place / "mixture.json").is_file():
        mixture = Mixture.load(place if place.suffix == ".json" else place / "mixture.json")
        shown, told = mixture.table(top), mixture_to_dict(mixture, top)
        space, stages, weights = mixture.space, mixture.num_maps, mixture.weights
    else:
        space, weights = _space(what, place), {}
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


def _space(what: str, place: Path) -> SearchSpace:
    """Load a search space; say what else was looked for where there is none."""
    known = shipped_files("search_spaces")
    if what not in known and place.is_dir():
        raise RunError(f"{place} has found no mixture.", hint=typed("runs", place))
    if what not in known and not place.exists():
        raise RunError(
            f'"{what}" is no run, no mixture.json and no search space. {nearest(what, known)}',
            hint="lomix runs   # lists the runs",
        )
    return SearchSpace.load(what)


def _of_folds(folder: Path) -> FoundMaps:
    found = found_maps(folder)
    if found is None:
        raise RunError(f"{folder}: not every fold has found a mixture yet.", hint=typed("runs", folder))
    return found


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
    built, given = build_model(model, arguments or ()), torch.zeros(shape(example))
    net = instrument(built, given, num_classes=classes, stages=listed("--stages", stages) or None)
    if as_json:
        if picture is not None:
            _draw_network(net, given, picture)
        print_json(_stages_to_list(net.stages))
        return
    console.print(net.stages)
    maps = SearchSpace.load("lomix").count(len(net.stages))
    heads = sum(p.numel() for p in net.head_parameters())
    console.print(f"{heads} parameters in heads; the paper's space has {maps} maps here")
    if picture is not None:
        _draw_network(net, given, picture)
        console.print(f"drawn: {picture}", soft_wrap=True)


def _draw_network(net: Instrumented, given: torch.Tensor, picture: Path) -> None:
    if picture.suffix not in (".svg", ".html"):
        raise RunError(
            f"--draw {picture}: a network is drawn as .svg or .html.", hint=f"--draw {picture.with_suffix('.svg')}"
        )
    read, title = trace(net.strip(), given), net.stages.network
    drawn = draw(read, net.stages)
    write_text(
        picture, drawn if picture.suffix == ".svg" else zoomable(title, drawn, draw(read, net.stages, fold=False))
    )


def _stages_to_list(stages: Stages) -> list[dict[str, Any]]:
    return [{"name": s.name, "channels": s.channels, "size": s.size, "stride": s.stride} for s in stages]


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
    built = build_model(model, arguments or ())
    cost = doctor(built, torch.rand(shape(example)), classes, SearchSpace.load(space), multilabel=multilabel)
    if as_json:
        told = {field.name: getattr(cost, field.name) for field in dataclasses.fields(cost)}
        print_json(told | {"stages": _stages_to_list(cost.stages)})
        return
    console.print(str(cost))


def build_model(path: str, arguments: Iterable[str]) -> nn.Module:
    """Build the network that a command names.

    Args:
        path: ``package.module:Name`` or ``file.py:Name``; a dot in place of the colon will do for a package.
        arguments: ``key=value`` pairs, the values in TOML.

    Returns:
        The network.

    Raises:
        RunError: the path has no module or no name, an argument is not a pair, or what was built is not a network.
    """
    where = path if ":" in path or path.endswith(".py") else ":".join(path.rsplit(".", 1))
    if not all(where.rpartition(":")):
        name = f"{path}:Name" if path.endswith(".py") else f"package.module:{path.strip(':') or 'Name'}"
        raise RunError(f'"{path}" names no object: a module, a colon and a name are needed.', hint=name)
    given = {}
    for text in arguments:
        try:
            key, value = split_setting(text)
            given[key] = toml_or_text(value)
        except ValueError as cause:
            raise RunError(
                f"{shortened(text)} is no argument of {path}.", seen=str(cause), hint="features=[8, 8, 16, 16, 32, 8]"
            ) from None
    built = call(load_object(where, "MODEL"), given, "MODEL")
    if not isinstance(built, nn.Module):
        raise RunError(f"{path} gave a {type(built).__name__}; a torch.nn.Module is needed.")
    return built
