"""Learn how the multi-scale outputs of any U-shaped segmentation network should be mixed in training.

The whole public surface is what this module exports; everything else is importable from its own module.
"""

import random
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lomix_search.utils.moved import answer_old_paths
from lomix_search.utils.shipped import VERSION

if TYPE_CHECKING:
    from lomix_search.experiments.tune.outer_search import tune
    from lomix_search.instrumentation.instrumented import Instrumented, instrument
    from lomix_search.mixture.loss import MixtureLoss
    from lomix_search.mixture.mixture import Mixture
    from lomix_search.mixture.operators import operator
    from lomix_search.mixture.space import SearchSpace
    from lomix_search.training.search import search

__version__ = VERSION

__all__ = ["Instrumented", "Mixture", "MixtureLoss", "SearchSpace", "instrument", "operator", "search", "tune"]

_WHERE = {
    "Instrumented": "instrumentation.instrumented",
    "instrument": "instrumentation.instrumented",
    "SearchSpace": "mixture.space",
    "operator": "mixture.operators",
    "Mixture": "mixture.mixture",
    "MixtureLoss": "mixture.loss",
    "search": "training.search",
    "tune": "experiments.tune.outer_search",
}
"""Each name's module, imported when the name is first asked for: who only instruments waits for no recipe or study."""

answer_old_paths()


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'lomix_search' has no attribute {name!r}")
    drawn = random.getstate()  # rich, which tables are made with, draws from it when it is first imported
    globals()[name] = value = getattr(import_module(f"lomix_search.{_WHERE[name]}"), name)
    random.setstate(drawn)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
