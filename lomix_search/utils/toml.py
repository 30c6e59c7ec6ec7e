"""Values written as TOML, which the standard library only reads."""

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any


def to_toml(content: Mapping[str, Any]) -> str:
    """Write a document that ``tomllib`` reads back to the same values (the standard library only reads).

    Args:
        content: Text, numbers, booleans, lists and tables of them; TOML has no null.

    Returns:
        The document: plain keys first, then tables, then arrays of tables, each in the order given.
    """
    return "\n".join(_toml_table(content, ())).strip("\n") + "\n"


def _toml_table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Return the lines of one table, without its own header."""
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    arrays = {key: value for key, value in table.items() if _is_array_of_tables(value)}
    lines = [f"{_toml_key(k)} = {to_toml_value(v)}" for k, v in table.items() if k not in tables and k not in arrays]
    for key, inner in tables.items():
        lines += ["", f"[{'.'.join(map(_toml_key, (*path, key)))}]", *_toml_table(inner, (*path, key))]
    for key, array in arrays.items():
        header = f"[[{'.'.join(map(_toml_key, (*path, key)))}]]"
        lines += [line for inner in array for line in ("", header, *_toml_table(inner, (*path, key)))]
    return lines


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(item, Mapping) for item in value)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else to_toml_value(key)


def to_toml_value(value: object) -> str:
    """Write one value as ``to_toml`` does."""
    if isinstance(value, str):  # JSON and TOML escape alike, except for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml_value, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(k)} = {to_toml_value(v)}" for k, v in value.items()) + "}"
    return repr(value)
