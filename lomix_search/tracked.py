"""Which trackers a recipe asks for, and the pictures that they get."""

import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from lomix_search.data.dataset import Slices
from lomix_search.errors import MissingExtraError, require
from lomix_search.mixture import Mixture
from lomix_search.outgoing import outgoing
from lomix_search.recipe import Recipe
from lomix_search.report import draw_heat_map, draw_seen
from lomix_search.seen import look
from lomix_search.track import TensorBoard, Tracker, Trackers, Wandb, opened


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
        group: What the run belongs to; None: the study in whose folder the run folder lies, if it does.

    Returns:
        Those that started.
    """
    track, config, home = recipe.track, outgoing(recipe), folder.absolute().parent
    if group is None and any((home / name).exists() for name in ("journal.log", "study.json")):
        group = home.name
    makers: dict[str, Callable[[], Tracker]] = {
        "Wandb": partial(Wandb, folder, track.project, config, track.online, group, maps),
        "TensorBoard": partial(TensorBoard, folder, config, _start(folder), maps),
    }
    asked = {"Wandb": track.wandb, "TensorBoard": track.tensorboard}
    return opened({name: make for name, make in makers.items() if asked[name]})


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


def _start(folder: Path) -> int:
    """Return the step that a run will start from, by the names of its checkpoints."""
    found = (re.fullmatch(r"step_(\d+)\.pt", path.name) for path in (folder / "checkpoints").glob("step_*.pt"))
    return max((int(match[1]) for match in found if match), default=0)
