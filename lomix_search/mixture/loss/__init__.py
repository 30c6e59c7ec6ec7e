"""The mixture loss: a reference that is slow and obvious, fast engines that agree with it, and ``MixtureLoss``.

Originals and labels go in; the total, the loss and the weight of each map come out.
"""

from lomix_search.mixture.loss.module import MixtureLoss, Step

__all__ = ["MixtureLoss", "Step"]
