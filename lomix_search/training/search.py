"""The one-step search: network, operators and map weights trained together by one optimizer, as in the paper.

A run is a folder. Killed at any moment, it goes on from its last checkpoint to the very result of an unbroken run:
batches and augmentations are functions of the seed and the step, and everything else that changes is in the checkpoint.
Under torchrun, processes share each batch and one writes. What decides is counted in steps, not read off a clock.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lomix_search.errors import RunError, nearest
from lomix_search.evaluation.dice_meter import check_class_names
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.provenance import Provenance
from lomix_search.recipe.sections import OptimizerSection, SearchSection
from lomix_search.training.dataloader import training_batches
from lomix_search.training.datasets import DividedDatasets, divide, in_one_form
from lomix_search.training.held_out import Looker
from lomix_search.training.loop import Loop
from lomix_search.training.result import Result, leave_result
from lomix_search.training.run_folder import hold, writing
from lomix_search.training.state import TrainingPlan, TrainingState
from lomix_search.training.step import Stepper, autocast
from lomix_search.training.trackers import JsonLines, Tracker, Trackers
from lomix_search.training.validation import OnValidate, Validator
from lomix_search.utils.distributed import alike, is_main, lost_processes, size
from lomix_search.utils.progress import Stop
from lomix_search.utils.schema import build_typed, faults_in

_Items = Dataset[tuple[Tensor, Tensor]]


def search(
    net: nn.Module,
    loss: MixtureLoss,
    train: _Items,
    val: _Items | None = None,
    *,
    held_out: _Items | None = None,
    folder: str | Path = "runs/search",
    classes: Sequence[str] | None = None,
    trackers: Iterable[Tracker] = (),
    resume: bool = False,
    progress: bool = True,
    provenance: Provenance | None = None,
    on_validate: OnValidate | None = None,
    **settings: Any,
) -> Result:
    """Train a network with a mixture loss and keep what was found.

    Args:
        net: What ``instrument`` returned, on the device to train on.
        loss: The mixture loss; its parameters join the network's in one optimizer, as in the paper.
        train: Items (image (C, *spatial) float, label (*spatial) int64), or what ``data.uniform_dataset`` brings into
            that form, such as MONAI's dictionaries; with a multi-label loss masks (R, *spatial). Random augmentation
            may draw from the global generators of python, numpy or torch, or from those that the dataset holds, as
            MONAI's transforms do: all are seeded for each item.
        val: Items to validate on, taken out of the training data, never the test data. Selects ``best.pt``.
        held_out: Items for the weighting ``lookahead`` to look at, of none of the other sets; by default it keeps a
            part of ``train`` aside until its looks are over.
        folder: The run folder: checkpoints, metrics.jsonl, mixture.json, final.pt, best.pt.
        classes: Class names, background first; ``class 0`` and so on by default. The regions of a multi-label loss.
        trackers: More places for the numbers, such as ``lomix_search.training.trackers.Wandb``; they are closed at the
            end of the search. JSON lines are always written.
        resume: Go on from the folder's last checkpoint, if it has one. With more ``steps`` than before, a finished run
            goes on; schedules of learning rate and weights are then those of the longer run from there on.
        progress: Show a progress bar.
        provenance: What to note in the mixture file besides seed, steps, versions and metrics.
        on_validate: Called after each validation with the step and the mean Dice. What it raises ends the search. In a
            distributed run it is called on process 0, and what it raises is raised on all.
        **settings: As in a recipe: ``[search]``: ``steps``, ``batch_size``, ``seed``, ``precision`` (32, bf16 fp16),
            ``validate_every``, ``checkpoint_every``, ``workers``, ``clip_grad``, ``label_fraction``,
            ``shrink`` (``{"to": 8}``), ``patience``, ``skip_not_finite``, ``other_data``. Of ``[optimizer]``:
            ``optimizer`` (its name), ``lr``, ``weight_decay``, ``momentum``, ``schedule`` (constant, poly, cosine),
            ``power``. ``optimizer`` may also be one that you built over the parameters of network and loss, or a
            function that builds one of parameter groups, such as ``functools.partial(torch.optim.RMSprop, lr=1e-3)``;
            ``schedule`` and ``power`` still count then, and its state is in the checkpoints.

    Returns:
        The mixture and the validation scores, final and best.

    Raises:
        DataError: items of a form that cannot be trained with or labels outside the classes; names the item.
        RunError: the folder holds another run, is in use or cannot be written; a checkpoint does not fit; the data are
            not those that the run was started with; memory ran out; another process was lost; or the loss is not finite
            too often (the message names the maps).
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written. SIGTERM ends the process with exit code 0.
    """
    plan = _plan(settings)
    with Trackers(trackers) as log:
        return run_search(
            net,
            loss,
            train,
            val,
            plan,
            held_out=held_out,
            folder=Path(folder),
            classes=classes,
            log=log,
            resume=resume,
            progress=progress,
            provenance=provenance,
            on_validate=on_validate,
        )


def run_search(
    net: nn.Module,
    loss: MixtureLoss,
    train: _Items,
    val: _Items | None,
    plan: TrainingPlan,
    *,
    folder: Path,
    log: Tracker,
    held_out: _Items | None = None,
    classes: Sequence[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    provenance: Provenance | None = None,
    on_validate: OnValidate | None = None,
) -> Result:
    """Do what :func:`search` does, by the typed sections of a recipe.

    Args:
        net: As for ``search``, like all that is not described here.
        loss: The mixture loss.
        train: To train on.
        val: To validate on.
        plan: How to train.
        folder: The run folder.
        log: Takes the numbers beside ``metrics.jsonl``, on process 0. Whoever opened it closes it.
        held_out: For the weighting to look at.
        classes: Class names, background first.
        resume: Go on from the folder's last checkpoint.
        progress: Show a progress bar.
        provenance: What to note in the mixture file.
        on_validate: Called after each validation.

    Returns:
        The mixture and the validation scores.

    Raises:
        DataError: as ``search``.
        RunError: as ``search``.
        KeyboardInterrupt: as ``search``.
    """
    with alike():
        _check_net(net)
        _check_share(plan.search.batch_size)
        names = _class_names(classes, loss)
        loss.together = size() > 1
        state = TrainingState(net, loss, plan, folder)
    with lost_processes(lambda: f"{folder}, at step {state.step}"), hold(folder), loss.watch.paused():
        with alike():
            given = in_one_form(state, train, val, held_out)
            items = divide(state, given)
            looker = _looker(state, items)
            fingerprints = given.look(names)
        state.open(resume, fingerprints)
        validation = Validator(state, given.val, names, on_validate)
        validation.check_best()
        with _metrics(state) as metrics, Stop() as stop:
            everywhere = Trackers([metrics, log] if is_main() else [])
            loop = Loop(Stepper(state, looker), validation, everywhere, stop, progress and is_main())
            loop.run(training_batches(state, items))
            result = leave_result(state, validation.last_score(), provenance or Provenance())
            everywhere.files([folder / "mixture.json"])
    return result


@contextmanager
def _metrics(state: TrainingState) -> Iterator[Trackers]:
    """Keep ``metrics.jsonl`` open, on the process that writes."""
    opened = []
    if is_main():
        path = state.folder / "metrics.jsonl"
        with writing(path):
            opened.append(JsonLines(path, state.step))
    with Trackers(opened) as log:
        yield log


def _looker(state: TrainingState, items: DividedDatasets) -> Looker | None:
    """Return what looks at the held-out items, if there are any."""
    if items.held_out is None:
        return None
    plan = state.plan.search
    return Looker(state.net, state.loss, items.held_out, plan.batch_size, plan.seed, partial(autocast, state))


def _class_names(given: Sequence[str] | None, loss: MixtureLoss) -> Sequence[str]:
    number = loss.num_classes if loss.multilabel else max(2, loss.num_classes)
    numbered = (
        [f"region {i}" for i in range(1, number + 1)] if loss.multilabel else [f"class {i}" for i in range(number)]
    )
    if given is not None and len(given) != number:
        what = "regions without a background" if loss.multilabel else "the background first"
        raise RunError(
            f"classes names {len(given)} classes; the loss has {number}, {what}.",
            seen=", ".join(given),
            hint="search(…, classes=[" + ", ".join(f'"{name}"' for name in numbered) + "])",
        )
    if given is not None:
        check_class_names(given, loss.multilabel)
    return given or numbered


def _check_net(net: object) -> None:
    """Check that a network gives the maps of its stages, and is bare."""
    if not isinstance(net, nn.Module) or not hasattr(net, "stages") or not hasattr(net, "heads"):
        raise RunError(
            f"search needs an instrumented network, not a {type(net).__name__}.",
            hint=[
                "net = lomix.instrument(unet, example=images)",
                "(a network inside DistributedDataParallel: net.module; several processes are search's own work)",
            ],
        )


def _check_share(batch_size: int) -> None:
    if batch_size < size():
        raise RunError(
            f"batch_size = {batch_size} on {size()} processes: each needs one item at least.",
            hint=[f"search.batch_size={size()}", f"torchrun --nproc-per-node {batch_size} …"],
        )


def _plan(given: Mapping[str, Any]) -> TrainingPlan:
    """Sort flat arguments into the two sections of a recipe and check them there."""
    own = given.get("optimizer")
    own = None if isinstance(own, str) else own
    of_optimizer = set(OptimizerSection.model_fields) - {"name"}
    optimizer = {key: value for key, value in given.items() if key in of_optimizer}
    optimizer |= {"name": given["optimizer"]} if "optimizer" in given and own is None else {}
    rest = {key: value for key, value in given.items() if key not in of_optimizer | {"optimizer"}}
    known = set(SearchSection.model_fields) | of_optimizer | {"optimizer"}
    faults = [f"{key}: unknown. {nearest(key, known)}" for key in rest if key not in known]
    if own is None and isinstance(getattr(torch.optim, str(given.get("optimizer")), None), type):
        build = f"functools.partial(torch.optim.{given['optimizer']}, lr={given.get('lr', 1e-3)})"
        faults += [] if given["optimizer"] in ("AdamW", "SGD") else [f"optimizer: give {build} for this one."]
    if own is not None:
        taken = sorted(optimizer.keys() - {"schedule", "power"})
        faults += [f"{key}: give it to the optimizer that you build yourself." for key in taken]
    rest = {key: value for key, value in rest.items() if key in known}
    faults += faults_in(SearchSection, rest)
    checked = build_typed(OptimizerSection, optimizer, "search(…)", RunError, faults)
    return TrainingPlan(build_typed(SearchSection, rest, "search(…)", RunError), checked, own)
