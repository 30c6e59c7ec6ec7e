"""From a recipe to a finished run folder: data, network, instrumentation, search, test scores, pictures."""

import json
import random
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from lomix_search.checkpoint import read_tensors
from lomix_search.errors import MissingExtraError, RecipeError, RunError
from lomix_search.evaluate import evaluate, predict
from lomix_search.heads import Instrumented, instrument
from lomix_search.loss import MixtureLoss
from lomix_search.metrics import DiceResult
from lomix_search.mixture import Mixture, Provenance
from lomix_search.recipe import Recipe, load_recipe
from lomix_search.report import draw_predictions, draw_weights
from lomix_search.search import Result, search
from lomix_search.space import SearchSpace
from lomix_search.track import Tracker, Wandb, read_lines
from lomix_search.typed import read_toml, write_text


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Args:
        result: What the search left.
        final: Test scores of the last network.
        best: Test scores of the network that was best on validation.
    """

    result: Result
    final: DiceResult
    best: DiceResult


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    trackers: Iterable[Tracker] = (),
) -> Outcome:
    """Run a recipe to the end.

    Args:
        recipe: What to do.
        folder: The run folder; afterwards it holds recipe.toml, metrics.jsonl, checkpoints, mixture.json, final.pt,
            best.pt, results.json, predictions.png and weights.png.
        resume: Go on with a run that was stopped or killed.
        console: Where to say what was found; silent by default.
        trackers: Trackers besides those that the recipe asks for.

    Returns:
        Mixture and scores. Test data are scored once, at the end; validation alone selects.

    Raises:
        RunError: the folder holds another run, or the run cannot go on.
    """
    say = console or Console(quiet=True)
    _claim(folder, recipe, resume)
    seed_everything(recipe.search.seed)
    splits = recipe.build_data()
    network = recipe.build_network().to(_device())
    image, _ = splits.train[0]
    net = instrument(network, image[None].to(_device()), num_classes=len(splits.classes), stages=recipe.network.stages)
    say.print(net.stages)
    loss = build_loss(recipe, net, num_classes=len(splits.classes))
    say.print(f"{len(loss.maps)} maps supervised, {sum(p.numel() for p in loss.parameters())} parameters of the loss")
    asked = [Wandb(folder, recipe.track.project, recipe.summary(), recipe.track.online)] if recipe.track.wandb else []
    result = search(
        net,
        loss,
        splits.train,
        splits.val,
        folder=folder,
        classes=splits.classes,
        trackers=[*asked, *trackers],
        resume=resume,
        progress=console is not None,
        provenance=Provenance(recipe=recipe.name, network=type(network).__name__, commit=_commit()),
        **recipe.search.model_dump(),
        **recipe.optimizer.as_settings(),
    )
    return _score(recipe, net, loss, splits, result, folder)


def build_loss(recipe: Recipe, net: Instrumented, num_classes: int) -> MixtureLoss:
    """Build the recipe's mixture loss for an instrumented network.

    Args:
        recipe: Space, loss and weighting; a mixture to train with, where one is named.
        net: The network.
        num_classes: Channels of every map.

    Returns:
        The loss.
    """
    options = recipe.loss.model_dump()
    if recipe.weighting.mixture is not None:
        mixture = Mixture.load(recipe.path_of(recipe.weighting.mixture))
        mixture.check(len(net.stages), num_classes, [stage.name for stage in net.stages])
        return MixtureLoss.from_mixture(mixture, **options)
    space = recipe.build_space()
    return MixtureLoss(space, len(net.stages), num_classes, weighting=recipe.weighting.build, **options)
