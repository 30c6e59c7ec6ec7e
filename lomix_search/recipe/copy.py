"""``lomix cp``: a shipped recipe or search space as a copy to edit, which names no file outside its own folder."""

import shutil
from pathlib import Path

from lomix_search.errors import RecipeError, nearest
from lomix_search.utils.files import read_toml, write_text
from lomix_search.utils.shipped import shipped_files


def copy_shipped(name: str, folder: Path) -> Path:
    """Copy a shipped recipe with the network file that it shares with others, or a shipped search space.

    Args:
        name: Of a recipe or a space.
        folder: Where there is no such folder, the copy is made as it; else within it. A space is made as a file where
            the name ends in ``.toml``.

    Returns:
        The copy: a folder for a recipe, a file for a space.

    Raises:
        RecipeError: nothing of that name ships, or the copy would overwrite something, or a folder be called a file.
    """
    recipes, spaces = shipped_files("recipes"), shipped_files("search_spaces")
    if name not in recipes | spaces:
        raise RecipeError(
            f'no shipped recipe or space "{name}". {nearest(name, recipes | spaces)}',
            hint="lomix ls   # lists what ships",
        )
    source = recipes[name].parent if name in recipes else spaces[name]
    if source.is_dir() and folder.suffix == ".toml":
        raise RecipeError(
            f"{folder}: a recipe is copied as a folder.", hint=f"lomix cp {name} {folder.with_suffix('')}"
        )
    itself = not folder.is_dir() and (source.is_dir() or folder.suffix == ".toml")
    target = folder if itself else folder / source.name
    if target.exists():
        raise RecipeError(f"{target} exists already; nothing was copied.", hint=f"lomix cp {name} ANOTHER")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        _bring_shared_files(source, target)
    else:
        shutil.copy(source, target)
    return target


def _bring_shared_files(source: Path, target: Path) -> None:
    """Put the files that a recipe takes from beside its folder into the copy, and let the copy name them there."""
    path = target / "recipe.toml"
    content, text = read_toml(path, RecipeError), path.read_text(encoding="utf-8")
    for named in (content["data"]["kind"], content["network"]["build"]):
        file, _, function = named.rpartition(":")
        if file.startswith("../"):
            shutil.copy(source / file, target / Path(file).name)
            text = text.replace(f'"{named}"', f'"{Path(file).name}:{function}"')
    write_text(path, text)
