"""Changes of what a recipe file holds, before it becomes typed: keys set or removed, part by part."""

from collections.abc import Mapping, Sequence
from typing import Any

from lomix_search.recipe.overrides import join_key, split_key, split_setting, toml_or_text
from lomix_search.utils.schema import shortened


def apply_override(content: dict[str, Any], text: str) -> str | None:
    """Set a key to a value, or remove it where the value is empty, as a command line says.

    Args:
        content: Of a recipe file; changed in place.
        text: ``key=value``; the value is TOML, or else plain text.

    Returns:
        What is wrong with the text, or None.
    """
    try:
        key, value = split_setting(text)
        path = split_key(key)
        read = toml_or_text(value)
    except ValueError as cause:
        return f"override {shortened(text)}: {cause}"
    return _set(content, path, read) if value else _unset(content, path)


def apply_changes(content: dict[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Set dotted keys, or remove them where the value is None.

    Args:
        content: Of a recipe file; changed in place.
        values: By dotted key.

    Returns:
        What cannot be set.
    """
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


def _set(content: dict[str, Any], path: Sequence[str], value: Any) -> str | None:
    """Set a key, given part by part; the schema says later whether there is such a key."""
    table = content
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return f"override {join_key(path)!r}: {part} is not a table."
    table[path[-1]] = value
    return None


def _unset(content: dict[str, Any], path: Sequence[str]) -> str | None:
    """Remove a key, given part by part, so that its default holds."""
    table: Any = content
    for part in path[:-1]:
        table = table.get(part) if isinstance(table, dict) else None
    if not isinstance(table, dict) or path[-1] not in table:
        return f"override {join_key(path) + '='!r}: the recipe does not set it."
    del table[path[-1]]
    return None
