"""From a recipe to a finished run folder: data, network, instrumentation, search, test scores, pictures."""

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from lomix_search.checkpoint import read_tensors
from lomix_search.data.dataset import Splits
from lomix_search.errors import RunError, nearest
from lomix_search.evaluation.evaluate import Evaluation
from lomix_search.heads import Instrumented, instrument
from lomix_search.loss import MixtureLoss
from lomix_search.metrics import DiceResult, predict, score_items
from lomix_search.mixture import Mixture, Provenance
from lomix_search.recipe import Recipe, load_recipe
from lomix_search.report import draw_predictions, draw_weights
from lomix_search.search import Result, search, seed_everything
from lomix_search.sections import Weighting
from lomix_search.track import Tracker, Wandb, read_lines
from lomix_search.typed import write_text
from lomix_search.weighting import build_weighting


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Args:
        result: What the search left.
        test: Test scores of the ``final`` network and of the one ``best`` on validation; empty when not asked for.
    """

    result: Result
    test: dict[str, DiceResult]


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    trackers: Iterable[Tracker] = (),
    score_test: bool = True,
) -> Outcome:
    """Run a recipe to the end.

    Args:
        recipe: What to do.
        folder: The run folder; afterwards it holds recipe.toml, metrics.jsonl, checkpoints, mixture.json, final.pt,
            best.pt, and, if test data are scored, results.json, predictions.png and weights.png.
        resume: Go on with a run that was stopped or killed; start where there is none.
        console: Where to say what was found; silent by default.
        trackers: Trackers besides those that the recipe asks for.
        score_test: Score the test data, once, at the end. Validation alone selects.

    Returns:
        Mixture and scores.

    Raises:
        RunError: the folder holds another run, or the run cannot go on.
    """
    say = console or Console(quiet=True)
    _claim(folder, recipe, resume)
    seed_everything(recipe.search.seed)
    splits = recipe.build_data()
    net = build_net(recipe, splits)
    say.print(net.stages)
    loss = build_loss(recipe, net, net.num_classes)
    size = sum(p.numel() for p in loss.parameters())
    say.print(f"{len(loss.maps)} maps supervised; {size} parameters in operators and weights", highlight=False)
    write_text(folder / "recipe.toml", recipe.to_toml())
    result = search(
        net,
        loss,
        splits.train,
        splits.val,
        folder=folder,
        classes=splits.classes,
        trackers=[*_asked_for(recipe, folder), *trackers],
        resume=resume,
        progress=console is not None,
        provenance=Provenance(recipe=recipe.name, network=type(net.model).__name__, commit=_commit()),
        **search_settings(recipe),
    )
    return Outcome(result, _score(net, splits, result, recipe.loss.ignore_index) if score_test else {})


def build_net(recipe: Recipe, splits: Splits) -> Instrumented:
    """Build the recipe's network, on the GPU where there is one, and instrument it.

    Args:
        recipe: Names the network.
        splits: Its data; an image of them is the example.

    Returns:
        The network with a head on each stage.
    """
    image, _ = splits.val[0]
    stages = recipe.network.stages
    return instrument(recipe.build_network().to(_device()), image[None].to(_device()), stages=stages)


def build_loss(recipe: Recipe, net: Instrumented, num_classes: int) -> MixtureLoss:
    """Build the recipe's mixture loss for an instrumented network.

    Args:
        recipe: Space, loss and weighting; ``weighting.mixture`` trains the maps of a mixture file.
        net: The network.
        num_classes: Channels of every map.

    Returns:
        The loss.

    Raises:
        MixtureError: the mixture was found on another network.
        LossError: unknown weighting or settings.
    """
    options = recipe.loss.model_dump()
    name, settings = recipe.weighting.name, recipe.weighting.settings
    if recipe.weighting.mixture is not None:
        mixture = Mixture.load(recipe.weighting.mixture)
        mixture.check(len(net.stages), num_classes, [stage.name for stage in net.stages])
        return MixtureLoss.from_mixture(mixture, weighting=name, settings=settings, **options)
    space = recipe.build_space()
    weighting = build_weighting(name, tuple(space.maps(len(net.stages))), settings)
    return MixtureLoss(space, len(net.stages), num_classes, weighting=weighting, **options)


def with_mixture(recipe: Recipe, mixture: Path, weighting: str = "fixed", **settings: Any) -> Recipe:
    """Return the recipe that trains from scratch with a mixture file.

    Args:
        recipe: Data, network, optimizer and so on; its space and weighting give way to the mixture's.
        mixture: The file.
        weighting: ``"fixed"`` keeps its weights, ``"anneal"`` goes from them to the finest original; any other
            begins anew on its maps.
        **settings: Of the weighting.

    Returns:
        The recipe.

    Raises:
        MixtureError: the file is no mixture.
    """
    Mixture.load(mixture)  # whatever is wrong with it is said before anything else is read
    chosen = Weighting.model_validate({"name": weighting, "mixture": str(mixture.absolute()), **settings})
    return recipe.model_copy(update={"weighting": chosen})


def search_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the keyword arguments of ``search`` that a recipe stands for."""
    optimizer = recipe.optimizer.model_dump()
    return {"optimizer": optimizer.pop("name"), **optimizer, **recipe.search.model_dump()}


