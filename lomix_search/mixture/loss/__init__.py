"""The mixture loss: a reference that is slow and obvious, engines that are fast, and the module that picks one."""

from lomix_search.mixture.loss.module import MixtureLoss, Step

__all__ = ["MixtureLoss", "Step"]
