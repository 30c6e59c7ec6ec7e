"""Faults of a recipe that no single key shows: tables whose keys depend on what they name, and ranges to tune."""

import copy
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.errors import nearest
from lomix_search.mixture.weighting import weighting_faults
from lomix_search.recipe.changes import apply_changes
from lomix_search.recipe.sections import SpaceSection
from lomix_search.recipe.tuning import TuneSection
from lomix_search.utils.schema import Frozen, faults_in
from lomix_search.utils.shipped import shipped_files

_SEARCH_HAS_IT = " For this kind of data, say search.label_fraction."


def table_faults(content: Mapping[str, Any]) -> list[str]:
    """Check the tables whose keys depend on what they name: a kind of data, a space, a weighting.

    Args:
        content: Of a recipe file, paths resolved.

    Returns:
        One line a fault.
    """
    return [*_data_faults(content), *_space_faults(content), *_weighting_faults(content)]


def _data_faults(content: Mapping[str, Any]) -> list[str]:
    data = content.get("data")
    kind = DATA_KINDS.get(str(data.get("kind"))) if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind is None:
        return []
    faults = faults_in(kind.settings, {key: value for key, value in data.items() if key != "kind"})
    return [f"data.{fault}{_SEARCH_HAS_IT if fault.startswith('label_fraction: unknown.') else ''}" for fault in faults]


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
    """Read the operators of a space file; its own faults are told when the space is loaded."""
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


def range_faults(content: Mapping[str, Any], kind: type[Frozen]) -> list[str]:
    """Try the ends of every range as overrides: a range must name a key, and values that the key takes.

    Args:
        content: Of a recipe file, paths resolved.
        kind: The class of recipes.

    Returns:
        One line a fault.
    """
    try:
        tune = TuneSection.model_validate(content.get("tune", {}))
    except ValidationError:  # the schema tells what is wrong with it
        return []
    if faults := tune.faults():
        return faults
    base = {key: value for key, value in content.items() if key != "tune"}
    before = set(_schema_faults(base, kind))
    for key, value in tune.ranges.items():
        for example in value.examples():
            tried = copy.deepcopy(base)
            found = apply_changes(tried, tune.example(key, example)) or _schema_faults(tried, kind)
            faults += [f'tune.ranges."{key}": {fault}' for fault in found if fault not in before]
    return list(dict.fromkeys(faults))


def _schema_faults(content: Mapping[str, Any], kind: type[Frozen]) -> list[str]:
    return [*faults_in(kind, content), *table_faults(content)]
