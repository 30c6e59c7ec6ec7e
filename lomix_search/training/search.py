"""The one-step search: network, operators and map weights trained together by one optimizer, as in the paper.

A run is a folder. Killed at any moment, it goes on from its last checkpoint to the very result of an unbroken run:
batches and augmentations are functions of the seed and the step, and everything else that changes is in the checkpoint.
Under torchrun, processes share each batch and one writes. What decides is counted in steps, not read off a clock.
"""

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from lomix_search.data.sampler import Batches, Draw, Order
from lomix_search.data.sanity import Fingerprint, check_all_items, check_some_items
from lomix_search.data.seeding import Seeded
from lomix_search.data.subsets import check_apart, label_fraction, set_aside
from lomix_search.data.uniform_dataset import UniformDataset, collate
from lomix_search.errors import RunError, nearest
from lomix_search.evaluation.dice_meter import DiceResult, check_class_names
from lomix_search.evaluation.score_items import score_items
from lomix_search.instrumentation.modes import train_mode, undisturbed
from lomix_search.mixture.loss import MixtureLoss, Step
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.provenance import Provenance
from lomix_search.mixture.weighting import Lookahead
from lomix_search.recipe.sections import OptimizerSection, SearchSection
from lomix_search.training.checkpoint import StateDict, read_tensors, write_tensors
from lomix_search.training.held_out import Looker
from lomix_search.training.run_folder import hold, writing
from lomix_search.training.shrink import check_shrink
from lomix_search.training.state import TrainingPlan, TrainingState
from lomix_search.training.step import Numbers, Stepper, autocast
from lomix_search.training.trackers import JsonLines, Tracker, Trackers
from lomix_search.utils.distributed import (
    alike,
    is_main,
    largest_over_processes,
    lost_processes,
    on_main,
    same_over_processes,
    share,
    size,
)
from lomix_search.utils.progress import Bar, Stop
from lomix_search.utils.random import same_random_state
from lomix_search.utils.schema import build_typed, faults_in
from lomix_search.utils.shipped import VERSION

_Items = Dataset[tuple[Tensor, Tensor]]
_Sets = tuple[UniformDataset, UniformDataset | None, UniformDataset | None]
"""To train with, to validate with, to look at for the weighting."""
OnValidate = Callable[[int, float], None]


