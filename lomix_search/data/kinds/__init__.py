"""The kinds of data set that a recipe can name, each a module with ``Settings`` and ``load``."""

from types import ModuleType

from lomix_search.data.kinds import chest_ct, prepared

DATA_KINDS: dict[str, ModuleType] = {"chest_ct": chest_ct, "prepared": prepared}
"""Shipped data kinds; each module has ``Settings`` and ``load(settings) -> Splits``."""
