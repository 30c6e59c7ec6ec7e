"""The mixture loss: a reference that is slow and obvious, fast engines that agree with it, and ``MixtureLoss``.

Originals and labels go in; the total comes out, and the loss and the weight of each map can be read.
"""

from lomix_search.mixture.loss.module import MixtureLoss
from lomix_search.mixture.loss.per_map import PerMap

__all__ = ["MixtureLoss", "PerMap"]