@dataclass(frozen=True)
class Result:
    """What a search leaves.

    Args:
        mixture: Maps and found weights; also in ``folder/mixture.json``.
        final: Validation scores of the last network; None without validation data.
        best_dice: Highest mean validation Dice seen, NaN without validation data.
        best_step: The step it was seen at.
        folder: The run folder. ``final.pt`` and ``best.pt`` hold the state_dict of the user's own network.
    """

    mixture: Mixture
    final: DiceResult | None
    best_dice: float
    best_step: int
    folder: Path


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
            that form, such as MONAI's dictionaries. Random augmentation draws from the global generators of python,
            numpy or torch, or from those that the data set holds, as MONAI's transforms do: all are seeded for each
            item.
        val: Items to validate on, taken out of the training data, never the test data. Selects ``best.pt``.
        held_out: Items for the weighting ``lookahead`` to look at, of none of the other sets; by default it keeps a
            part of ``train`` aside until its looks are over.
        folder: The run folder: checkpoints, metrics.jsonl, mixture.json, final.pt, best.pt.
        classes: Class names, background first; ``class 0`` and so on by default.
        trackers: More places for the numbers, such as ``lomix_search.training.trackers.Wandb``. JSON lines are always
            written.
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
            ``power``.

    Returns:
        The mixture and the validation scores, final and best.

    Raises:
        DataError: items of a form that cannot be trained with or labels outside the classes; names the item.
        RunError: the folder holds another run or is in use or cannot be written, a checkpoint does not fit, the data
            are others than those a run was started with, memory ran out, a process of several was lost, or the loss is
            not finite too often (which maps is said).
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written. SIGTERM ends the process with exit code 0.
    """
    plan, home = _plan(settings), Path(folder)
    with alike():
        _check_share(plan.search.batch_size)
        names = _class_names(classes, loss)
    loss.together = size() > 1
    training = TrainingState(net, loss, plan, home)
    say = progress and is_main()
    with lost_processes(lambda: f"{home}, at step {training.step}"), hold(home):
        with alike():
            sets = _uniform(training, train, val, held_out)
            kept, aside, looker = _set_aside(training, *sets)
            data = _looked_at(sets, names)
        training.open(resume, data)
        loop = _Loop(training, looker, names)
        loop.check_best()
        with _trackers(training, trackers) as log, Stop() as stop:
            loop.run(kept, aside, sets[1], log, stop, say, on_validate)
            final = loop.last_score(sets[1])
            result = loop.finish(final, provenance or Provenance())
            log.files([home / "mixture.json"])
    return result


class _Loop:
    """The loop around the steps: batches, numbers, validation, checkpoints, the end."""

    def __init__(self, training: TrainingState, looker: Looker | None, classes: Sequence[str]) -> None:
        self.at, self.plan, self.classes = training, training.plan.search, classes
        self.stepper = Stepper(training, looker)
        self._scored: tuple[int, DiceResult] | None = None  # the last validation and its step

    def run(
        self,
        train: _Items,
        aside: _Items | None,
        val: _Items | None,
        log: Trackers,
        stop: Stop,
        say: bool,
        on_validate: OnValidate | None,
    ) -> None:
        """Take the steps that are left; what was set aside for looks joins the training items when these are over."""
        at, plan, began = self.at, self.plan, time.monotonic()
        kept = train_mode(at.net)
        if say and kept:
            print(f"{len(kept)} modules of the network stay in eval mode, as they were given.", flush=True)
        with Bar(say, plan.steps, at.step) as advance:
            for images, labels in () if at.finished else self._batches(train, aside):
                started = time.monotonic()
                step, seen = self.stepper.take(images, labels)
                numbers = self._numbers(step, time.monotonic() - began) | seen
                log.log(at.step, numbers | {"train/step_seconds": round(time.monotonic() - started, 5)})
                for key in ("mixture/warning", "train/skipped"):
                    if say and key in numbers:
                        print(f"step {at.step}: {numbers[key]}", flush=True)
                if val is not None and (at.step % plan.validate_every == 0 or at.step == plan.steps):
                    self._validate(val, log, on_validate)
                stop.asked = self._asked(stop)
                if at.step % plan.checkpoint_every == 0 or at.finished or stop.asked:
                    at.save()
                advance(at.step, f"loss {float(step.total.detach()):.3f}  best val Dice {at.best_dice:.3f}")
                if at.finished:
                    break
                if stop.asked:
                    stop.leave(at.folder, at.step, is_main())
        if say and at.stopped_early and at.step < plan.steps:
            print(
                f"Stopped early at step {at.step}: best val Dice {at.best_dice:.3f} at step {at.best_step}", flush=True
            )

    def _batches(self, train: _Items, aside: _Items | None) -> Iterable[tuple[Tensor, Tensor]]:
        plan, now = self.plan, self.at.step
        few = Order(len(train), plan.batch_size, plan.seed)  # type: ignore[arg-type]
        if aside is None:
            parts = [few.batches(now, plan.steps)]
        else:
            weighting = self.at.loss.weighting
            assert isinstance(weighting, Lookahead)
            train = ConcatDataset([train, aside])
            turn = min(max(now, weighting.looks_end(plan.steps)), plan.steps)
            parts = [few.batches(now, turn), replace(few, n=len(train)).batches(turn, plan.steps)]
        return DataLoader(
            Seeded(train, plan.seed),
            batch_sampler=_Shares(parts),
            collate_fn=collate,
            num_workers=plan.workers,
            pin_memory=self.at.device.type == "cuda",
            persistent_workers=plan.workers > 0,
            # The loader draws a seed for its workers; from a generator of its own, so that the global one stays put.
            generator=torch.Generator().manual_seed(plan.seed),
        )

    def _asked(self, stop: Stop) -> int | None:
        """Say whether to stop, which all processes do after the same step."""
        if size() == 1:
            return stop.asked
        return int(largest_over_processes(torch.tensor(stop.asked or 0, device=self.at.device))) or None

    def _numbers(self, step: Step, seconds: float) -> Numbers:
        weights = step.weights.tolist()
        spread, warning = self.at.monitor.look([max(0.0, w) for w in weights])
        return {
            "train/loss": float(step.total.detach()),
            "train/lr": self.at.optimizer.param_groups[0]["lr"],
            "train/seconds": round(seconds, 3),
            "mixture/total": spread.total,
            "mixture/entropy": spread.entropy,
            "mixture/effective_maps": spread.effective_maps,
            "mixture/per_map": step.per_map.tolist(),
            "mixture/weights": weights,
            **({"mixture/warning": warning} if warning else {}),
        }

    def check_best(self) -> None:
        """Look for the best network so far of a run that goes on; should it be lost, the next one takes its place."""
        at = self.at
        if math.isnan(at.best_dice) or at.finished:
            return
        if fault := on_main(lambda: _fault(at.folder / "best.pt")):
            if is_main():
                best = f"the best network so far, of step {at.best_step} with Dice {at.best_dice:.3f}, is lost"
                warnings.warn(f"{fault}\n  {best}; the next validation takes its place.", stacklevel=3)
            at.best_dice, at.best_step = math.nan, at.step

    def last_score(self, val: _Items | None) -> DiceResult | None:
        """Return the score of the network as it is, which the last validation may have found already."""
        if val is None:
            return None
        at = self.at
        return self._scored[1] if self._scored and self._scored[0] == at.step else self._score(val)

    def _score(self, val: _Items) -> DiceResult:
        """Score the validation data, each process its share; nothing of the training moves."""
        at = self.at
        with undisturbed(at.net):
            same_over_processes(at.net.buffers())  # running statistics of batch norms differ
            result = score_items(at.net, val, self.classes, self.plan.batch_size, at.loss.ignore_index)
        self._scored = at.step, result
        return result

    def _validate(self, val: _Items, log: Trackers, on_validate: OnValidate | None) -> None:
        """Score the validation data; keep the network if it is the best so far."""
        at, result = self.at, self._score(val)
        log.log(at.step, {"val/dice": result.mean, **{f"val/dice/{k}": v for k, v in result.per_class.items()}})
        if is_better(result.mean, at.best_dice):
            at.best_dice, at.best_step = result.mean, at.step
            on_main(lambda: self._write("best.pt"))
        if on_validate is not None:
            with undisturbed(at.net):  # what a callback draws, and the modes it sets, are its own
                on_main(lambda: on_validate(at.step, result.mean))

    def _write(self, name: str) -> None:
        net, path = self.at.net, self.at.folder / name
        with writing(path):
            write_tensors(path, StateDict(getattr(net, "model", net).state_dict()))

    def finish(self, final: DiceResult | None, provenance: Provenance) -> Result:
        """Write what the run leaves."""
        at = self.at
        metrics = {"val.dice.final": final.mean, "val.dice.best": at.best_dice} if final else {}
        if not math.isnan(at.best_dice):
            metrics["val.dice.best_step"] = float(at.best_step)
        noted = {"seed": self.plan.seed, "steps": at.step, "versions": _versions()}
        noted |= {"warnings": (at.monitor.warning,) if at.monitor.warning else ()}
        known = provenance.model_copy(update=noted | {"metrics": provenance.metrics | metrics})
        mixture = at.loss.mixture(stages=getattr(at.net, "stages", ()), provenance=known)
        on_main(partial(self._leave, mixture))
        return Result(mixture, final, at.best_dice, at.best_step, at.folder)

    def _leave(self, mixture: Mixture) -> None:
        self._write("final.pt")
        with writing(self.at.folder / "mixture.json"):
            mixture.save(self.at.folder / "mixture.json")


def _fault(path: Path) -> str:
    try:
        read_tensors(path)
    except RunError as fault:
        return str(fault)
    return ""


def is_better(dice: float, best: float) -> bool:
    """Tell whether a score is the best so far: NaN never is, and any number is better than none."""
    return dice > best or (math.isnan(best) and not math.isnan(dice))


@dataclass(frozen=True)
class _Shares:
    """This process's share of each batch of one part of training after the other: a DataLoader's ``batch_sampler``."""

    parts: Sequence[Batches]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[list[Draw]]:
        return (list(share(keys)) for keys in chain.from_iterable(self.parts))


def _class_names(given: Sequence[str] | None, loss: MixtureLoss) -> Sequence[str]:
    number = max(2, loss.num_classes)
    if given is not None and len(given) != number:
        raise RunError(
            f"classes names {len(given)} classes; the loss has {number}, the background first.",
            seen=", ".join(given),
            hint="search(…, classes=[" + ", ".join(f'"class {i}"' for i in range(number)) + "])",
        )
    if given is not None:
        check_class_names(given)
    return given or [f"class {i}" for i in range(number)]


def _uniform(at: TrainingState, train: _Items, val: _Items | None, held_out: _Items | None) -> _Sets:
    """Bring the items of every set into one form, or refuse the set."""
    dtype = next((p.dtype for p in at.net.parameters() if p.is_floating_point()), torch.float32)

    def one(items: _Items, what: str) -> UniformDataset:
        return UniformDataset(items, what, at.loss.num_classes, at.loss.ignore_index, dtype)

    return (
        one(train, "training"),
        None if val is None else one(val, "validation"),
        None if held_out is None else one(held_out, "held-out"),
    )


def _looked_at(sets: _Sets, classes: Sequence[str]) -> dict[str, Fingerprint]:
    """Look at all sets before a step is taken, and return what tells whether they are the same later."""
    train, val, held_out = sets
    with same_random_state():
        found = {"training": check_some_items(train)}
        found |= {} if val is None else {"validation": check_all_items(val, classes)}
        return found | ({} if held_out is None else {"held-out": check_some_items(held_out)})


def _set_aside(
    at: TrainingState, train: _Items, val: _Items | None, held_out: _Items | None
) -> tuple[_Items, _Items | None, Looker | None]:
    """Check that settings and data fit; give the weighting its held-out items, if it wants any.

    Returns the items to train with, those set aside that are to join them later, and what looks at the held-out ones.
    """
    weighting, plan = at.loss.weighting, at.plan.search
    train = label_fraction(train, plan.label_fraction, plan.seed)
    if plan.shrink is not None:
        check_shrink(plan.shrink, at.loss)
    if plan.patience is not None and val is None:
        raise RunError(
            f"patience = {plan.patience} waits for a better validation Dice; there are no validation data.",
            hint="search(net, loss, train, val, …), or no patience",
        )
    if not isinstance(weighting, Lookahead):
        if held_out is not None:
            raise RunError(
                f'held_out was given; the weighting "{weighting.name}" looks at no held-out items.',
                hint='MixtureLoss(…, weighting="lookahead")',
            )
        return train, None, None
    aside = None
    if held_out is None:
        train, held_out = set_aside(train, weighting.held_out, plan.seed)
        aside = held_out if weighting.until < 1 else None
    check_apart(held_out, {"training": train, "validation": val})
    return train, aside, Looker(at.net, at.loss, held_out, plan.batch_size, plan.seed, partial(autocast, at))


def _trackers(at: TrainingState, others: Iterable[Tracker]) -> Trackers:
    """Return where the numbers go: nowhere on all processes but one."""
    if not is_main():
        return Trackers([])
    path = at.folder / "metrics.jsonl"
    with writing(path):
        return Trackers([JsonLines(path, at.step), *others])


def _check_share(batch_size: int) -> None:
    if batch_size < size():
        raise RunError(
            f"batch_size = {batch_size} on {size()} processes: each needs one item at least.",
            hint=[f"search.batch_size={size()}", f"torchrun --nproc-per-node {batch_size} …"],
        )


def _plan(given: Mapping[str, Any]) -> TrainingPlan:
    """Sort flat arguments into the two sections of a recipe and check them there."""
    of_optimizer = set(OptimizerSection.model_fields) - {"name"}
    optimizer = {key: value for key, value in given.items() if key in of_optimizer}
    optimizer |= {"name": given["optimizer"]} if "optimizer" in given else {}
    rest = {key: value for key, value in given.items() if key not in of_optimizer | {"optimizer"}}
    known = set(SearchSection.model_fields) | of_optimizer | {"optimizer"}
    faults = [f"{key}: unknown. {nearest(key, known)}" for key in rest if key not in known]
    rest = {key: value for key, value in rest.items() if key in known}
    faults += faults_in(SearchSection, rest)
    checked = build_typed(OptimizerSection, optimizer, "search(…)", RunError, faults)
    return TrainingPlan(build_typed(SearchSection, rest, "search(…)", RunError), checked)


def _versions() -> dict[str, str]:
    return {"lomix_search": VERSION, "torch": torch.__version__, "python": sys.version.split()[0]}
