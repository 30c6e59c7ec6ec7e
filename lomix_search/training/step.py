"""One step of the search: a batch in, network, operators and weights moved, numbers out."""

import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lomix_search.errors import RunError
from lomix_search.mixture.loss import Step
from lomix_search.training.held_out import Looker
from lomix_search.training.memory import memory_advice, out_of_memory
from lomix_search.training.shrink import shrink
from lomix_search.training.state import TrainingState
from lomix_search.utils.distributed import average_gradients, rank, same_everywhere, size, sum_over_processes

Numbers = dict[str, float | str | list[float]]

_LEAST_SCALE = 2.0**-14  # of fp16: a gradient that overflows below it is not one that scaling can save


class Stepper:
    """Takes steps.

    In a distributed run, each process gets its share of the batch, and the steps are those of one process with the
    whole batch, but for what looks at other items of a batch: batch norms see the items of their process, and dropout
    draws for each process anew.

    Args:
        run: The training.
        looker: Looks at held-out data, if the weighting wants that.
    """

    def __init__(self, run: TrainingState, looker: Looker | None) -> None:
        self.run, self.looker = run, looker
        self.plan = run.plan.search
        if size() > 1:
            warn_of_batch_norms(run.net)

    def take(self, images: Tensor, labels: Tensor) -> tuple[Step, Numbers]:
        """Take one step.

        Args:
            images: The batch, or this process's share of it (B, C, *spatial).
            labels: Its labels (B, *spatial).

        Returns:
            What the loss said, the same on every process, and numbers to log.

        Raises:
            RunError: memory ran out, or loss or gradient were not finite more often than may be.
        """
        run = self.run

        def advise(cause: str) -> RunError:
            return out_of_memory(run.net, run.loss, images, labels, run.step + 1, cause, self.plan.batch_size)

        with memory_advice(advise):
            return self._take(images, labels)

    def _take(self, images: Tensor, labels: Tensor) -> tuple[Step, Numbers]:
        run = self.run
        images, labels = (t.to(run.device, non_blocking=True) for t in (images, labels))
        seen = self._prepare(images, labels)
        before = [buffer.clone() for buffer in self._buffers()]
        run.optimizer.zero_grad(set_to_none=True)
        step = self._forward(images, labels)
        fault = self._update(step, seen) if torch.isfinite(step.total) else "loss"
        if fault:
            self._skip(fault, step, images, before, seen)
        else:
            run.skipped = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "scheduler before optimizer": the first step was skipped
            run.scheduler.step()
        run.step += 1
        return step, seen

    def _prepare(self, images: Tensor, labels: Tensor) -> Numbers:
        """Bring the weighting to this step."""
        run, plan = self.run, self.plan
        run.loss.weighting.advance(run.step / plan.steps)
        if plan.shrink is not None:
            shrink(plan.shrink, run.loss, run.step / plan.steps)
        if self.looker is not None and self.looker.weighting.due(run.step):
            return self.looker.look(run.step, images, labels)
        return {}

    def _forward(self, images: Tensor, labels: Tensor) -> Step:
        with autocast(self.run):
            self._seed(rank() + 1)
            maps = self.run.net(images)
            self._seed(0)
            step: Step = self.run.loss(maps, labels)
        return step

    def _seed(self, number: int) -> None:
        """Draw anew in each process's network, and the same in the loss of all; one process alone draws on as ever.

        What is drawn follows from seed, step and process, so that a run on as many processes goes on as it would have.
        """
        if size() > 1:
            words = np.random.SeedSequence((self.plan.seed, self.run.step, number)).generate_state(1)
            torch.manual_seed(int(words[0]))

    def _update(self, step: Step, seen: Numbers) -> str:
        """Move everything along the gradient; return what kept it from that, if anything did."""
        run, plan = self.run, self.plan
        run.scaler.scale(step.total).backward()  # type: ignore[no-untyped-call]
        average_gradients(run.parameters)
        run.scaler.unscale_(run.optimizer)
        norm = float(nn.utils.get_total_norm([p.grad for p in run.parameters if p.grad is not None]))
        seen["train/grad_norm"] = norm
        if not run.scaler.is_enabled() and not np.isfinite(norm):
            return "gradient"
        if plan.clip_grad is not None:
            nn.utils.clip_grad_norm_(run.parameters, plan.clip_grad)
        run.scaler.step(run.optimizer)  # of fp16, leaves out a step whose gradient overflowed, and lowers the scale
        run.scaler.update()
        if run.scaler.is_enabled():
            self._check_scale(run.scaler.get_scale(), seen)
        return ""

    def _check_scale(self, scale: float, seen: Numbers) -> None:
        seen["train/loss_scale"] = scale
        if scale < _LEAST_SCALE:
            raise same_everywhere(
                RunError(
                    f"fp16: gradients overflow at step {self.run.step + 1} even with a loss scale of {scale:.1e}.",
                    seen=_broken_parameters(self.run),
                    hint="precision=bf16, in another folder",
                )
            )

    def _skip(self, fault: str, step: Step, images: Tensor, before: Sequence[Tensor], seen: Numbers) -> None:
        """Leave this step out, with what it left in the buffers, or end the run."""
        run, limit = self.run, self.plan.skip_not_finite
        if run.skipped >= limit:
            raise same_everywhere(self._not_finite(fault, step, images))
        run.skipped += 1
        with torch.no_grad():
            for buffer, value in zip(self._buffers(), before, strict=True):
                buffer.copy_(value)
        seen["train/skipped"] = f"the {fault} is not finite, the step is skipped ({run.skipped} in a row, of {limit})"

    def _buffers(self) -> list[Tensor]:
        """Return what a forward pass may write to, such as the running statistics of batch norms."""
        return [*self.run.net.buffers(), *self.run.loss.weighting.buffers()]

    def _not_finite(self, fault: str, step: Step, images: Tensor) -> RunError:
        broken = int(sum_over_processes((~torch.isfinite(images)).sum()))
        where = f"the images: {broken} values are NaN or infinite" if broken else "the images are finite"
        culprits = self.run.loss.culprits(step)
        what = f"maps: {', '.join(culprits)}" if culprits else _broken_parameters(self.run)
        skipped = f", after {self.run.skipped} such steps were skipped" if self.run.skipped else ""
        return RunError(
            f"the {fault} is not finite at step {self.run.step + 1}{skipped}.",
            seen=[what, where],
            hint="a lower lr, clip_grad=1.0 or precision=32, in another folder; or resume with skip_not_finite="
            f"{max(10, 2 * self.plan.skip_not_finite)}",
        )


def autocast(run: TrainingState) -> torch.autocast:
    """Make the context of a forward pass at the run's precision."""
    precision = run.plan.search.precision
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(run.device.type, kind, enabled=precision != "32")


def _broken_parameters(run: TrainingState) -> str:
    named = [*run.net.named_parameters(), *((f"loss.{name}", p) for name, p in run.loss.named_parameters())]
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
