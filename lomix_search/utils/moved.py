"""Import paths that the documentation of version 0.1 named: for one release they still work, and say the new path."""

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

MOVED = {
    "lomix_search.loss": "lomix_search.mixture.loss",
    "lomix_search.testing": "lomix_search.mixture.testing",
    "lomix_search.weighting": "lomix_search.mixture.weighting",
}

RENAMED = {"check_weighting": "weighting_settings", "random": "random_weights", "uniform": "uniform_weights"}
"""Names that changed with the path."""


class MovedModule(ModuleType):
    """Stands where a module stood; whatever is asked of it comes from the new place, with a warning that names it."""

    def __getattr__(self, name: str) -> Any:
        """Return the new place's ``name``.

        Raises:
            AttributeError: the new place has no such name.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        here, name = MOVED[self.__name__], RENAMED.get(name, name)
        value = getattr(import_module(here), name)
        warnings.warn(
            f"{self.__name__} is {here} now, and its old path ends with the next release.\n"
            f"  Try:  from {here} import {name}",
            DeprecationWarning,
            stacklevel=2,
        )
        return value


def answer_old_paths() -> None:
    """Let ``import lomix_search.testing`` and the like find a module, as long as they are answered."""
    package = sys.modules["lomix_search"]
    for old in MOVED:
        module = sys.modules.setdefault(old, MovedModule(old, f"Moved to {MOVED[old]}."))
        setattr(package, old.rpartition(".")[2], module)
