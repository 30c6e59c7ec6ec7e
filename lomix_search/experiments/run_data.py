"""``data.json`` of a run folder: what a run must know of its data to be used without them."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from lomix_search.data.dataset import Splits
from lomix_search.data.image_form import ImageForm
from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.data.nested_datasets import window_of
from lomix_search.errors import LomixError, RunError
from lomix_search.recipe.recipe import Recipe
from lomix_search.training.run_folder import writing
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.schema import Frozen, build_typed


class RunData(Frozen):
    """What a run must know of its data to predict new images.

    Args:
        version: Of this format.
        kind: ``data.kind`` of the recipe; of one's own function, its name.
        classes: Names, the background first; of multi-label data those of the regions.
        multilabel: The network's channels are regions that may overlap.
        regions: Class numbers of each region.
        written: Class number that each region is written as, in the order of painting; empty: found out.
        item: Shape of an item without its batch: (C, *spatial).
        window: Size of the blocks by which whole items are predicted; None: not by blocks.
        form: How new images are prepared; None for data of one's own function, which alone knows.
    """

    version: Literal[1] = 1
    kind: str
    classes: tuple[str, ...]
    multilabel: bool = False
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    written: tuple[int, ...] = ()
    item: tuple[int, ...]
    window: tuple[int, ...] | None = None
    form: ImageForm | None = None


def data_of(recipe: Recipe, splits: Splits) -> RunData:
    """Return what a run must know of its data.

    Args:
        recipe: Names the data.
        splits: What ``recipe.build_data()`` returned.
    """
    kind, form = DATA_KINDS.get(recipe.data.kind), None
    if kind is not None:
        form = kind.form(kind.settings.model_validate(recipe.data.settings), recipe.loss.ignore_index)
    return RunData(
        kind=recipe.data.kind.rpartition(":")[2],
        classes=splits.classes,
        multilabel=splits.multilabel,
        regions=dict(splits.regions),
        written=splits.written,
        item=tuple(splits.val.example()[0].shape),
        window=window_of(splits.val),
        form=form,
    )


def note_data(folder: Path, recipe: Recipe, splits: Splits) -> None:
    """Write ``data.json`` of a run folder.

    Args:
        folder: The run folder.
        recipe: The run's.
        splits: Its data.

    Raises:
        RunError: the file cannot be written.
    """
    with writing(folder / "data.json"):
        write_text(folder / "data.json", data_of(recipe, splits).model_dump_json(indent=1) + "\n")


def read_data(folder: Path, recipe: Recipe) -> RunData:
    """Read what a run knows of its data; of a run of an earlier version, look at the data themselves.

    Args:
        folder: The run folder.
        recipe: The run's.

    Returns:
        What is known.

    Raises:
        RunError: the file is malformed, or there is none and the data cannot be opened either.
    """
    path = folder / "data.json"
    if path.exists():
        return build_typed(RunData, read_json(path, RunError), str(path), RunError)
    try:
        return data_of(recipe, recipe.build_data())
    except LomixError as cause:
        raise RunError(
            f"{folder} is a run of an earlier version, without data.json, and its data cannot be opened.",
            seen=str(cause),
            hint="put the data back where recipe.toml says (data.root); they are looked at, and not trained on",
        ) from None
