"""Do the numbers that ``MixtureLoss`` is built with make a loss?"""

from lomix_search.errors import LossError, nearest
from lomix_search.mixture.loss.dispatch import ENGINES


def check_settings(num_classes: int, ce: float, dice: float, engine: str) -> None:
    """Check what is no option of the loss's terms.

    Args:
        num_classes: C; 1 means binary.
        ce: Share of the cross-entropy.
        dice: Share of the region loss.
        engine: ``"auto"`` or a name of ``ENGINES``.

    Raises:
        LossError: a number is out of range, or there is no such engine.
    """
    if num_classes < 1:
        raise LossError(
            f"num_classes is {num_classes}; at least 1 is needed (1 means binary).",
            hint="MixtureLoss(…, num_classes=maps[0].shape[1])",
        )
    if not (0 <= ce < float("inf") and 0 <= dice < float("inf") and ce + dice > 0):
        raise LossError(
            f"ce is {ce} and dice is {dice}; both must be ≥ 0 and finite, and one of them > 0.",
            hint="MixtureLoss(…, ce=0.3, dice=0.7)",
        )
    if engine not in ("auto", *ENGINES):
        raise LossError(f'engine "{engine}": unknown. {nearest(engine, ("auto", *ENGINES))}')
