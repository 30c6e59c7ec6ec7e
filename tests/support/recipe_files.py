"""The smallest recipe (``MINIMAL``), recipes as files (``write``), and what is said of bad ones (``message``)."""

from pathlib import Path
from typing import Any

import pytest

from lomix_search.errors import RecipeError
from lomix_search.recipe.recipe import load_recipe

MINIMAL = '[data]\nkind = "chest_ct"\n[network]\nbuild = "torch.nn:Identity"\n'


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def message(*args: Any) -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(*args)
    return str(error.value)
