"""The kinds of data that a recipe names by ``data.kind``: what each can be told, and how it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lomix_search.data.dataset import Splits
from lomix_search.data.kinds.chest_ct import ChestCTSettings, load_chest_ct
from lomix_search.data.kinds.prepared import PreparedSettings, load_prepared
from lomix_search.utils.schema import Frozen


@dataclass(frozen=True)
class DataKind:
    """One kind of data.

    Args:
        settings: Its keys of ``[data]``.
        load: ``(settings, ignore_index) -> Splits``.
    """

    settings: type[Frozen]
    load: Callable[[Any, int | None], Splits]


DATA_KINDS = {
    "chest_ct": DataKind(ChestCTSettings, load_chest_ct),
    "prepared": DataKind(PreparedSettings, load_prepared),
}
