"""``lomix new``: look at somebody's images and masks, decide what they are, and write a recipe that works on them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lomix_search.data.benchmarks.layout import DatasetLayout, Source
from lomix_search.data.case import Case
from lomix_search.data.folders.found import FoundData
from lomix_search.data.folders.reading import read_own
from lomix_search.data.folders.recognise import recognise
from lomix_search.data.manifest import Manifest
from lomix_search.data.masks.pairing import Pair
from lomix_search.data.prepare import prepare_layout
from lomix_search.errors import DataError
from lomix_search.recipe.choices import Choices, choices_of
from lomix_search.recipe.decided import Decisions
from lomix_search.recipe.decisions import decide_all, split_of_folders, split_shares
from lomix_search.recipe.network_choice import network_for
from lomix_search.recipe.own_data import Look, find_own, look_at_data
from lomix_search.utils.files import write_text
from lomix_search.utils.toml import to_toml


@dataclass(frozen=True)
class NewRecipe:
    """A recipe that is not written yet.

    Args:
        home: Its folder.
        found: The files.
        look: What was seen in them.
        decided: What was decided.
        choices: What the user decided.
    """

    home: Path
    found: FoundData
    look: Look
    decided: Decisions
    choices: Choices

    def chosen(self, **options: Any) -> "NewRecipe":
        """Return the same with other choices; the data are not looked at again unless these change what is seen.

        Args:
            **options: As the fields of :class:`~lomix_search.recipe.choices.Choices`.

        Returns:
            The new one.

        Raises:
            LomixError: as :func:`plan_recipe`.
        """
        choices = choices_of(**(self.choices.model_dump() | options))
        look = look_at_data(self.found, choices) if choices.intensity != self.choices.intensity else self.look
        return NewRecipe(self.home, self.found, look, decide_all(look, choices), choices)

    def write(self, progress: bool = True) -> Path:
        """Prepare the data and write the recipe.

        Args:
            progress: Show a progress bar.

        Returns:
            The recipe's file.

        Raises:
            DataError: files that have changed since, or that cannot be prepared.
        """
        manifest = prepare_layout(_layout(self), self.look.found.root, self.home / "data", progress=progress)
        if self.decided.split == "folders":
            write_text(self.home / "split.toml", to_toml(split_of_folders(self.look.found.groups)))
        write_text(self.home / "recipe.toml", _recipe(self, manifest))
        return self.home / "recipe.toml"


def new_recipe(
    folder: str | Path, data: str | Path, masks: str | Path | None = None, *, progress: bool = True, **options: Any
) -> Path:
    """Write a recipe for one's own data, and prepare the data beside it.

    Args:
        folder: Where the recipe goes; made when missing. A recipe that is there already is never written over.
        data: Folder of a whole data set, whose layout is recognised; with ``masks``, folder of the images.
        masks: Folder of masks, each named like its image (``_mask``, ``_seg``, ``_label`` and the like may follow).
        progress: Show progress bars.
        **options: As the fields of :class:`~lomix_search.recipe.choices.Choices`: ``classes``, ``patient``, ``size``,
            ``binary``, ``modality``, ``dims``, ``spacing``, ``ignore``, ``regions``, ``colors``, ``split``, ``window``.

    Returns:
        The recipe's file.

    Raises:
        DataError: files do not pair up, cannot be read or do not fit each other; all of them are named.
        RecipeError: options that make no sense.
    """
    return plan_recipe(folder, data, masks, progress=progress, **options).write(progress)


def plan_recipe(
    folder: str | Path, data: str | Path, masks: str | Path | None = None, *, progress: bool = True, **options: Any
) -> NewRecipe:
    """Look at somebody's data and decide what they are; nothing is written.

    Args:
        folder: As :func:`new_recipe`.
        data: As :func:`new_recipe`.
        masks: As :func:`new_recipe`.
        progress: Show a progress bar.
        **options: As :func:`new_recipe`.

    Returns:
        The decisions, and what writes the recipe.

    Raises:
        LomixError: as :func:`new_recipe`.
    """
    home, choices = Path(folder), choices_of(**options)
    if (home / "recipe.toml").exists():
        raise DataError(
            f"{home / 'recipe.toml'} exists already; nothing was written.", hint="lomix new ANOTHER_FOLDER …"
        )
    found = recognise(Path(data)) if masks is None else find_own(Path(data), Path(masks))
    look = look_at_data(found, choices, progress)
    return NewRecipe(home, found, look, decide_all(look, choices), choices)


def _layout(plan: NewRecipe) -> DatasetLayout:
    look, decided, found = plan.look, plan.decided, plan.look.found

    def find(raw: Path) -> list[Source]:
        return [
            Source(
                name, decided.patients[name], found.groups.get(name, ""), _files(pair),
                partial(_read, name, pair, look, decided), look.coding.reading,
            )
            for name, pair in look.pairs.items()
        ]  # fmt: skip

    spacing = decided.spacing
    return DatasetLayout(
        "own",
        find,
        dict(decided.names),
        look.scaling.intensity,
        max(decided.size),
        window=decided.window,
        dims=decided.dims,
        spacing=(spacing[0], spacing[1], spacing[2]) if spacing else None,
        modalities=decided.modalities,
        ignore=decided.ignore,
        regions=dict(decided.regions),
        written=decided.written,
        measured=frozenset() if plan.choices.window else decided.measured,
        preprocessed=found.preprocessed,
    )


def _files(pair: Pair) -> tuple[Path, ...]:
    images, mask = pair
    return images if images == (mask,) else (*images, mask)


def _read(name: str, pair: Pair, look: Look, decided: Decisions) -> Case:
    """Read a pair as it was looked at."""
    own = read_own(name, pair, look.numbers)
    if own.image.depth != look.scaling.depth:
        raise DataError(
            f"{pair[0][0]}: {own.image.depth}, and was {look.scaling.depth} before.", hint="run lomix new again"
        )
    if own.picture is not None:
        label = look.coding.read(own.picture)[None]
    else:
        assert own.label is not None
        label = look.coding.apply(own.label, own.mask)
    origin = dict(own.image.origin) | look.coding.origin
    return Case(name, own.image.image, label, own.image.spacing or decided.stated, origin)


def _recipe(plan: NewRecipe, manifest: Manifest) -> str:
    """Return the recipe's text: what was seen as comments, then the values."""
    return "\n".join(_head(plan, manifest)) + to_toml(_content(plan, manifest))


