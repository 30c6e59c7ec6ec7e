"""Learn how the multi-scale outputs of any U-shaped segmentation network should be mixed in training.

The whole public surface is what this module exports; everything else is importable from its own module.
"""

from lomix_search.experiments.tune.outer_search import tune
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.operators import operator
from lomix_search.mixture.space import SearchSpace
from lomix_search.training.search import search
from lomix_search.utils.shipped import VERSION as __version__

__all__ = ["Mixture", "MixtureLoss", "SearchSpace", "__version__", "instrument", "operator", "search", "tune"]
