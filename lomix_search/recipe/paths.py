"""Paths in a recipe: relative to its file as they are written, absolute once it is loaded."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.errors import nearest
from lomix_search.utils.shipped import shipped_files, shipped_folder

SHARED_NETWORK = "networks/pvt_attention.py"
"""The network that several shipped recipes share, below their folder."""
_HAD_ITS_OWN = ("synapse", "synapse13", "acdc", "polyp", "isic2018", "busi")  # as network.py, in earlier versions


def resolve_paths(content: dict[str, Any], folder: Path) -> list[str]:
    """Make the paths of a recipe absolute.

    Args:
        content: Of the recipe file; changed in place. The schema refuses what is neither table nor text.
        folder: Of the recipe file.

    Returns:
        One line for each file that does not exist.
    """
    return [
        *_code_faults(content, folder),
        *_data_faults(content, folder),
        *_mixture_faults(content, folder),
        *_space_faults(content, folder),
    ]


def _text(content: dict[str, Any], section: str, key: str) -> tuple[dict[str, Any], str] | None:
    """Return a section and the text that one of its keys holds; None where there is no such text."""
    table = content.get(section)
    value = table.get(key) if isinstance(table, dict) else None
    return (table, value) if isinstance(table, dict) and isinstance(value, str) else None


def _code_faults(content: dict[str, Any], folder: Path) -> Iterator[str]:
    """Resolve ``file.py:name`` in data.kind and network.build."""
    for section, key, known in (("data", "kind", DATA_KINDS), ("network", "build", {})):
        if found := _text(content, section, key):
            table, written = found
            table[key], fault = _object_path(written, folder, known)
            if fault:
                yield f"{section}.{key} = {written!r}: {fault}"


def _data_faults(content: dict[str, Any], folder: Path) -> Iterator[str]:
    if found := _text(content, "data", "root"):
        table, root = found
        table["root"] = str((folder if (folder / root).exists() else Path.cwd()) / root)
    if (found := _text(content, "data", "split")) and found[1].endswith(".toml"):
        table, split = found
        table["split"] = str(folder / split)
        if not (folder / split).is_file():
            yield f"data.split = {split!r}: no file {folder / split}."


def _mixture_faults(content: dict[str, Any], folder: Path) -> Iterator[str]:
    """Look for a mixture beside the recipe, and then where the command runs."""
    if found := _text(content, "weighting", "mixture"):
        table, mixture = found
        path = next((p for p in (folder / mixture, Path(mixture).absolute()) if p.is_file()), folder / mixture)
        table["mixture"] = str(path)
        if not path.is_file():
            yield f"weighting.mixture = {mixture!r}: no file {path}."


def _space_faults(content: dict[str, Any], folder: Path) -> Iterator[str]:
    if (found := _text(content, "space", "name")) and found[1] not in (known := shipped_files("search_spaces")):
        table, name = found
        table["name"] = str(folder / name)
        if not (folder / name).is_file():
            yield f"space.name = {name!r}: neither shipped nor a file. {nearest(name, known)}"


def _object_path(path: str, folder: Path, known: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return an object path with an absolute file, and what is wrong with it."""
    if path in known:
        return path, None
    module, colon, name = path.rpartition(":")
    if colon and module.endswith(".py"):
        file = _file(folder / module)
        return f"{file}:{name}", None if file.is_file() else f"no file {file}.{_moved(file)}"
    if re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        return path, None
    if re.fullmatch(r"\w+(\.\w+)+", path) and not path.endswith(".py"):
        return path, f'must read "package.module:name", with a colon: {":".join(path.rsplit(".", 1))}'
    kinds = f" {nearest(path, known)}" if known else ""
    return path, f'must read "package.module:name" or "file.py:name".{kinds}'


def _file(path: Path) -> Path:
    """Return where a file of code lies: without ``..``, and under its name of today.

    A run folder of an earlier version names the ``network.py`` that its shipped recipe had; that network is shared now.
    """
    path = path.resolve() if ".." in path.parts else path
    if path.name == "network.py" and path.parent.parent == shipped_folder("recipes") and not path.is_file():
        return shipped_folder("recipes") / SHARED_NETWORK
    return path


def _moved(path: Path) -> str:
    """Say what to type where the network of a shipped recipe is missing, as in a run folder of another machine."""
    if path.name != "network.py" or path.parent.parent.name != "recipes" or path.parent.name not in _HAD_ITS_OWN:
        return ""
    return f" The network of the shipped recipes: network.build={shipped_folder('recipes') / SHARED_NETWORK}:build"