def _head(plan: NewRecipe, manifest: Manifest) -> list[str]:
    look, home, decided = plan.look, plan.home, plan.decided
    scaling: str = look.scaling.intensity
    if decided.window and scaling == "ct":
        scaling = "CT, window {:.0f} … {:.0f} HU".format(*decided.window)
    rows = [f"#   {row.what}: {row.value}   ({row.why})" for row in decided.rows]
    split = (
        "drawn by patient: 70 / 10 / 20"
        if decided.split == "random"
        else "that of the folders"
        if decided.split == "folders"
        else "given"
    )
    return [
        f"# {home.name}: written by lomix new from {len(manifest.cases)} cases ({scaling}; about {look.size} wide).",
        *(f"# {line}" for line in look.lines(decided.names, decided.scaled)),
        f"#   check lomix validate {home}   ·   search lomix run {home}   ·   evaluate lomix evaluate runs/{home.name}",
        f"# The split is {split}. Left and right are never mirrored (augment for volumes).",
        "# Decided, and why:",
        *rows,
        "",
    ]  # fmt: skip


def _content(plan: NewRecipe, manifest: Manifest) -> dict[str, Any]:
    look, decided, slices = plan.look, plan.decided, sum(entry.shape[0] for entry in manifest.cases)
    patients = len({entry.patient for entry in manifest.cases})
    count = f"{len(decided.regions)} regions" if decided.regions else f"{len(decided.names)} classes"
    batch, steps = _budget(decided, slices, len(manifest.cases))
    outputs = len(decided.regions) or 1 + len(decided.names)
    channels = manifest.cases[0].shape[1]
    median = np.median(np.array(look.spacings), 0).tolist() if look.spacings else plan.choices.spacing
    spacing = decided.spacing or median
    return {
        "about": f"{len(manifest.cases)} cases of {patients} patients, {slices} slices, {count}",
        "data": _data(plan),
        "network": network_for(decided.dims, decided.size, spacing, channels, outputs),
        "space": {"name": "lomix"},
        "optimizer": {"lr": 1e-3, "schedule": "poly"},
        "search": {"steps": steps, "batch_size": batch, "validate_every": max(50, steps // 20)},
        "evaluate": {"protocol": "strict"} | ({"window": list(decided.size)} if decided.dims == 3 else {}),
    }


def _data(plan: NewRecipe) -> dict[str, Any]:
    """Return ``[data]``."""
    decided = plan.decided
    split = {"random": "random", "folders": "split.toml"}.get(decided.split, decided.split)
    return {
        "kind": "prepared",
        "root": str((plan.home / "data").resolve()),
        "split": split,
        **({} if decided.regions else {"classes": list(decided.names.values())}),
        "size": list(decided.size) if decided.dims == 3 else decided.size[0],
        "augment": "volume" if decided.dims == 3 else "chest_ct" if plan.look.volumes else "paper",
        **split_shares(split),
        **({} if decided.ignore is None else {"ignore": decided.ignore}),
        **({"written": list(decided.written)} if decided.written else {}),
        **({"regions": {name: list(values) for name, values in decided.regions.items()}} if decided.regions else {}),
    }


def _budget(decided: Decisions, slices: int, cases: int) -> tuple[int, int]:
    """Return batch size and steps."""
    if decided.dims == 3:
        return 2, int(np.clip(20 * cases, 500, 10_000))
    batch = 8 if decided.size[0] <= 256 else 4
    return batch, int(np.clip(100 * slices / batch, 500, 50_000))
