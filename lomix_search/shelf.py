"""The shelf: search spaces and recipes that ship with the package, in a checkout and in an installed wheel alike."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shelf(kind: str) -> Path:
    """Return the folder of shipped files.

    Args:
        kind: ``"search_spaces"`` or ``"recipes"``.

    Returns:
        The wheel's copy inside the package where it exists, else the checkout's folder beside the package.
    """
    shipped = _PACKAGE / "_shelf" / kind
    return shipped if shipped.is_dir() else _PACKAGE.parent / kind


def shelved(kind: str) -> dict[str, Path]:
    """Return what is on the shelf by name: ``{"lomix": .../lomix.toml}`` or ``{"chest_ct": .../recipe.toml}``."""
    if kind == "search_spaces":
        return {path.stem: path for path in sorted(shelf(kind).glob("*.toml"))}
    return {path.parent.name: path for path in sorted(shelf(kind).glob("*/recipe.toml"))}
