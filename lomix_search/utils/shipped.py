"""Files that ship with the package, search spaces and recipes: in a checkout and in an installed wheel alike."""

from pathlib import Path

VERSION = "0.1.0"
"""The version of the package, which mixture files name."""

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package itself."""


def shipped_folder(kind: str) -> Path:
    """Return the folder of shipped files.

    Args:
        kind: ``"search_spaces"`` or ``"recipes"``.

    Returns:
        The wheel's copy inside the package where it exists, else the checkout's folder beside the package.
    """
    shipped = PACKAGE / "_shelf" / kind
    return shipped if shipped.is_dir() else PACKAGE.parent / kind


def shipped_files(kind: str) -> dict[str, Path]:
    """Return what ships, by name: ``{"lomix": .../lomix.toml}`` or ``{"chest_ct": .../recipe.toml}``."""
    if kind == "search_spaces":
        return {path.stem: path for path in sorted(shipped_folder(kind).glob("*.toml"))}
    return {path.parent.name: path for path in sorted(shipped_folder(kind).glob("*/recipe.toml"))}