def evaluate_run(
    folder: Path, network: str = "final", *, changes: Sequence[str] = (), overlays: int = 0, progress: bool = False
) -> Evaluation:
    """Score a finished run's network on the whole test cases of its recipe, at native size, by the recipe's protocol.

    Args:
        folder: The run folder; tables and predictions go to ``folder/evaluation/<network>``.
        network: ``"final"``, or ``"best"`` on validation.
        changes: ``key=value`` changes of the recipe, e.g. ``evaluate.protocol=transunet``.
        overlays: Number of cases to draw.
        progress: Show a progress bar.

    Returns:
        All scores.

    Raises:
        RunError: no such network, or not a finished run.
    """
    if network not in ("final", "best"):
        raise RunError(f'network "{network}": unknown. {nearest(network, ("final", "best"))}')
    if not (folder / "recipe.toml").is_file() or not (folder / f"{network}.pt").is_file():
        raise RunError(f"{folder} holds no finished run.", hint="lomix run RECIPE --folder FOLDER --resume")
    recipe = load_recipe(folder / "recipe.toml", changes)
    splits, model = recipe.build_data(), recipe.build_network().to(_device())
    model.load_state_dict(read_tensors(folder / f"{network}.pt"))
    save = folder / "evaluation" / network
    return recipe.score(model, splits, save=save, overlays=overlays, progress=progress)


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse to mix two runs in one folder."""
    held = folder / "recipe.toml"
    if not held.exists():
        return
    if not resume:
        raise RunError(
            f"{folder} holds a run already; nothing was changed.",
            hint=["--resume           to go on with it", "--folder runs/new  to start another"],
        )
    before, now = load_recipe(held).model_dump(), recipe.model_dump()
    skipped = ("track", "tune", "about", "note")
    different = [key for key in now if key not in skipped and before[key] != now[key]]
    if different:
        raise RunError(
            f"{folder} was started with another recipe.",
            seen=[f"{key}: {before[key]} before, {now[key]} now" for key in different],
            hint="run it with the same recipe, or in another folder",
        )


def _score(net: Instrumented, splits: Splits, result: Result, ignore_index: int | None) -> dict[str, DiceResult]:
    """Score both networks on the test data, write results.json and the pictures, leave the final weights in place."""
    folder, scores = result.folder, {}
    for name in ("best", "final"):
        net.model.load_state_dict(read_tensors(folder / f"{name}.pt"))
        scores[name] = score_items(net, splits.test, splits.classes, ignore_index=ignore_index)
    table = {name: {"mean": s.mean, "per_class": s.per_class, "cases": s.rows()} for name, s in scores.items()}
    table["best"]["step"] = result.best_step
    write_text(folder / "results.json", json.dumps({"test_dice": table}, indent=2) + "\n")
    draw_weights(folder / "weights.png", result.mixture, read_lines(folder / "metrics.jsonl"))
    if splits.test[0][0].ndim == 3:
        _draw_test(net, splits, folder / "predictions.png")
    return scores


def _draw_test(net: Instrumented, splits: Splits, path: Path, rows: int = 4) -> None:
    """Draw some test items, evenly spread, as the final network sees them."""
    chosen = sorted({round(i) for i in np.linspace(0, len(splits.test) - 1, rows)})
    items = [splits.test[i] for i in chosen]
    device = next(net.model.parameters()).device
    net.eval()
    predictions = [predict(net, image[None].to(device))[0].cpu().numpy() for image, _ in items]
    draw_predictions(
        path,
        np.stack([image[0].numpy() for image, _ in items]),
        np.stack([label.numpy() for _, label in items]),
        np.stack(predictions),
        splits.classes,
        [splits.test.names[i] for i in chosen],
    )


def _asked_for(recipe: Recipe, folder: Path) -> list[Tracker]:
    if not recipe.track.wandb:
        return []
    # Only settings go out: paths may name patients or people.
    config = recipe.model_dump(include={"name", "space", "loss", "weighting", "optimizer", "search"})
    config["space"] = {"name": Path(recipe.space.name).stem}
    return [Wandb(folder, recipe.track.project, config, recipe.track.online)]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _commit() -> str | None:
    """Return the commit of the checkout that this library runs from, None outside one."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
