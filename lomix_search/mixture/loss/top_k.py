"""The largest cross-entropies: from which value on they count, and how much those count that are just as large."""

import torch
from torch import Tensor

from lomix_search.mixture.loss.plan import LossPlan

ALIKE = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Relative difference up to which two losses are one: a loss that is computed twice may differ in its last digits."""


def number_of_largest(count: int, share: float) -> int:
    """Return how many of ``count`` losses count: the share rounded down, but one at least if there is any."""
    return min(count, max(1, int(share * count + 1e-9)))


def threshold(losses: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Find what divides the largest losses from the others.

    Args:
        losses: Rows (k, n); what does not count at all is below 0.
        number: How many of a row count, ≥ 0.

    Returns:
        The smallest loss that counts (k,), and the share (k,) with which those as large as it count, so that all shares
        of a row add up to ``number``.
    """
    if number == 0:
        return losses.new_full(losses.shape[:1], torch.inf), losses.new_zeros(losses.shape[:1])
    least = losses.kthvalue(losses.shape[1] - number + 1, 1).values
    above, equal = _compared(losses, least[:, None])
    return least, (number - above.sum(1)) / equal.sum(1).clamp(min=1).to(losses.dtype)


def shares_of_largest(losses: Tensor, least: Tensor, share: Tensor) -> Tensor:
    """Return with which share each loss counts: 1 above the threshold, and if it is NaN, so that it is seen.

    Args:
        losses: Any shape.
        least: What ``threshold`` found, broadcast to that shape.
        share: The same.

    Returns:
        Shares of that shape.
    """
    above, equal = _compared(losses, least)
    return above.to(losses.dtype) + equal * share


def with_cuts(total: Tensor, number: int, cuts: Tensor) -> Tensor:
    """Put how many losses count, and what divides them from the others (2, m), into rows of sums and behind them."""
    total[:, -1] = 0
    total[:1, -1] = number
    return torch.cat([total, cuts.double().reshape(1, -1).expand(len(total), -1)], 1)


def sums_of_largest(total: Tensor, losses: Tensor, plan: LossPlan) -> Tensor:
    """Put the sums of the largest losses in place of those of all, a few maps at a time.

    Args:
        total: Rows of sums of all pixels (I, size).
        losses: Of each map (m, n); below 0 where none is.
        plan: What to compute.

    Returns:
        Rows as back ends return them with ``top_k``.
    """
    count = int(total[:, -1].sum()) * (plan.num_classes if plan.sigmoid else 1)
    number, cuts = number_of_largest(count, plan.terms.top_k), losses.new_zeros(2, len(losses))
    total[:, : len(losses)] = 0
    for first in range(0, len(losses), 8):
        some = slice(first, min(first + 8, len(losses)))
        least, share = cuts[0, some], cuts[1, some] = threshold(losses[some], number)
        counted = losses[some] * shares_of_largest(losses[some], least[:, None], share[:, None])
        total[0, some] = torch.where(losses[some] < 0, 0, counted).sum(1, dtype=torch.float64)
    return with_cuts(total, number, cuts)


def _compared(losses: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    room = ALIKE[losses.dtype] * least.abs()
    return ~(losses <= least + room), (losses - least).abs() <= room
