"""The state of a search: everything that changes from step to step, written to checkpoints and read from them."""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lomix_search.data.sanity import Fingerprint, check_same_data
from lomix_search.errors import RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.dispatch import choose_engine
from lomix_search.mixture.weighting import Monitor
from lomix_search.recipe.sections import OptimizerSection, SearchSection
from lomix_search.training.checkpoint import (
    StateDict,
    latest_checkpoint,
    save_checkpoint,
    write_tensors,
)
from lomix_search.training.given_optimizer import Factory, check_plain_state, given_optimizer, optimizer_settings
from lomix_search.training.optimizer import build_optimizer, learning_rate, trained_groups
from lomix_search.training.run_folder import sweep, writing
from lomix_search.training.silent_classes import SilentClasses
from lomix_search.training.surroundings import surroundings
from lomix_search.utils.distributed import on_main, same_over_processes
from lomix_search.utils.random import random_state, restore_random_state, seed_everything

MAY_CHANGE = frozenset({"workers", "checkpoint_every", "patience", "skip_not_finite", "other_data"})
"""Settings of ``[search]`` that may change when a run goes on: they alter no step that was taken."""


@dataclass(frozen=True)
class TrainingPlan:
    """How to train; the arguments of ``search``, checked.

    Args:
        search: Steps, batches, seed, precision and so on.
        optimizer: Optimizer and schedule.
        given: The user's own optimizer, or what makes it; of the section only the schedule counts then.
    """

    search: SearchSection
    optimizer: OptimizerSection
    given: torch.optim.Optimizer | Factory | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All values by name; of a user's optimizer, those of its schedule."""
        own = {"schedule", "power"} if self.given is not None else None
        of_optimizer = {f"optimizer.{key}": value for key, value in self.optimizer.model_dump(include=own).items()}
        return {**self.search.model_dump(), **of_optimizer}


