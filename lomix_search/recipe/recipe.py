"""Recipes: a runnable experiment as one TOML file, typed, with every fault reported at once."""

import copy
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch import nn

from lomix_search.data.dataset import Splits
from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.errors import MissingExtraError, RecipeError, nearest
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions
from lomix_search.evaluation.score_table import Evaluation
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import weighting_faults
from lomix_search.recipe.objects import call, load_object
from lomix_search.recipe.overrides import join_key, split_key, split_setting, toml_or_text
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
from lomix_search.utils.schema import Frozen, build_typed, faults_of, shortened
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
        weighting: How they are weighed.
        optimizer: How they are minimised.
        search: The loop.
        evaluate: How whole cases are scored.
        track: Trackers.
        tune: Outer search.
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
        faults = _change(content, values)
        return _typed(content, Path(), self.name, faults)

    def build_data(self) -> Splits:
        """Read the data.

        Returns:
            The three sets.

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
                f"data.kind = {self.data.kind!r} returned {type(splits).__name__}; it must return Splits."
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
        except ImportError as cause:  # as MONAI raises for what it needs only sometimes
            seen = str(cause).strip().splitlines()[0]
            package = found[1] if (found := re.search(r"No module named '(\w+)", seen)) else "PACKAGE"
            raise MissingExtraError(
                f"network.build = {self.network.build!r} needs a package that is not installed.",
                seen=seen,
                hint=f"pip install {package}",
            ) from None
        if not isinstance(network, nn.Module):
            kind = type(network).__name__
            raise RecipeError(f"network.build = {self.network.build!r} returned {kind}; it must return an nn.Module.")
        return network

    def score(
        self,
        network: nn.Module,
        splits: Splits,
        subset: Literal["test", "val"] = "test",
        *,
        save: str | Path | None = None,
        overlays: int = 0,
        progress: bool = True,
    ) -> Evaluation:
        """Score a trained network on whole cases, as ``[evaluate]`` says.

        Args:
            network: The network alone; instrumented or stripped makes no difference.
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
        size = self._size(splits) if self.evaluate.window is None else None
        how = InferenceOptions(
            size, "linear", self.evaluate.batch_size, self.evaluate.window, flips=self.evaluate.flips
        )
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
            ignore_index=self.loss.ignore_index,
        )

    def _size(self, splits: Splits) -> tuple[int, int]:
        """Return the rows and columns that training sees."""
        seen = tuple(splits.train[0][0].shape[1:])
        if len(seen) != 2:
            raise RecipeError(
                f"the network is trained on blocks of {' × '.join(map(str, seen))}; whole cases need a sliding window.",
                hint=f"evaluate.window={list(seen)}",
            )
        return seen[0], seen[1]

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
        source: A shipped name (``"chest_ct"``), a TOML file, or a folder that holds ``recipe.toml``.
        overrides: ``"optimizer.lr=3e-4"``: the right side is TOML, or else plain text;
            ``"network.stages="`` removes what the recipe sets.

    Returns:
        The typed recipe.

    Raises:
        RecipeError: no such recipe, or faults in it or in the overrides; all of them are listed.
    """
    path = find_recipe(source)
    content = read_toml(path, RecipeError)
    faults = [fault for text in overrides if (fault := _override(content, text))]
    content.setdefault("name", path.parent.resolve().name if path.name == "recipe.toml" else path.stem)
    return _typed(content, path.parent.resolve(), str(source), faults)


def home_of(recipe: Recipe, suffix: str = "") -> Path:
    """Return the folder that a recipe's runs go to when none is named: one below ``runs``, whatever its name holds.

    Args:
        recipe: The recipe.
        suffix: What tells its kinds of runs apart, such as ``-tune``.

    Returns:
        The folder.
    """
    name = re.sub(r"[/\\\x00-\x1f\x7f]", "-", recipe.name).strip().lstrip(".")
    short = name.encode()[:200].decode(errors="ignore")  # file systems bear 255 bytes
    return Path("runs") / f"{short or 'recipe'}{suffix}"


def find_recipe(source: str | Path) -> Path:
    """Find the TOML file of a recipe.

    Args:
        source: As in :func:`load_recipe`.

    Returns:
        Its path.

    Raises:
        RecipeError: neither shipped nor a file.
    """
    known = shipped_files("recipes")
    path = known.get(str(source), Path(source))
    try:
        path = path / "recipe.toml" if path.is_dir() else path
        found = path.is_file()
    except OSError:  # a name longer than names may be
        found = False
    if not found:
        raise RecipeError(f'no recipe "{str(source)[:200]}": neither shipped nor a file. {nearest(str(source), known)}')
    return path


# -- checking ----------------------------------------------------------------------------------------------------------


def _typed(content: dict[str, Any], folder: Path, source: str, faults: Iterable[str] = ()) -> Recipe:
    try:
        content = copy.deepcopy(content)
        found = [*faults, *_resolve(content, folder), *_extra_faults(content), *_range_faults(content)]
        recipe = build_typed(Recipe, content, source, RecipeError, found)
        recipe.to_toml()
    except RecursionError:
        raise RecipeError(f"{source} is nested too deep.", seen="brackets within brackets within brackets") from None
    return recipe


def _override(content: dict[str, Any], text: str) -> str | None:
    try:
        key, value = split_setting(text)
        path = split_key(key)
        read = toml_or_text(value)
    except ValueError as cause:
        return f"override {shortened(text)}: {cause}"
    return _set(content, path, read) if value else _unset(content, path)


def _set(content: dict[str, Any], path: Sequence[str], value: Any) -> str | None:
    """Set a key, given part by part; whether it exists is for the schema to say."""
    table = content
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return f"override {join_key(path)!r}: {part} is not a table."
    table[path[-1]] = value
    return None


def _change(content: dict[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Set dotted keys, or remove them where the value is None; return what cannot be set."""
    faults = []
    for key, value in values.items():
        try:
            path = split_key(key)
        except ValueError as cause:
            faults.append(str(cause))
            continue
        if value is None:
            _unset(content, path)
        elif fault := _set(content, path, value):
            faults.append(fault)
    return faults


