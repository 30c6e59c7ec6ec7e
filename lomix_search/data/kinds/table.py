"""The kinds of data that a recipe names by ``data.kind``: what each can be told, and how it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lomix_search.data.dataset import Splits
from lomix_search.data.image_form import ImageForm, chest_ct_form, prepared_form
from lomix_search.data.kinds.chest_ct import ChestCTSettings, load_chest_ct
from lomix_search.data.kinds.prepared import PreparedSettings, load_prepared
from lomix_search.utils.schema import Frozen


@dataclass(frozen=True)
class DataKind:
    """One kind of data.

    Args:
        settings: Its keys of ``[data]``.
        load: ``(settings, ignore_index) -> Splits``.
        form: ``(settings, ignore_index) -> ImageForm``: how new images are prepared like these.
    """

    settings: type[Frozen]
    load: Callable[[Any, int | None], Splits]
    form: Callable[[Any, int | None], ImageForm]


DATA_KINDS = {
    "chest_ct": DataKind(ChestCTSettings, load_chest_ct, chest_ct_form),
    "prepared": DataKind(PreparedSettings, load_prepared, prepared_form),
}
