"""The mixture in the place of nnU-Net's deep supervision: its lists of outputs and targets in, one scalar out.

nnU-Net lists outputs and targets from fine to coarse; the mixture counts from coarse to fine. What the mixture learns
has an optimizer of its own beside nnU-Net's: the schedule sets the learning rate of every group of nnU-Net's, its
momentum of 0.99 would drive the weights to 0, and a checkpoint's optimizer state stays what nnU-Net expects.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import LossError
from lomix_search.integrations.nnunet.names import TrainerChoice
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.loss.groups import WEIGHTS_LR
from lomix_search.utils.distributed import average_gradients, same_over_processes

OPERATORS_LR = 1e-3
"""Of Adam, for operators that learn."""

FALL = 3.0
"""How far weights that can only fall may fall in a whole training, in units of θ: softplus from 0.69 to 0.049."""

_IGNORED = 255


class DeepSupervisionMixture(nn.Module):
    """Σₖ wₖ·(CEₖ + Diceₖ) / Σₖ wₖ over the maps of a mixture; each term as nnU-Net computes it, its Dice plus 1.

    No gradient flows through the divisor. It keeps the size of the loss, to which nnU-Net's SGD is not indifferent as
    Adam is, whatever the weights do: it is that of one map, as with nnU-Net's own deep supervision.

    Args:
        choice: What the trainer's name says.
        num_outputs: Outputs of the network, fine to coarse; the finest ones are mixed.
        num_classes: Channels of each.
        regions: Channels are regions, which may overlap.
        ignore_label: Value that counts nowhere; with regions the last channel of the targets marks it.
        batch_dice: Dice is of the whole batch, not of each image.
        steps: Of the whole training.
        several: There are several processes.
    """

    def __init__(
        self,
        choice: TrainerChoice,
        num_outputs: int,
        num_classes: int,
        regions: bool,
        ignore_label: int | None,
        batch_dice: bool,
        steps: int,
        several: bool = False,
    ) -> None:
        super().__init__()
        self.regions, self.ignores, self.several = regions, ignore_label is not None, several
        self.mixture = MixtureLoss(
            choice.space,
            min(choice.stages, num_outputs),
            num_classes,
            choice.weighting,
            ce=num_classes if regions and self.ignores else 1,  # nnU-Net adds the channels up there, and there alone
            dice=1,
            ignore_index=_IGNORED if regions and self.ignores else ignore_label,
            multilabel=regions,
            together=several,
            squared=False,
            background=regions,
            per_image=not batch_dice,
        )
        self.mixture.watch.on = False  # sizes of weights do not matter here: forward divides by their sum
        self.weights_lr = self.mixture.weighting.lr or min(WEIGHTS_LR, FALL / max(1, steps))
        groups = self.mixture.parameter_groups(OPERATORS_LR, self.weights_lr)
        self.optimizer = torch.optim.Adam(groups) if groups else None
        same_over_processes(self.mixture.parameters())

    def forward(self, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Compute the loss.

        Args:
            outputs: Logits (B, C, *spatial), fine to coarse.
            targets: Labels (B, 1, *spatial), or of regions (B, C, *spatial) and one more channel where there is an
                ignore label; at the scales of the outputs.

        Returns:
            A scalar.

        Raises:
            LossError: fewer outputs than the mixture was built for.
        """
        number = self.mixture.plan.num_maps
        if not isinstance(outputs, list | tuple) or len(outputs) < number:
            raise LossError(
                f"the network gave {len(outputs) if isinstance(outputs, list | tuple) else 1} outputs; {number} were "
                "expected, deep supervision being on.",
                hint="-tr nnUNetTrainerNoDeepSupervision",
            )
        total: Tensor = self.mixture(list(outputs[:number])[::-1], self._labels(targets[0]))
        weights = self.mixture.weighting.weights().detach().sum()
        total = total / weights.clamp_min(torch.finfo(weights.dtype).tiny)
        if self.several:  # DistributedDataParallel wants a gradient for what the network computed, used or not
            total = total + sum(one.flatten()[:1].nan_to_num().sum() * 0 for one in outputs)
        return total

    def _labels(self, finest: Tensor) -> Tensor:
        if not (self.regions and self.ignores):
            return finest
        return finest[:, :-1].long().masked_fill(finest[:, -1:].bool(), _IGNORED)

    def begin_step(self, progress: float) -> None:
        """Get ready for a step.

        Args:
            progress: Steps taken / all steps.
        """
        self.mixture.weighting.advance(progress)
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)

    def end_step(self, scale: float = 1.0) -> None:
        """Move operators and weights, right after the network was moved. A gradient that is not finite moves nothing.

        Args:
            scale: By which a gradient scaler multiplied the loss.
        """
        if self.optimizer is None:
            return
        learned = [p for group in self.optimizer.param_groups for p in group["params"]]
        average_gradients(learned)
        gradients = [p.grad for p in learned if p.grad is not None]
        for gradient in gradients:
            gradient /= scale
        if all(bool(gradient.isfinite().all()) for gradient in gradients):
            self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return what continues the mixture exactly: operators, weights and their optimizer; tensors and numbers."""
        optimizer = None if self.optimizer is None else self.optimizer.state_dict()
        return {"mixture": self.mixture.state_dict(), "optimizer": optimizer}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned.

        Args:
            state: Of a mixture of the same maps.

        Raises:
            RuntimeError: it is of another mixture; this one is as it was.
        """
        before = copy.deepcopy(self.mixture.state_dict())
        try:
            self.mixture.load_state_dict(state["mixture"])
            if self.optimizer is not None:
                self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError) as cause:
            self.mixture.load_state_dict(before)
            raise RuntimeError(str(cause)) from cause