def _unset(content: dict[str, Any], path: Sequence[str]) -> str | None:
    """Remove a key, given part by part, so that its default holds."""
    table: Any = content
    for part in path[:-1]:
        table = table.get(part) if isinstance(table, dict) else None
    if not isinstance(table, dict) or path[-1] not in table:
        return f"override {join_key(path) + '='!r}: the recipe does not set it."
    del table[path[-1]]
    return None


def _resolve(content: dict[str, Any], folder: Path) -> list[str]:
    """Make paths absolute, in place; return what does not exist."""
    faults = []
    for section, key in (("data", "kind"), ("network", "build")):
        table = content.get(section)
        if isinstance(table, dict) and isinstance(path := table.get(key), str):
            table[key], fault = _object_path(path, folder, known=DATA_KINDS if section == "data" else {})
            faults += [f"{section}.{key} = {path!r}: {fault}"] if fault else []
    data = content.get("data")
    if isinstance(data, dict) and isinstance(root := data.get("root"), str):
        data["root"] = str((folder if (folder / root).exists() else Path.cwd()) / root)
    if isinstance(data, dict) and isinstance(split := data.get("split"), str) and split.endswith(".toml"):
        data["split"] = str(folder / split)
        faults += [] if (folder / split).is_file() else [f"data.split = {split!r}: no file {folder / split}."]
    weighting = content.get("weighting")
    if isinstance(weighting, dict) and isinstance(mixture := weighting.get("mixture"), str):
        path = next((p for p in (folder / mixture, Path(mixture).absolute()) if p.is_file()), folder / mixture)
        weighting["mixture"] = str(path)
        faults += [] if path.is_file() else [f"weighting.mixture = {mixture!r}: no file {path}."]
    space = content.get("space")
    if (
        isinstance(space, dict)
        and isinstance(name := space.get("name"), str)
        and name not in shipped_files("search_spaces")
    ):
        space["name"] = str(folder / name)
        if not (folder / name).is_file():
            faults.append(
                f"space.name = {name!r}: neither shipped nor a file. {nearest(name, shipped_files('search_spaces'))}"
            )
    return faults


