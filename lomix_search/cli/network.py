"""What a network has and what a mixture costs: show, inspect, doctor."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from lomix_search.cli.common import AsJson, app, console, listed, print_json, shape
from lomix_search.errors import RunError
from lomix_search.experiments.folds.found_maps import FoundMaps, found_maps
from lomix_search.experiments.folds.scored_folds import is_cross_validation
from lomix_search.experiments.listing import locate_run
from lomix_search.experiments.space_figure import draw_space
from lomix_search.instrumentation.diagram import draw, zoomable
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.instrumentation.trace import trace
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.objects import call, load_object
from lomix_search.recipe.overrides import split_setting, toml_or_text
from lomix_search.training.cost import doctor
from lomix_search.utils.files import write_text
from lomix_search.utils.schema import shortened
from lomix_search.utils.shipped import shipped_files


@app.command("show")
def show_command(
    what: Annotated[
        str,
        typer.Argument(
            help="a mixture.json, a run's folder or a cross-validation's; or a search space by name or file"
        ),
    ],
    stages: Annotated[int, typer.Option(help="number of stages, for a search space", min=1, max=12)] = 4,
    draw: Annotated[Path | None, typer.Option(help="also draw the graph: .png .svg .pdf .dot .mmd .graphml")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="show only this many maps")] = None,
) -> None:
    """Show a mixture as a ranked table, those of a cross-validation side by side, or a search space as a tree."""
    place = Path(what) if what in shipped_files("search_spaces") else locate_run(Path(what))
    if is_cross_validation(place):
        found = _of_folds(place)
        console.print(found.table(top))
        space, stages, weights = found.first.space, found.first.num_maps, {one.id: one.mean for one in found.maps}
    elif what.endswith(".json") or (place / "mixture.json").is_file():
        what = what if what.endswith(".json") else str(place / "mixture.json")
        mixture = Mixture.load(what)
        console.print(mixture.table(top))
        space, stages, weights = mixture.space, mixture.num_maps, mixture.weights
    else:
        space, weights = SearchSpace.load(what), {}
        console.print(str(space))
        ids = [m.id for m in space.maps(stages)][:top]
        console.print(f"\n{space.count(stages)} maps for {stages} stages: {', '.join(ids)}")
    if draw is not None:
        draw_space(space, stages, draw, weights)
        console.print(f"drawn: {draw}")


def _of_folds(folder: Path) -> FoundMaps:
    found = found_maps(folder)
    if found is None:
        raise RunError(f"{folder}: not every fold has found a mixture yet.", hint=f"lomix runs {folder}")
    return found


@app.command("inspect")
def inspect_command(
    model: Annotated[str, typer.Argument(help="package.module:name or file.py:name, a class or a function")],
    arguments: Annotated[list[str] | None, typer.Argument(help="its arguments", metavar="KEY=VALUE")] = None,
    example: Annotated[str, typer.Option(help="shape of the input, e.g. 1,3,256,256")] = "",
    classes: Annotated[int | None, typer.Option(help="channels of the logits  [default: the model's]")] = None,
    stages: Annotated[str, typer.Option(help="your own choice: comma-separated module paths")] = "",
    picture: Annotated[
        Path | None, typer.Option("--draw", help="draw the network with its stages: .svg or .html")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the decoder stages that instrument finds in a network, and how."""
    built, given = build_model(model, arguments or ()), torch.zeros(shape(example))
    net = instrument(built, given, num_classes=classes, stages=listed("--stages", stages) or None)
    if as_json:
        print_json(
            [{"name": s.name, "channels": s.channels, "size": s.size, "stride": s.stride} for s in net.stages]
        )  # fmt: skip
        return
    console.print(net.stages)
    maps = SearchSpace.load("lomix").count(len(net.stages))
    heads = sum(p.numel() for p in net.head_parameters())
    console.print(f"{heads} parameters in heads; the paper's space has {maps} maps here")
    if picture is not None:
        drawn = draw(trace(net.strip(), given), net.stages)
        write_text(picture, drawn if picture.suffix == ".svg" else zoomable(net.stages.network, drawn))
        console.print(f"drawn: {picture}")


@app.command("doctor")
def doctor_command(
    model: Annotated[str, typer.Argument(help="package.module:name or file.py:name, a class or a function")],
    arguments: Annotated[list[str] | None, typer.Argument(help="its arguments", metavar="KEY=VALUE")] = None,
    example: Annotated[str, typer.Option(help="shape of a training batch, e.g. 6,3,224,224")] = "",
    classes: Annotated[int | None, typer.Option(help="channels of the logits  [default: the model's]")] = None,
    space: Annotated[str, typer.Option(help="search space, a name or a file")] = "lomix",
    multilabel: Annotated[bool, typer.Option("--multilabel", help="the channels are regions that may overlap")] = False,
) -> None:
    """Measure what training with a mixture costs, before training."""
    built = build_model(model, arguments or ())
    cost = doctor(built, torch.rand(shape(example)), classes, SearchSpace.load(space), multilabel=multilabel)
    console.print(str(cost))


def build_model(path: str, arguments: Iterable[str]) -> nn.Module:
    """Build the network that a command names.

    Args:
        path: ``package.module:name`` or ``file.py:name``; a dot in place of the colon will do.
        arguments: ``key=value`` pairs, the values in TOML.

    Returns:
        The network.

    Raises:
        RunError: an argument is not a pair, or what was built is not a network.
    """
    where = path if ":" in path else ":".join(path.rsplit(".", 1))
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
