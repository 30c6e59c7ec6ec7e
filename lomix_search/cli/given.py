"""What the argument of a command stands for: a search space, a cross-validation, a network."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from lomix_search.cli.common import typed
from lomix_search.errors import RunError, nearest
from lomix_search.experiments.folds.found_maps import FoundMaps, found_maps
from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.diagram_page import zoomable
from lomix_search.instrumentation.stages import FoundStages, Stages
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.objects import call, load_object
from lomix_search.recipe.overrides import split_setting, toml_or_text
from lomix_search.utils.files import write_text
from lomix_search.utils.schema import shortened
from lomix_search.utils.shipped import shipped_files


def space_called(what: str, place: Path) -> SearchSpace:
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


def folds_of(folder: Path) -> FoundMaps:
    """Return what the folds of a cross-validation found; RunError where one has found nothing yet."""
    found = found_maps(folder)
    if found is None:
        raise RunError(f"{folder}: not every fold has found a mixture yet.", hint=typed("runs", folder))
    return found


def draw_network(found: FoundStages, picture: Path) -> None:
    """Draw a network with its stages, as .svg or as a page; RunError for other files."""
    if picture.suffix not in (".svg", ".html"):
        raise RunError(
            f"--draw {picture}: a network is drawn as .svg or .html.", hint=f"--draw {picture.with_suffix('.svg')}"
        )
    stages, drawn = found.stages, draw(found.trace, found.stages)
    if picture.suffix == ".html":
        drawn = zoomable(stages.network, drawn, draw(found.trace, stages, fold=False))
    write_text(picture, drawn)


def stages_to_list(stages: Stages) -> list[dict[str, Any]]:
    """Return stages for JSON."""
    return [{"name": s.name, "channels": s.channels, "size": s.size, "stride": s.stride} for s in stages]


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
        raise RunError(
            f"{path} gave a {type(built).__name__}; a torch.nn.Module is needed.",
            hint="name a class of networks, or a function that returns one",
        )
    return built
