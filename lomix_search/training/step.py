"""One step of the search: a batch in, network, operators and weights moved, numbers out."""

import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lomix_search.errors import RunError
from lomix_search.training.held_out import Looker
from lomix_search.training.memory import memory_advice, out_of_memory
from lomix_search.training.optimizer import skips_on_device
from lomix_search.training.shrink import shrink
from lomix_search.training.state import TrainingState
from lomix_search.training.taken_step import Fetched, KeptBuffers, Numbers, TakenStep
from lomix_search.utils.distributed import average_gradients, rank, same_everywhere, size, sum_over_processes
from lomix_search.utils.random import seeds_from

_LEAST_SCALE = 2.0**-14  # of fp16: scaling cannot save a gradient that overflows below it


class Stepper:
    """Takes steps.

    In a distributed run, each process gets its share of the batch, and the steps are those of one process with the
    whole batch. Two things differ: batch norms see only the items of their own process, and dropout draws anew in each.

    Args:
        state: The training.
        looker: Looks at held-out data, if the weighting wants that.
    """

    def __init__(self, state: TrainingState, looker: Looker | None) -> None:
        self.state, self.looker = state, looker
        self.plan, self._before = state.plan.search, KeptBuffers()
        if size() > 1:
            warn_of_batch_norms(state.net)

    def take(self, images: Tensor, labels: Tensor) -> TakenStep:
        """Take one step.

        Args:
            images: The batch, or this process's share of it (B, C, *spatial).
            labels: Its labels (B, *spatial).

        Returns:
            What the step said, its numbers on the device.

        Raises:
            RunError: memory ran out, or loss or gradient were not finite more often than may be.
        """
        state = self.state

        def advise(cause: str) -> RunError:
            return out_of_memory(state.net, state.loss, images, labels, state.step + 1, cause, self.plan.batch_size)

        with memory_advice(advise):
            return self._take(images, labels)

    def _take(self, images: Tensor, labels: Tensor) -> TakenStep:
        state = self.state
        images, labels = (t.to(state.device, non_blocking=True) for t in (images, labels))
        seen = self._prepare(images, labels)
        self._before.keep(self._buffers())
        state.optimizer.zero_grad(set_to_none=True)
        total = self._forward(images, labels)
        norm = self._move(total, images, seen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "scheduler before optimizer": the first step was skipped
            state.scheduler.step()
        state.step += 1
        per_map = state.loss.per_map
        broken = (~torch.isfinite(images)).sum() if self.on_device else None
        rate = state.optimizer.param_groups[0]["lr"]
        return TakenStep(state.step, rate, total.detach(), norm, per_map.losses, per_map.weights, broken, seen)

    @property
    def on_device(self) -> bool:
        """Whether a step that is not finite is left out on the device, without a wait. With fp16 the scaler waits."""
        return not self.state.scaler.is_enabled() and skips_on_device(self.state.optimizer)

    def _move(self, total: Tensor, images: Tensor, seen: Numbers) -> Tensor | None:
        """Move everything, unless loss or gradient are not finite; return the gradient's norm, if there is one."""
        if self.on_device:
            return self._move_on_device(total)
        state = self.state
        finite = bool(torch.isfinite(total))
        norm, fault = self._update(total, seen) if finite else (None, "loss")
        if fault:
            self._skip_now(fault, images, seen)
        else:
            state.skipped = 0
        return norm

    def _move_on_device(self, total: Tensor) -> Tensor:
        """Do the same where only the device knows whether the step counts."""
        state, optimizer = self.state, cast(Any, self.state.optimizer)
        total.backward()  # type: ignore[no-untyped-call]
        average_gradients(state.parameters)
        norm = self._clipped()
        wrong = ~(torch.isfinite(total.detach()) & torch.isfinite(norm))
        optimizer.found_inf, optimizer.grad_scale = wrong.float(), None
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf, optimizer.grad_scale
        self._before.put_back(self._buffers(), wrong)
        return norm

    def _clipped(self) -> Tensor:
        """Return the norm of the gradient, and clip it if that is wanted and it is finite or nobody waits to know."""
        state = self.state
        norm = nn.utils.get_total_norm([p.grad for p in state.parameters if p.grad is not None])
        if self.plan.clip_grad is not None and (self.on_device or state.scaler.is_enabled() or torch.isfinite(norm)):
            nn.utils.clip_grads_with_norm_(state.parameters, self.plan.clip_grad, norm)
        return norm

    def _prepare(self, images: Tensor, labels: Tensor) -> Numbers:
        """Bring the weighting to this step."""
        state, plan = self.state, self.plan
        state.loss.weighting.advance(state.step / plan.steps)
        if plan.shrink is not None:
            shrink(plan.shrink, state.loss, state.step / plan.steps)
        if self.looker is not None and self.looker.weighting.due(state.step):
            return self.looker.look(state.step, images, labels)
        return {}

    def _forward(self, images: Tensor, labels: Tensor) -> Tensor:
        with autocast(self.state):
            self._seed(rank() + 1)
            maps = self.state.net(images)
            self._seed(0)
            total: Tensor = self.state.loss(maps, labels)
        return total

    def _seed(self, number: int) -> None:
        """Draw anew in each process's network, and the same in the loss of all; one process alone draws on as ever.

        What is drawn follows from seed, step and process, so that a run on as many processes goes on as it would have.
        """
        if size() > 1:
            (seed,) = seeds_from((self.plan.seed, self.state.step, number), 1)
            torch.manual_seed(seed)

    def _update(self, total: Tensor, seen: Numbers) -> tuple[Tensor, str]:
        """Move everything along the gradient; return its norm, and what is not finite where nothing was moved."""
        state = self.state
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        average_gradients(state.parameters)
        state.scaler.unscale_(state.optimizer)
        norm = self._clipped()
        if not state.scaler.is_enabled() and not torch.isfinite(norm):
            return norm, "gradient"
        state.scaler.step(state.optimizer)  # with fp16, it skips a step whose gradient overflowed
        state.scaler.update()
        if state.scaler.is_enabled():
            self._check_scale(state.scaler.get_scale(), seen)
        return norm, ""

    def _check_scale(self, scale: float, seen: Numbers) -> None:
        seen["train/loss_scale"] = scale
        if scale < _LEAST_SCALE:
            raise same_everywhere(
                RunError(
                    f"fp16: gradients overflow at step {self.state.step + 1} even with a loss scale of {scale:.1e}.",
                    seen=_broken_parameters(self.state),
                    hint="precision=bf16, in another folder",
                )
            )

    def count(self, step: TakenStep, found: Fetched) -> None:
        """Take note of whether a step that was left out on the device counts, once its numbers are known.

        Args:
            step: The step; what is to be said of it is added to its ``seen``.
            found: Its numbers.

        Raises:
            RunError: too many in a row do not.
        """
        if not self.on_device:
            return
        if np.isfinite(found.total) and np.isfinite(found.norm or 0.0):
            self.state.skipped = 0
            return
        pairs = zip(self.state.loss.map_ids, found.losses, found.weights, strict=True)
        culprits = [name for name, loss, weight in pairs if weight and not np.isfinite(loss)]
        what = f"maps: {', '.join(culprits)}" if culprits else "all maps are finite"
        broken = int(sum_over_processes(torch.tensor(found.broken, device=self.state.device)))
        fault = "gradient" if np.isfinite(found.total) else "loss"
        self._skip(fault, step.seen, lambda: self._not_finite(fault, step.number, what, broken))

    def _skip_now(self, fault: str, images: Tensor, seen: Numbers) -> None:
        """Skip the step that is being taken, and take back what it wrote to buffers."""

        def error() -> RunError:
            broken = int(sum_over_processes((~torch.isfinite(images)).sum()))
            culprits = self.state.loss.culprits()
            what = f"maps: {', '.join(culprits)}" if culprits else _broken_parameters(self.state)
            return self._not_finite(fault, self.state.step + 1, what, broken)

        self._skip(fault, seen, error)
        self._before.put_back(self._buffers())

    def _skip(self, fault: str, seen: Numbers, error: Callable[[], RunError]) -> None:
        """Count a skipped step; after too many in a row, end the run."""
        state, limit = self.state, self.plan.skip_not_finite
        if state.skipped >= limit:
            raise same_everywhere(error())
        state.skipped += 1
        seen["train/skipped"] = f"the {fault} is not finite, the step is skipped ({state.skipped} in a row, of {limit})"

    def _buffers(self) -> list[Tensor]:
        """Return what a forward pass may write to, such as the running statistics of batch norms."""
        return [*self.state.net.buffers(), *self.state.loss.weighting.buffers()]

    def _not_finite(self, fault: str, number: int, what: str, broken: int) -> RunError:
        where = f"the images: {broken} values are NaN or infinite" if broken else "the images are finite"
        skipped = f", after {self.state.skipped} such steps were skipped" if self.state.skipped else ""
        return RunError(
            f"the {fault} is not finite at step {number}{skipped}.",
            seen=[what, where],
            hint="a lower lr, clip_grad=1.0 or precision=32, in another folder; or resume with skip_not_finite="
            f"{max(10, 2 * self.plan.skip_not_finite)}",
        )


def autocast(state: TrainingState) -> torch.autocast:
    """Make the context of a forward pass at the run's precision."""
    precision = state.plan.search.precision
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(state.device.type, kind, enabled=precision != "32")


def _broken_parameters(state: TrainingState) -> str:
    named = [*state.net.named_parameters(), *((f"loss.{name}", p) for name, p in state.loss.named_parameters())]
    broken = [name for name, p in named if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    more = ", …" if len(broken) > 6 else ""
    return f"gradients of {', '.join(broken[:6])}{more}" if broken else "all maps and gradients are finite"


def warn_of_batch_norms(net: nn.Module) -> None:
    """Warn of layers that look at other items of a batch.

    Args:
        net: The network.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found = [name for name, module in net.named_modules() if isinstance(cast(Any, module), kinds)]
    if found and rank() == 0:
        warnings.warn(
            f"{len(found)} batch norms ({found[0]}, …) see only the items of their own process, so that {size()} "
            "processes train another network than one does. nn.SyncBatchNorm.convert_sync_batchnorm(model) before "
            "instrument() lets them see all (GPUs only); group or instance norms need nothing.",
            stacklevel=3,
        )
