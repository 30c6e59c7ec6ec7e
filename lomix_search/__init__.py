"""Learn how the multi-scale outputs of any U-shaped segmentation network should be mixed in training.

The whole public surface is what this module exports; everything else is importable from its own module.
"""

__version__ = "0.1.0"

from lomix_search.heads import instrument
from lomix_search.loss import MixtureLoss
from lomix_search.mixture import Mixture
from lomix_search.operators import operator
from lomix_search.search import search
from lomix_search.space import SearchSpace
from lomix_search.tune import tune

__all__ = ["Mixture", "MixtureLoss", "SearchSpace", "instrument", "operator", "search", "tune"]
