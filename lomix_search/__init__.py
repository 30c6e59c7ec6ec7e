"""Learn how the multi-scale outputs of any U-shaped segmentation network should be mixed in training.

The whole public surface is what this module exports; everything else is importable from its own module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.operators import operator
from lomix_search.mixture.space import SearchSpace
from lomix_search.utils.moved import answer_old_paths
from lomix_search.utils.shipped import VERSION

if TYPE_CHECKING:
    from lomix_search.experiments.tune import tune
    from lomix_search.training.search import search

__version__ = VERSION

__all__ = ["Instrumented", "Mixture", "MixtureLoss", "SearchSpace", "instrument", "operator", "search", "tune"]

_LOOPS = {"search": "lomix_search.training.search", "tune": "lomix_search.experiments.tune"}
"""Imported when they are first asked for: they bring recipes, data and evaluation, which your own loop may not need."""

answer_old_paths()


def __getattr__(name: str) -> Any:
    if name not in _LOOPS:
        raise AttributeError(f"module 'lomix_search' has no attribute {name!r}")
    globals()[name] = loop = getattr(import_module(_LOOPS[name]), name)
    return loop


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
