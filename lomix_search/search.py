"""The one-step search: network, operators and map weights trained together by one optimizer, as in the paper.

A run is a folder. Killed at any moment, it goes on from its last checkpoint to the very result of an unbroken run:
batches and augmentations are functions of the seed and the step, and everything else that changes is in the checkpoint.
"""

import json
import math
import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lomix_search.checkpoint import (
    State,
    latest_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
    write_tensors,
)
from lomix_search.data.dataset import Order, Seeded
from lomix_search.errors import RunError, nearest
from lomix_search.lookahead import Looker
from lomix_search.loss import MixtureLoss, Step
from lomix_search.metrics import DiceResult, score_items
from lomix_search.mixture import Mixture, Provenance
from lomix_search.optimizer import build_optimizer, learning_rate, trained_groups
from lomix_search.portions import check_apart, label_fraction, set_aside
from lomix_search.progress import Bar, Stop
from lomix_search.sections import Optimizer, Search
from lomix_search.shrink import check_shrink, shrink
from lomix_search.track import JsonLines, Tracker, Trackers
from lomix_search.typed import validate
from lomix_search.weighting import Lookahead, Monitor

Items = Dataset[tuple[Tensor, Tensor]]
Numbers = dict[str, float | str | list[float]]


@dataclass(frozen=True)
class Plan:
    """How to train; the arguments of ``search``, checked.

    Args:
        search: Steps, batches, seed, precision and so on.
        optimizer: Optimizer and schedule.
    """

    search: Search
    optimizer: Optimizer


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
    train: Items,
    val: Items | None = None,
    *,
    held_out: Items | None = None,
    folder: str | Path = "runs/search",
    classes: Sequence[str] | None = None,
    trackers: Iterable[Tracker] = (),
    resume: bool = False,
    progress: bool = True,
    provenance: Provenance | None = None,
    **settings: Any,
) -> Result:
    """Train a network with a mixture loss and keep what was found.

    Args:
        net: What ``instrument`` returned, on the device to train on.
        loss: The mixture loss; its parameters join the network's in one optimizer, as in the paper.
        train: Items (image (C, *spatial) float, label (*spatial) int64). Random augmentation must draw from the global
            generators of python, numpy or torch; it is then repeatable.
        val: Items to validate on, taken out of the training data, never the test data. Selects ``best.pt``.
        held_out: Items for the weighting ``lookahead`` to look at, of none of the other sets; by default it keeps a
            part of ``train`` aside.
        folder: The run folder: checkpoints, metrics.jsonl, mixture.json, final.pt, best.pt.
        classes: Class names, background first; ``class 0`` and so on by default.
        trackers: More places for the numbers, such as ``lomix_search.track.Wandb``. JSON lines are always written.
        resume: Go on from the folder's last checkpoint, if it has one.
        progress: Show a progress bar.
        provenance: What to note in the mixture file besides seed, steps, versions and metrics.
        **settings: As in a recipe: ``[search]``: ``steps``, ``batch_size``, ``seed``, ``precision`` (32, bf16 fp16),
            ``validate_every``, ``checkpoint_every``, ``workers``, ``clip_grad``, ``label_fraction``,
            ``shrink`` (``{"to": 8}``). Of ``[optimizer]``: ``optimizer`` (its name), ``lr``, ``weight_decay``,
            ``momentum``, ``schedule`` (constant, poly, cosine), ``power``.

    Returns:
        The mixture and the validation scores, final and best.

    Raises:
        RunError: the folder holds another run, a checkpoint does not fit, or a loss is not finite (which maps is said).
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written. SIGTERM ends the process with exit code 0.
    """
    plan = _plan(settings)
    home = Path(folder)
    run = _Run(net, loss, plan, home, classes or [f"class {i}" for i in range(max(2, loss.num_classes))])
    run.open(resume)
    with Trackers([JsonLines(home / "metrics.jsonl", run.step), *trackers]) as log, Stop() as stop:
        run.train(run.set_aside(train, val, held_out), val, log, stop, progress)
        final = run.validate(val, log, again=True) if val is not None else None
        result = run.finish(final, provenance or Provenance())
        log.files([home / "mixture.json"])
    return result


