"""What of a recipe may leave the machine with a tracked run: numbers and choices, no path, no name of a case."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lomix_search.data.kinds import DATA_KINDS
from lomix_search.recipe.recipe import Recipe
from lomix_search.utils.shipped import shipped_files


def outgoing(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that a tracker may show.

    Of the data and the network only numbers go out, and the name of the network's class; files are named by no more
    than their stem, for they may lie in a folder called after a patient or a person. The recipe's name is that of its
    folder where its author chose none, so only names of shipped recipes stay; ``track.name`` is for saying more.

    Args:
        recipe: The resolved recipe.

    Returns:
        Plain values by section.
    """
    content = recipe.model_dump(include={"loss", "optimizer", "search"})
    kind = recipe.data.kind if recipe.data.kind in DATA_KINDS else "own"
    build = recipe.network.build.rpartition(":")[2]
    weighting = {key: value for key, value in recipe.weighting.settings.items() if _harmless(value)}
    return content | {
        "name": public_name(recipe),
        "space": {"name": Path(recipe.space.name).stem},
        "weighting": {"name": recipe.weighting.name, **weighting},
        "network": {"build": build, **_numbers(recipe.network.args)},
        "data": {"kind": kind, **_numbers(recipe.data.settings)},
    }


def public_name(recipe: Recipe) -> str:
    """Return the recipe's name if it is one of the shipped ones, ``custom`` otherwise."""
    return recipe.name if recipe.name in shipped_files("recipes") else "custom"


def _numbers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keep numbers, switches and lists of them."""
    return {
        key: value
        for key, value in settings.items()
        if isinstance(value, bool | int | float)
        or (isinstance(value, list | tuple) and all(isinstance(part, bool | int | float) for part in value))
    }


def _harmless(value: object) -> bool:
    """Say whether a setting is a number or a plain word such as ``norm``, and no path of a file."""
    return isinstance(value, bool | int | float) or (isinstance(value, str) and value.isidentifier())