def _object_path(path: str, folder: Path, known: Mapping[str, Any]) -> tuple[str, str | None]:
    if path in known:
        return path, None
    module, colon, name = path.rpartition(":")
    if colon and module.endswith(".py"):
        return f"{folder / module}:{name}", None if (folder / module).is_file() else f"no file {folder / module}."
    if re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        return path, None
    kinds = f" {nearest(path, known)}" if known else ""
    return path, f'must read "package.module:name" or "file.py:name".{kinds}'


def _extra_faults(content: Mapping[str, Any]) -> list[str]:
    """Check the tables whose keys depend on what they name."""
    return [*_data_faults(content), *_space_faults(content), *_weighting_faults(content)]


def _space_faults(content: Mapping[str, Any]) -> list[str]:
    space = content.get("space")
    wanted = space.get("operators") if isinstance(space, dict) else None
    if not isinstance(space, dict) or not isinstance(wanted, list | tuple):
        return []
    name = str(space.get("name", SpaceSection().name))
    rules = _operator_tables(shipped_files("search_spaces").get(name, Path(name)))
    known = [str(rule["name"]) for rule in rules if isinstance(rule, dict) and "name" in rule]
    return [
        f"space.operators: {one!r} is not in {Path(name).stem}. {nearest(str(one), known)}"
        for one in wanted
        if known and one not in known
    ]


def _operator_tables(path: Path) -> list[Any]:
    """Read the operators of a space file; whether it is a good one is said when it is loaded."""
    try:
        rules = tomllib.loads(path.read_text(encoding="utf-8")).get("operator", [])
    except (OSError, ValueError, RecursionError):
        return []
    return rules if isinstance(rules, list) else []


def _weighting_faults(content: Mapping[str, Any]) -> list[str]:
    table = content.get("weighting")
    if not isinstance(table, dict) or not isinstance(name := table.get("name", "softplus"), str):
        return []
    settings = {key: value for key, value in table.items() if key not in ("name", "mixture")}
    return [f"weighting.{fault}" for fault in weighting_faults(name, settings)]


def _data_faults(content: Mapping[str, Any]) -> list[str]:
    data = content.get("data")
    kind = DATA_KINDS.get(str(data.get("kind"))) if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind is None:
        return []
    settings = kind.settings
    try:
        settings.model_validate({k: v for k, v in data.items() if k != "kind"})
    except ValidationError as cause:
        return [f"data.{fault}" for fault in faults_of(cause, settings)]
    return []


def _range_faults(content: Mapping[str, Any]) -> list[str]:
    """Try the ends of every range as overrides: a range must name a key, and values that the key takes."""
    try:
        tune = TuneSection.model_validate(content.get("tune", {}))
    except ValidationError:  # the schema says what is wrong with it
        return []
    if faults := tune.faults():
        return faults
    base = {key: value for key, value in content.items() if key != "tune"}
    before = set(_schema_faults(base))
    for key, value in tune.ranges.items():
        for example in value.examples():
            tried = copy.deepcopy(base)
            found = _change(tried, tune.example(key, example)) or _schema_faults(tried)
            faults += [f'tune.ranges."{key}": {fault}' for fault in found if fault not in before]
    return list(dict.fromkeys(faults))


def _schema_faults(content: Mapping[str, Any]) -> list[str]:
    try:
        Recipe.model_validate(content)
    except ValidationError as cause:
        return [*faults_of(cause, Recipe), *_extra_faults(content)]
    return _extra_faults(content)
