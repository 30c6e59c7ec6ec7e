"""One step of the search: a batch in, network, operators and weights moved, numbers out."""

import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lomix_search.errors import RunError
from lomix_search.training.held_out import Looker
from lomix_search.training.memory import memory_advice, out_of_memory
from lomix_search.training.shrink import shrink
from lomix_search.training.state import TrainingState
from lomix_search.utils.distributed import average_gradients, rank, same_everywhere, size, sum_over_processes
from lomix_search.utils.random import seeds_from

Numbers = dict[str, float | str | list[float]]

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
        self.plan = state.plan.search
        if size() > 1:
            warn_of_batch_norms(state.net)

    def take(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Numbers]:
        """Take one step.

        Args:
            images: The batch, or this process's share of it (B, C, *spatial).
            labels: Its labels (B, *spatial).

        Returns:
            The loss, detached, the same on every process, and numbers to log; ``state.loss.per_map`` tells of each map.

        Raises:
            RunError: memory ran out, or loss or gradient were not finite more often than may be.
        """
        state = self.state

        def advise(cause: str) -> RunError:
            return out_of_memory(state.net, state.loss, images, labels, state.step + 1, cause, self.plan.batch_size)

        with memory_advice(advise):
            return self._take(images, labels)

    def _take(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Numbers]:
        state = self.state
        images, labels = (t.to(state.device, non_blocking=True) for t in (images, labels))
        seen = self._prepare(images, labels)
        before = [buffer.clone() for buffer in self._buffers()]
        state.optimizer.zero_grad(set_to_none=True)
        total = self._forward(images, labels)
        fault = self._update(total, seen) if torch.isfinite(total) else "loss"
        if fault:
            self._skip(fault, images, before, seen)
        else:
            state.skipped = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "scheduler before optimizer": the first step was skipped
            state.scheduler.step()
        state.step += 1
        return total.detach(), seen

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

    def _update(self, total: Tensor, seen: Numbers) -> str:
        """Move everything along the gradient; return what is not finite where nothing was moved, else an empty text."""
        state, plan = self.state, self.plan
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        average_gradients(state.parameters)
        state.scaler.unscale_(state.optimizer)
        norm = float(nn.utils.get_total_norm([p.grad for p in state.parameters if p.grad is not None]))
        seen["train/grad_norm"] = norm
        if not state.scaler.is_enabled() and not np.isfinite(norm):
            return "gradient"
        if plan.clip_grad is not None:
            nn.utils.clip_grad_norm_(state.parameters, plan.clip_grad)
        state.scaler.step(state.optimizer)  # with fp16, it skips a step whose gradient overflowed
        state.scaler.update()
        if state.scaler.is_enabled():
            self._check_scale(state.scaler.get_scale(), seen)
        return ""

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

    def _skip(self, fault: str, images: Tensor, before: Sequence[Tensor], seen: Numbers) -> None:
        """Skip this step and take back what it wrote to buffers; after too many in a row, end the run."""
        state, limit = self.state, self.plan.skip_not_finite
        if state.skipped >= limit:
            raise same_everywhere(self._not_finite(fault, images))
        state.skipped += 1
        with torch.no_grad():
            for buffer, value in zip(self._buffers(), before, strict=True):
                buffer.copy_(value)
        seen["train/skipped"] = f"the {fault} is not finite, the step is skipped ({state.skipped} in a row, of {limit})"

    def _buffers(self) -> list[Tensor]:
        """Return what a forward pass may write to, such as the running statistics of batch norms."""
        return [*self.state.net.buffers(), *self.state.loss.weighting.buffers()]

    def _not_finite(self, fault: str, images: Tensor) -> RunError:
        broken = int(sum_over_processes((~torch.isfinite(images)).sum()))
        where = f"the images: {broken} values are NaN or infinite" if broken else "the images are finite"
        culprits = self.state.loss.culprits()
        what = f"maps: {', '.join(culprits)}" if culprits else _broken_parameters(self.state)
        skipped = f", after {self.state.skipped} such steps were skipped" if self.state.skipped else ""
        return RunError(
            f"the {fault} is not finite at step {self.state.step + 1}{skipped}.",
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