class _Run:
    """One run under way: everything that a checkpoint holds."""

    def __init__(self, net: nn.Module, loss: MixtureLoss, plan: Plan, folder: Path, classes: Sequence[str]) -> None:
        self.net, self.loss, self.plan, self.folder, self.classes = net, loss, plan.search, folder, classes
        self.settings = {
            **plan.search.model_dump(),
            **{f"optimizer.{k}": v for k, v in plan.optimizer.model_dump().items()},
        }
        self.device = next(net.parameters()).device
        loss.to(self.device)
        groups = trained_groups(net, loss)
        parameters = [p for group in groups for p in group["params"]]
        self.optimizer = build_optimizer(plan.optimizer, groups)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, learning_rate(plan.optimizer, plan.search.steps)
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.plan.precision == "fp16")
        self.parameters = parameters
        self.monitor = Monitor()
        self.looker: Looker | None = None
        self.step, self.best_dice, self.best_step = 0, math.nan, 0

    # -- state ---------------------------------------------------------------------------------------------------------

    def open(self, resume: bool) -> None:
        """Start the folder, or go on where its last checkpoint stands."""
        state = latest_checkpoint(self.folder / "checkpoints")
        if state is not None and not resume:
            raise RunError(
                f"{self.folder} holds a run already, at step {state['step']}.",
                hint=[
                    "resume=True                 to go on with it (lomix run … --resume)",
                    'folder="runs/another"       to start another (lomix run … --folder runs/another)',
                ],
            )
        if state is None:
            seed_everything(self.plan.seed)
            self.save()
        else:
            self._restore(state)

    def save(self) -> None:
        """Write a checkpoint."""
        save_checkpoint(self.folder / "checkpoints", self.step, self._state())

    def _state(self) -> State:
        return {
            "step": self.step,
            "best": [self.best_dice, self.best_step],
            "settings": json.dumps(self.settings, sort_keys=True),
            "net": self.net.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "monitor": self.monitor.state_dict(),
            "random": random_state(),
        }

    def _restore(self, state: State) -> None:
        _same_plan(json.loads(state["settings"]), self.settings, self.folder)
        try:
            self.net.load_state_dict(state["net"])
            self.loss.load_state_dict(state["loss"])
        except RuntimeError as cause:
            raise RunError(
                f"the checkpoint in {self.folder} is of another network or search space.",
                seen=str(cause).splitlines()[:4],
                hint="start in another folder",
            ) from None
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.monitor.load_state_dict(state["monitor"])
        self.step, (self.best_dice, self.best_step) = state["step"], state["best"]
        restore_random_state(state["random"])

    def set_aside(self, train: Items, val: Items | None, held_out: Items | None) -> Items:
        """Give the weighting its held-out items, if it wants any; return what is left to train on."""
        weighting, plan = self.loss.weighting, self.plan
        train = label_fraction(train, plan.label_fraction, plan.seed)
        if plan.shrink is not None:
            check_shrink(plan.shrink, self.loss)
        if not isinstance(weighting, Lookahead):
            if held_out is not None:
                raise RunError(
                    f'held_out was given; the weighting "{weighting.name}" looks at no held-out items.',
                    hint='MixtureLoss(…, weighting="lookahead")',
                )
            return train
        if held_out is None:
            train, held_out = set_aside(train, weighting.held_out, plan.seed)
        check_apart(held_out, {"training": train, "validation": val})
        self.looker = Looker(self.net, self.loss, held_out, plan.batch_size, plan.seed, self._autocast)
        return train

    # -- the loop ------------------------------------------------------------------------------------------------------

    def train(self, train: Items, val: Items | None, log: Trackers, stop: Stop, progress: bool) -> None:
        """Take the steps that are left."""
        plan, began = self.plan, time.monotonic()
        self.net.train()
        with Bar(progress, plan.steps, self.step) as advance:
            for images, labels in self._batches(train):
                started = time.monotonic()
                step, seen = self._advance(images, labels)
                numbers = self._numbers(step, time.monotonic() - began) | seen
                log.log(self.step, numbers | {"train/step_seconds": round(time.monotonic() - started, 5)})
                if progress and "mixture/warning" in numbers:
                    print(f"step {self.step}: {numbers['mixture/warning']}", flush=True)
                if val is not None and (self.step % plan.validate_every == 0 or self.step == plan.steps):
                    self.validate(val, log)
                if self.step % plan.checkpoint_every == 0 or self.step == plan.steps or stop.asked:
                    self.save()
                advance(self.step, f"loss {float(step.total.detach()):.3f}  best val Dice {self.best_dice:.3f}")
                if stop.asked and self.step < plan.steps:
                    stop.leave(self.folder, self.step)

    def _batches(self, train: Items) -> Iterable[tuple[Tensor, Tensor]]:
        order = Order(len(train), self.plan.batch_size, self.plan.seed)  # type: ignore[arg-type]
        return DataLoader(
            Seeded(train, self.plan.seed),
            batch_sampler=order.batches(self.step, self.plan.steps),
            num_workers=self.plan.workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.plan.workers > 0,
            # The loader draws a seed for its workers; from a generator of its own, so that the global one stays put.
            generator=torch.Generator().manual_seed(self.plan.seed),
        )

    def _advance(self, images: Tensor, labels: Tensor) -> tuple[Step, Numbers]:
        images, labels = (t.to(self.device, non_blocking=True) for t in (images, labels))
        weighting, seen = self.loss.weighting, {}
        weighting.advance(self.step / self.plan.steps)
        if self.plan.shrink is not None:
            shrink(self.plan.shrink, self.loss, self.step / self.plan.steps)
        if self.looker is not None and self.looker.weighting.due(self.step):
            seen = self.looker.look(self.step, images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            step: Step = self.loss(self.net(images), labels)
        if not torch.isfinite(step.total):
            raise self._not_finite(step, images)
        self.scaler.scale(step.total).backward()  # type: ignore[no-untyped-call]
        if self.plan.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.plan.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.step += 1
        return step, seen

    def _autocast(self) -> torch.autocast:
        kind = torch.float16 if self.plan.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, kind, enabled=self.plan.precision != "32")

    def _not_finite(self, step: Step, images: Tensor) -> RunError:
        broken = int((~torch.isfinite(images)).sum())
        where = f"the images: {broken} values are NaN or infinite" if broken else "the images are finite"
        return RunError(
            f"the loss is not finite at step {self.step + 1}.",
            seen=[f"maps: {', '.join(self.loss.culprits(step))}", where],
            hint="a lower lr, clip_grad=1.0 or precision=32; then go on from the last checkpoint with resume",
        )

    def _numbers(self, step: Step, seconds: float) -> Numbers:
        weights = step.weights.tolist()
        spread, warning = self.monitor.look([max(0.0, w) for w in weights])
        return {
            "train/loss": float(step.total.detach()),
            "train/lr": self.optimizer.param_groups[0]["lr"],
            "train/seconds": round(seconds, 3),
            "mixture/total": spread.total,
            "mixture/entropy": spread.entropy,
            "mixture/effective_maps": spread.effective_maps,
            "mixture/per_map": step.per_map.tolist(),
            "mixture/weights": weights,
            **({"mixture/warning": warning} if warning else {}),
        }

    def validate(self, val: Items, log: Trackers, again: bool = False) -> DiceResult:
        """Score the validation data; keep the network if it is the best so far.

        Args:
            val: The validation data.
            log: Where the scores go.
            again: Only score: this step has been validated, or is none of the regular ones.

        Returns:
            The scores.
        """
        result = score_items(self.net, val, self.classes, self.plan.batch_size, self.loss.ignore_index)
        if not again:
            log.log(self.step, {"val/dice": result.mean, **{f"val/dice/{k}": v for k, v in result.per_class.items()}})
        if not again and not result.mean <= self.best_dice:
            self.best_dice, self.best_step = result.mean, self.step
            write_tensors(self.folder / "best.pt", self._weights())
        return result

    def _weights(self) -> State:
        return dict(getattr(self.net, "model", self.net).state_dict())

    def finish(self, final: DiceResult | None, provenance: Provenance) -> Result:
        """Write what the run leaves."""
        metrics = {"val.dice.final": final.mean, "val.dice.best": self.best_dice} if final else {}
        if not math.isnan(self.best_dice):
            metrics["val.dice.best_step"] = float(self.best_step)
        noted = {"seed": self.plan.seed, "steps": self.plan.steps, "versions": _versions()}
        noted |= {"warnings": (self.monitor.warning,) if self.monitor.warning else ()}
        known = provenance.model_copy(update=noted | {"metrics": provenance.metrics | metrics})
        stages = getattr(self.net, "stages", ())
        mixture = self.loss.mixture(stages=stages, provenance=known)
        write_tensors(self.folder / "final.pt", self._weights())
        mixture.save(self.folder / "mixture.json")
        return Result(mixture, final, self.best_dice, self.best_step, self.folder)