class TrainingState:
    """Network, loss, optimizer and all else that changes from step to step.

    Args:
        net: The instrumented network.
        loss: The mixture loss; moved to the network's device.
        plan: How to train.
        folder: The run folder.
    """

    def __init__(self, net: nn.Module, loss: MixtureLoss, plan: TrainingPlan, folder: Path) -> None:
        self.net, self.loss, self.plan, self.folder = net, loss, plan, folder
        self.device = next(net.parameters()).device
        loss.to(self.device)
        self._train_by(self._optimizer())
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.search.precision == "fp16")
        self.monitor, self.silent = Monitor(), SilentClasses()
        self.step, self.best_dice, self.best_step = 0, math.nan, 0
        self.skipped = 0  # steps in a row, up to now
        self.data: dict[str, Fingerprint] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What a run must go on with, by name."""
        return self.plan.settings | (self._given or {})

    def open(self, resume: bool, data: dict[str, Fingerprint] | None = None) -> None:
        """Start the folder, or go on where its last checkpoint stands.

        Args:
            resume: Go on, if there is a checkpoint.
            data: By the name of each dataset, what tells whether it is the one that the run was started with.

        Raises:
            RunError: the folder holds another run, or cannot be written, or was started with other data.
        """
        self.data = data or {}
        state = on_main(lambda: self._found(resume))
        if state is None:
            seed_everything(self.plan.search.seed)
            for module in (self.net, self.loss):
                same_over_processes([*module.parameters(), *module.buffers()])
            self.save()
        else:
            self._restore(state)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            RunError: it cannot be written; those before it are whole.
        """
        on_main(lambda: _write(self.folder / "checkpoints", self.step, self._state()))

    def write_network(self, name: str) -> None:
        """Write the state_dict of the user's own network, and that of its heads beside it: ``final.heads.pt``.

        Args:
            name: ``"final.pt"`` or ``"best.pt"``, in the run folder.

        Raises:
            RunError: it cannot be written.
        """
        path = self.folder / name
        with writing(path):
            heads = getattr(self.net, "heads", None)
            if heads is not None and len(heads):  # first, so that they are there whenever the network is
                write_tensors(path.with_suffix(".heads.pt"), StateDict(heads.state_dict()))
            write_tensors(path, StateDict(getattr(self.net, "model", self.net).state_dict()))

    @property
    def finished(self) -> bool:
        """Whether all steps are taken, or the search stops early."""
        return self.step >= self.plan.search.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether the last ``patience`` validations, one of them now, found no better Dice."""
        plan = self.plan.search
        if plan.patience is None or self.step % plan.validate_every or not self.step:
            return False
        return self.step - self.best_step >= plan.patience * plan.validate_every

    def _optimizer(self) -> torch.optim.Optimizer:
        """Build the optimizer of the recipe, or check the user's."""
        plan = self.plan
        self._given: dict[str, Any] | None = None
        if plan.given is None:
            groups = trained_groups(self.net, self.loss, weights_apart=plan.optimizer.name != "AdamW")
            return build_optimizer(plan.optimizer, groups)
        groups = trained_groups(self.net, self.loss, weights_apart=True)
        optimizer = given_optimizer(plan.given, self.net, self.loss, groups)
        self._given = optimizer_settings(optimizer)
        return optimizer

    def _train_by(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        factor = learning_rate(self.plan.optimizer, self.plan.search.steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def _found(self, resume: bool) -> StateDict | None:
        with writing(self.folder):
            sweep(self.folder)
        state = latest_checkpoint(self.folder / "checkpoints")
        if state is not None and not resume:
            raise RunError(
                f"{self.folder} holds a run already, at step {state['step']}.",
                hint=[
                    "resume=True                 to go on with it (lomix run … --resume)",
                    'folder="runs/another"       to start another (lomix run … --folder runs/another)',
                ],
            )
        if state is not None:
            check_same(json.loads(state["settings"]), self.settings, self.folder)
            self._check_task(json.loads(state.get("task", "{}")))
            if "data" in state:  # not in checkpoints of earlier versions
                accept = self.plan.search.other_data
                check_same_data(json.loads(state["data"]), self.data, self.folder, accept)
                self._tell_surroundings(state["step"], json.loads(state["surroundings"]))
        return state

    @property
    def _task(self) -> dict[str, Any]:
        """What the labels mean to the loss."""
        loss = self.loss
        return {"channels": loss.num_classes, "multilabel": loss.multilabel, "ignore_index": loss.ignore_index}

    def _check_task(self, before: dict[str, Any]) -> None:
        """Refuse to go on where labels mean something else than at the start; earlier versions do not say it."""
        now = self._task
        if found := [f"{key}: {before[key]} before, {now[key]} now" for key in before if before[key] != now[key]]:
            raise RunError(
                f"the checkpoint in {self.folder} is of another task.",
                seen=found,
                hint="the loss as it was; or another folder, to start anew",
            )

    def _tell_surroundings(self, step: int, before: dict[str, str]) -> None:
        """Warn of what is different from the last start, other than settings and data."""
        now = self._surroundings()
        found = [f"{key}: {before.get(key, '–')}, then {now[key]}" for key in now if before.get(key) != now[key]]
        if found:
            warnings.warn(
                f"{self.folder} goes on from step {step} in other surroundings than before: {'; '.join(found)}. "
                "Its result may differ from that of an unbroken run, by rounding or by more.",
                stacklevel=2,
            )

    def _surroundings(self) -> dict[str, str]:
        loss, dtype = self.loss, next(p.dtype for p in self.net.parameters())
        plan = loss.plan
        engine = choose_engine(loss.engine, self.device.type, plan.num_maps, plan.num_classes, dtype)
        return surroundings(self.device, engine if loss.loss is None else "the user's loss")

    def _state(self) -> StateDict:
        if self._given is not None:
            check_plain_state(self.optimizer)
        return {
            "step": self.step,
            "best": [self.best_dice, self.best_step],
            "skipped": self.skipped,
            "settings": json.dumps(self.settings, sort_keys=True),
            "data": json.dumps(self.data, sort_keys=True),
            "task": json.dumps(self._task, sort_keys=True),
            "surroundings": json.dumps(self._surroundings(), sort_keys=True),
            "net": self.net.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "monitor": self.monitor.state_dict(),
            "silent": self.silent.state_dict(),
            "random": random_state(),
        }

    def _restore(self, state: StateDict) -> None:
        try:
            self.net.load_state_dict(state["net"])
            self.loss.load_state_dict(state["loss"])
        except RuntimeError as cause:
            raise RunError(
                f"the checkpoint in {self.folder} is of another network or search space.",
                seen=str(cause).splitlines()[:4],
                hint="start in another folder",
            ) from None
        if len(state["optimizer"]["param_groups"]) < len(self.optimizer.param_groups):  # SGD of earlier versions
            self._train_by(build_optimizer(self.plan.optimizer, trained_groups(self.net, self.loss)))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.monitor.load_state_dict(state["monitor"])
        self.silent.load_state_dict(state.get("silent", {}))
        self.step, (self.best_dice, self.best_step) = state["step"], state["best"]
        self.skipped = state["skipped"]
        restore_random_state(state["random"])
        if json.loads(state["settings"])["steps"] != self.plan.search.steps:
            self._reschedule()

    def _reschedule(self) -> None:
        """Take the learning rate of this step from the schedule of a longer run."""
        groups = zip(self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True)
        for group, base, factor in groups:
            group["lr"] = base * factor(self.step)


def check_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Check that a run may go on with these settings: those of ``MAY_CHANGE`` may differ, and steps may grow.

    Args:
        before: Settings by name, as the run was started.
        now: Settings by name, as it is to go on.
        folder: The run folder.

    Raises:
        RunError: another setting differs, or there are fewer steps.
    """
    keys = [key for key in now if key not in MAY_CHANGE and before.get(key) != now[key]]
    if keys == ["steps"] and now["steps"] > before["steps"]:
        return
    if keys:
        free = ", ".join(sorted(MAY_CHANGE))
        raise RunError(
            f"{folder} was started with other settings.",
            seen=[f"{key}: {before.get(key)} before, {now[key]} now" for key in keys],
            hint=f"use the same ones, or another folder; {free} may change, and steps may grow",
        )


def _write(folder: Path, step: int, state: StateDict) -> None:
    with writing(folder / f"step_{step:08d}.pt"):
        save_checkpoint(folder, step, state)
