"""Recipes: a runnable experiment as one TOML file, typed, with every fault reported at once."""

import copy
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from lomix_search.data.dataset import Splits
from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.data.nested_datasets import window_of
from lomix_search.errors import MissingExtraError, RecipeError, nearest
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions
from lomix_search.evaluation.protocols import find_protocol
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.evaluation.windows import OVERLAP
from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.changes import apply_changes, apply_override
from lomix_search.recipe.faults import range_faults, table_faults
from lomix_search.recipe.objects import call, load_object
from lomix_search.recipe.paths import resolve_paths
from lomix_search.recipe.sections import (
    DataSection,
    EvaluateSection,
    LossSection,
    NetworkSection,
    OptimizerSection,
    SearchSection,
    SpaceSection,
    TrackSection,
    WeightingSection,
)
from lomix_search.recipe.tuning import TuneSection
from lomix_search.utils.files import read_toml
from lomix_search.utils.schema import Frozen, build_typed
from lomix_search.utils.shipped import shipped_files
from lomix_search.utils.toml import to_toml


class Recipe(Frozen):
    """A whole experiment. Paths in it are absolute once it is loaded, so that it may be saved anywhere.

    Args:
        name: The recipe's name.
        about: One line on it.
        data: Images, labels and splits.
        network: The network.
        space: Which maps are supervised.
        loss: The loss of each map.
        weighting: How the losses are weighed.
        optimizer: How their weighted sum is minimised.
        search: The training loop.
        evaluate: How whole cases are scored.
        track: Where metrics go.
        tune: What the outer search varies.
    """

    name: str = "custom"
    about: str = ""
    data: DataSection
    network: NetworkSection
    space: SpaceSection = SpaceSection()
    loss: LossSection = LossSection()
    weighting: WeightingSection = WeightingSection()
    optimizer: OptimizerSection = OptimizerSection()
    search: SearchSection = SearchSection()
    evaluate: EvaluateSection = EvaluateSection()
    track: TrackSection = TrackSection()
    tune: TuneSection = TuneSection()

    def to_toml(self) -> str:
        """Return the resolved recipe, defaults included; ``load_recipe`` reads it back to an equal value."""
        return to_toml(self.model_dump(exclude_none=True, by_alias=True))

    def override(self, values: Mapping[str, Any]) -> "Recipe":
        """Return a recipe with other values.

        Args:
            values: By dotted key, e.g. ``{"optimizer.lr": 1e-3}``; None removes what the recipe sets.

        Returns:
            The new recipe.

        Raises:
            RecipeError: unknown keys or bad values; all are listed.
        """
        content = self.model_dump(exclude_none=True, by_alias=True)
        faults = apply_changes(content, values)
        return _typed(content, Path(), self.name, faults)

    @property
    def label_fraction_key(self) -> Literal["data.label_fraction", "search.label_fraction"]:
        """The key that trains with a part of the labels: this is the one rule for which of the two it is.

        Data that know their patients have a setting of that name and keep whole patients of the seed ``data.seed``. Of
        all other data, the search keeps whole cases, or items where there is one case, by ``search.seed``. Where a
        recipe sets both keys, the search keeps its part of what the data keep.
        """
        kind = DATA_KINDS.get(self.data.kind)
        known = kind.settings.model_fields if kind else self.data.settings
        return "data.label_fraction" if "label_fraction" in known else "search.label_fraction"

    def build_data(self) -> Splits:
        """Read the data.

        Returns:
            The three sets; their ``ignore_index`` is what the loss and every score leave out.

        Raises:
            DataError: a file is missing or malformed.
            MissingExtraError: a package to read it with is not installed.
            RecipeError: the recipe's own function does not exist, does not take these settings, or returns no Splits.
        """
        if kind := DATA_KINDS.get(self.data.kind):
            splits: Any = kind.load(kind.settings.model_validate(self.data.settings), self.loss.ignore_index)
        else:
            splits = call(load_object(self.data.kind, "data.kind"), self.data.settings, "data")
        if not isinstance(splits, Splits):
            raise RecipeError(
                f"data.kind = {self.data.kind!r} returned {type(splits).__name__}; it must return Splits.",
                hint="from lomix_search.data.dataset import Splits   # and return one",
            )
        return self._with_ignored(splits)

    def _with_ignored(self, splits: Splits) -> Splits:
        """Let data and loss agree on the label that counts nowhere: either says it, or both say the same."""
        of_data, of_loss = splits.ignore_index, self.loss.ignore_index
        if of_data is None:
            return replace(splits, ignore_index=of_loss)
        if of_loss not in (None, of_data):
            raise RecipeError(
                f"data.kind = {self.data.kind!r} ignores label {of_data}, loss.ignore_index is {of_loss}.",
                hint=f"loss.ignore_index={of_data}, or none",
            )
        return splits

    def build_network(self) -> nn.Module:
        """Build the network; its initial weights come from torch's global random state.

        Returns:
            The network.

        Raises:
            RecipeError: it cannot be found, or does not take these arguments.
            MissingExtraError: its package is not installed.
        """
        build = load_object(self.network.build, "network.build")
        try:
            network = call(build, self.network.args, "network.args")
        except MissingExtraError:
            raise
        except ImportError as cause:  # MONAI raises it for packages that it needs only sometimes
            seen = str(cause).strip().splitlines()[0]
            package = found[1] if (found := re.search(r"No module named '(\w+)", seen)) else "PACKAGE"
            raise MissingExtraError(
                f"network.build = {self.network.build!r} needs a package that is not installed.",
                seen=seen,
                hint=f"pip install {package}",
            ) from None
        if not isinstance(network, nn.Module):
            kind = type(network).__name__
            raise RecipeError(
                f"network.build = {self.network.build!r} returned {kind}; it must return an nn.Module.",
                hint="name a class of networks, or a function that returns one",
            )
        return network

    def score(
        self,
        network: nn.Module | Sequence[nn.Module],
        splits: Splits,
        subset: Literal["test", "val"] = "test",
        *,
        save: str | Path | None = None,
        overlays: int = 0,
        progress: bool = True,
    ) -> Evaluation:
        """Score a trained network on whole cases, as ``[evaluate]`` says.

        Args:
            network: The network, instrumented or not; or several whose probabilities are averaged.
            splits: What ``build_data`` returned.
            subset: Which cases.
            save: Folder for tables, predictions and overlays.
            overlays: Number of pictures to look at.
            progress: Show a progress bar.

        Returns:
            All scores.

        Raises:
            DataError: the set has no cases.
            RecipeError: the network sees blocks of slices, and no window says how many.
            RunError: the network's output cannot be scored.
        """
        how = self.inference(splits)
        cases, protocol = splits.volumes.get(subset, ()), self.evaluate.protocol
        return evaluate(
            network,
            cases,
            splits.classes,
            protocol=protocol,
            how=how,
            save=save,
            overlays=overlays,
            progress=progress,
            ignore_index=splits.ignore_index,
            regions=splits.regions if splits.multilabel else None,
            masks=self.evaluate.masks,
            written=splits.written,
        )

    def inference(self, splits: Splits) -> InferenceOptions:
        """Return how whole cases are predicted: as validation does it, unless ``[evaluate]`` says otherwise.

        Args:
            splits: What ``build_data`` returned.

        Returns:
            Sizes, windows and flips.

        Raises:
            RecipeError: the network sees blocks of slices, and nothing says how large these are.
        """
        seen, window = splits.train[0][0].shape, window_of(splits.val)
        return self.inference_of(seen, window, multilabel=splits.multilabel)

    def inference_of(
        self, item: Sequence[int], window: Sequence[int] | None = None, *, multilabel: bool = False
    ) -> InferenceOptions:
        """Return how whole cases are predicted, as :meth:`inference`, where there are no data.

        Args:
            item: Shape of an image that training sees, (C, *spatial).
            window: Size of the blocks that validation predicts by; None: whole items.
            multilabel: The network's channels are regions that may overlap.

        Returns:
            Sizes, windows and flips; the protocol says how predictions get back to the size of their case.

        Raises:
            RecipeError: the network sees blocks of slices, and nothing says how large these are.
        """
        chosen, resize = self.evaluate, find_protocol(self.evaluate.protocol).resize
        how = InferenceOptions(None, resize, chosen.batch_size, flips=chosen.flips, multilabel=multilabel)
        if window is not None:
            return replace(how, window=chosen.window or tuple(window), overlap=OVERLAP)
        if chosen.window is not None:
            return replace(how, window=chosen.window)
        if len(item) != 3:
            seen = tuple(item[1:])
            raise RecipeError(
                f"the network is trained on blocks of {' × '.join(map(str, seen))}; whole cases need a sliding window.",
                hint=f"evaluate.window={list(seen)}",
            )
        return replace(how, size=(item[1], item[2]))

    def build_space(self) -> SearchSpace:
        """Load the search space, with the operators and subset sizes that the recipe leaves in.

        Returns:
            The space.

        Raises:
            SpaceError: the file is malformed.
        """
        return SearchSpace.load(self.space.name).only(self.space.operators, self.space.sizes)


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Load a recipe.

    Args:
        source: A shipped name (``"chest_ct"``), a TOML file, or a folder that holds ``recipe.toml``; or the name of
            a run, for the recipe that it ran.
        overrides: ``"optimizer.lr=3e-4"``: the right side is TOML, or else plain text;
            ``"network.stages="`` removes what the recipe sets.

    Returns:
        The typed recipe.

    Raises:
        RecipeError: there is no such recipe, or it or the overrides have faults; all of them are listed.
    """
    path = find_recipe(source)
    content = read_toml(path, RecipeError)
    if not {"data", "network"} & content.keys() and {"operator", "originals"} & content.keys():
        name = shlex.quote(str(source))
        hint = [f"lomix show {name}", f"lomix run RECIPE space.name={name}"]
        raise RecipeError(f"{source} is a search space, not a recipe.", seen=f"keys {', '.join(content)}", hint=hint)
    faults = [fault for text in overrides if (fault := apply_override(content, text))]
    content.setdefault("name", path.parent.resolve().name if path.name == "recipe.toml" else path.stem)
    return _typed(content, path.parent.resolve(), str(source), faults)


def home_of(recipe: Recipe, suffix: str = "") -> Path:
    """Return the folder that a recipe's runs go to when none is given: below ``runs``, whatever the recipe is called.

    Args:
        recipe: The recipe.
        suffix: What tells this kind of run from others, such as ``-tune``.

    Returns:
        The folder.
    """
    name = re.sub(r"[/\\\x00-\x1f\x7f]", "-", recipe.name).strip().lstrip(".")
    short = name.encode()[:200].decode(errors="ignore")  # file systems take 255 bytes
    return Path("runs") / f"{short or 'recipe'}{suffix}"


def in_runs(what: Path) -> Path:
    """Find what is named: a path as it is, or what lies below ``runs``, where everything goes by default.

    Args:
        what: A path, or such a name: ``chest_ct`` for ``runs/chest_ct``.

    Returns:
        The path; ``what`` itself where there is neither.
    """
    by_default = Path("runs") / what
    try:
        return by_default if not what.exists() and not what.is_absolute() and by_default.exists() else what
    except OSError:  # the name is too long for a file
        return what


def find_recipe(source: str | Path) -> Path:
    """Find the TOML file of a recipe.

    Args:
        source: As in :func:`load_recipe`.

    Returns:
        Its path.

    Raises:
        RecipeError: the recipe is neither shipped nor a file, or is a folder without one.
    """
    known = shipped_files("recipes")
    path = known.get(str(source)) or in_runs(Path(source))
    try:
        folder = path if path.is_dir() else None
        path = path / "recipe.toml" if folder else path
        found = path.is_file()
    except OSError:  # the name is too long for a file
        found, folder = False, None
    if not found and folder:
        raise _no_recipe_in(folder)
    if not found:
        raise RecipeError(
            f'no recipe "{str(source)[:200]}": neither shipped nor a file. {nearest(str(source), known)}',
            hint="lomix ls   # lists what ships",
        )
    return path


def _no_recipe_in(folder: Path) -> RecipeError:
    """Return the error about a folder that has no recipe.toml, with what it has instead."""
    inside = sorted(one.name + "/" * one.is_dir() for one in folder.iterdir())
    others = [inner.parent for inner in sorted(folder.glob("*/recipe.toml"))] or sorted(folder.glob("*.toml"))
    more = f" and {len(inside) - 8} more" if len(inside) > 8 else ""
    name = shlex.quote(str(folder))
    new = (
        f"lomix new mine {name}   # if these are your data" if inside else f"lomix new {name} DATA   # writes one there"
    )
    return RecipeError(
        f"the folder {folder} holds no recipe.toml.",
        seen=", ".join(inside[:8]) + more if inside else "nothing is in it",
        hint=[shlex.quote(str(one)) for one in others[:5]] or new,
    )


def _typed(content: dict[str, Any], folder: Path, source: str, faults: Iterable[str] = ()) -> Recipe:
    """Build a recipe of what its file holds, or raise every fault at once."""
    try:
        content = copy.deepcopy(content)
        found = [*faults, *resolve_paths(content, folder), *table_faults(content), *range_faults(content, Recipe)]
        recipe = build_typed(Recipe, content, source, RecipeError, found)
        recipe.to_toml()  # what could not be saved is refused here
    except RecursionError:
        raise RecipeError(
            f"{source} is nested too deep.",
            seen="brackets within brackets within brackets",
            hint="lomix cp chest_ct TARGET   # a recipe to start from",
        ) from None
    return recipe
