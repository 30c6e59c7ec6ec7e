"""Which trackers a recipe asks for, and the pictures that they get."""

import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from lomix_search.data.dataset import Slices
from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.errors import MissingExtraError, RunError, require
from lomix_search.experiments.figures import draw_heat_map, draw_seen
from lomix_search.experiments.predictions import look
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import Recipe
from lomix_search.training.checkpoint import checkpoints
from lomix_search.training.trackers import TensorBoard, Tracker, Trackers, Wandb, opened
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.shipped import shipped_files


def check_trackers(recipe: Recipe) -> None:
    """Check that what a recipe asks for is installed, before anything is written.

    Args:
        recipe: The recipe.

    Raises:
        MissingExtraError: it is not.
    """
    for package in ("wandb", "tensorboard"):
        if getattr(recipe.track, package):
            require(package, package)


def trackers_of(recipe: Recipe, folder: Path, maps: Sequence[str], group: str | None = None) -> list[Tracker]:
    """Start the trackers that a recipe asks for.

    Args:
        recipe: The recipe.
        folder: The run folder.
        maps: Ids of the supervised maps.
        group: What the run belongs to; ``track.group`` goes before it.

    Returns:
        Those that started.
    """
    asked, config = recipe.track, public_settings(recipe)
    name = asked.name or f"{public_name(recipe)}-{recipe.weighting.name}-seed{recipe.search.seed}"
    makers: dict[str, Callable[[], Tracker]] = {
        "Wandb": partial(Wandb, folder, asked.project, config, asked.online, asked.group or group, maps, name),
        "TensorBoard": partial(TensorBoard, folder, config, max(checkpoints(folder / "checkpoints"), default=0), maps),
    }
    wanted = {"Wandb": asked.wandb, "TensorBoard": asked.tensorboard}
    return [WithoutNames(tracker) for tracker in opened({kind: make for kind, make in makers.items() if wanted[kind]})]


class WithoutNames:
    """A tracker that gets mixture files without names of folders: a recipe may be called after its own.

    Args:
        tracker: Who gets everything else as it is.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.name = type(tracker).__name__
        self.log, self.close = tracker.log, tracker.close
        self._tracker = tracker

    def files(self, paths: Sequence[Path]) -> None:
        """Log files, mixture files without those names."""
        with tempfile.TemporaryDirectory() as folder:
            self._tracker.files([_unnamed(path, Path(folder)) for path in paths])


def _unnamed(path: Path, folder: Path) -> Path:
    if path.suffix != ".json":
        return path
    content = read_json(path, RunError)
    origin, space = content.get("provenance", {}), content.get("space", {})
    if origin.get("recipe") not in shipped_files("recipes"):
        origin.pop("recipe", None)
    if isinstance(operators := space.get("operators_file"), str):
        space["operators_file"] = Path(operators).name
    write_text(folder / path.name, json.dumps(content, indent=2) + "\n")
    return folder / path.name


def track_pictures(
    log: Trackers,
    net: nn.Module,
    mixture: Mixture,
    items: Slices,
    classes: Sequence[str],
    ignore_index: int | None = None,
) -> None:
    """Hand trackers the heat map of the weights and some predictions; these without the names of cases.

    Args:
        log: The trackers.
        net: The trained network.
        mixture: What was found.
        items: Items to predict, without augmentation.
        classes: Names, background first.
        ignore_index: Label value whose pixels count nowhere.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            heat_map, predictions = (Path(folder) / name for name in ("heat_map.png", "predictions.png"))
            draw_heat_map(heat_map, mixture)
            draw_seen(predictions, look(net, items, classes, 4, ignore_index), "item")
            log.files([heat_map, predictions])
    except MissingExtraError as missing:
        warnings.warn(f"no pictures are tracked: {missing}", stacklevel=2)
    except Exception as fault:  # a full disk, say: the run is finished by now
        warnings.warn(f"no pictures are tracked: {type(fault).__name__}: {fault}", stacklevel=2)


def public_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that a tracker may show.

    Of the data and the network only numbers go out, and the name of the network's class; files are named by no more
    than their stem, because their folder may be called after a patient or a person. A recipe without a name of its own
    is called after its folder, so only names of shipped recipes stay; ``track.name`` is for saying more.

    Args:
        recipe: The resolved recipe.

    Returns:
        Plain values by section.
    """
    content = recipe.model_dump(include={"loss", "optimizer", "search"})
    kind = recipe.data.kind if recipe.data.kind in DATA_KINDS else "own"
    build = recipe.network.build.rpartition(":")[2]
    weighting = {key: value for key, value in recipe.weighting.settings.items() if _harmless(value)}
    return content | {
        "name": public_name(recipe),
        "space": {"name": Path(recipe.space.name).stem},
        "weighting": {"name": recipe.weighting.name, **weighting},
        "network": {"build": build, **_numbers(recipe.network.args)},
        "data": {"kind": kind, **_numbers(recipe.data.settings)},
    }


def public_name(recipe: Recipe) -> str:
    """Return the recipe's name if it is one of the shipped ones, ``custom`` otherwise."""
    return recipe.name if recipe.name in shipped_files("recipes") else "custom"


def _numbers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keep numbers, switches and lists of them."""
    return {
        key: value
        for key, value in settings.items()
        if isinstance(value, bool | int | float)
        or (isinstance(value, list | tuple) and all(isinstance(part, bool | int | float) for part in value))
    }


def _harmless(value: object) -> bool:
    """Return whether a setting is a number or a plain word such as ``norm``; a path of a file is neither."""
    return isinstance(value, bool | int | float) or (isinstance(value, str) and value.isidentifier())