def _plan(given: Mapping[str, Any]) -> Plan:
    """Sort flat arguments into the two sections of a recipe and check them there."""
    of_optimizer = set(Optimizer.model_fields) - {"name"}
    optimizer = {key: value for key, value in given.items() if key in of_optimizer}
    optimizer |= {"name": given["optimizer"]} if "optimizer" in given else {}
    rest = {key: value for key, value in given.items() if key not in of_optimizer | {"optimizer"}}
    known = set(Search.model_fields) | of_optimizer | {"optimizer"}
    faults = [f"{key}: unknown. {nearest(key, known)}" for key in rest if key not in known]
    rest = {key: value for key, value in rest.items() if key in known}
    checked = validate(Optimizer, optimizer, "search(…)", RunError, faults)
    return Plan(validate(Search, rest, "search(…)", RunError), checked)


def _same_plan(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    free = {"workers", "checkpoint_every"}  # these change no step's result
    keys = [key for key in now if key not in free and before.get(key) != now[key]]
    if keys:
        raise RunError(
            f"{folder} was started with other settings.",
            seen=[f"{key}: {before.get(key)} before, {now[key]} now" for key in keys],
            hint="use the same ones, or another folder",
        )


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _versions() -> dict[str, str]:
    from lomix_search import __version__

    return {"lomix_search": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}
