"""Typed values in words: what a field of a recipe, a space or a mixture may be."""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "", Any: "any value"}
_LARGE = 2**31  # bounds from here on only say what a computer can hold


def in_words(annotation: Any) -> str:
    """Return what a type is called in a TOML file, such as ``list of whole numbers``."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return in_words(inside[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(word for one in inside if (word := in_words(one))))
    if origin is Literal:
        return "one of " + ", ".join(f"`{one}`" for one in inside)
    if origin in (tuple, list):
        several = [one for one in inside if one is not Ellipsis]
        if Ellipsis in inside or origin is list:
            return f"list of {_plural(in_words(several[0]))}" if several else "list"
        return f"list of {len(several)} {_plural(in_words(several[0]))}"
    if origin in (dict, Mapping):
        return f"table of {_plural(in_words(inside[1]))}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _plural(words: str) -> str:
    """Return the words for several: ``whole numbers or texts``."""
    ends = {"number": "numbers", "text": "texts", "table": "tables", "value": "values"}
    return " or ".join(
        f"{one.rpartition(' ')[0]} {ends[last]}".strip() if (last := one.split(" ")[-1]) in ends else one
        for one in words.split(" or ")
    )


def bounds(field: FieldInfo) -> str:
    """Return the range of a number or the number of entries of a list, ``0 < x ≤ 1``; empty where all go."""
    return "; ".join(dict.fromkeys(_all_bounds(field.annotation, field.metadata)))


def default(field: FieldInfo) -> str:
    """Return the default as a TOML file would write it; ``required`` and ``left out`` where there is none."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "left out"
    if isinstance(value, BaseModel):
        return "its own defaults"
    return f"`{written(value)}`"


def written(value: Any) -> str:
    """Write a value as TOML does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {written(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def model_within(annotation: Any) -> type[BaseModel] | None:
    """Return the typed value in ``Model``, ``Model | None``, ``tuple[Model, ...]`` or ``dict[str, Model]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in typing.get_args(annotation) if (found := model_within(one))), None)


def _all_bounds(annotation: Any, metadata: list[Any]) -> Iterator[str]:
    """Find the bounds of a type, those of what is inside it too."""
    told = {
        name: getattr(one, name) for one in _flat(metadata) for name in _BOUNDS if getattr(one, name, None) is not None
    }
    low = f"{told['ge']:g} ≤ " if "ge" in told else f"{told['gt']:g} < " if "gt" in told else ""
    high = f" ≤ {told['le']:g}" if "le" in told else f" < {told['lt']:g}" if "lt" in told else ""
    if abs(told.get("ge", 0)) >= _LARGE:
        low = ""
    if told.get("le", told.get("lt", 0)) >= _LARGE:
        high = ""
    if low and not high:
        yield f"≥ {told['ge']:g}" if "ge" in told else f"> {told['gt']:g}"
    elif low or high:
        yield f"{low}x{high}"
    if "min_length" in told:
        least, most = told["min_length"], told.get("max_length")
        yield f"{least} to {most} entries" if most else f"at least {least} entr{'y' if least == 1 else 'ies'}"
    if "pattern" in told:
        yield f"matches `{told['pattern']}`"
    inside = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        yield from _all_bounds(inside[0], list(inside[1:]))
    elif typing.get_origin(annotation) is not Literal:
        for one in inside:
            yield from _all_bounds(one, [])


_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")


def _flat(metadata: list[Any]) -> Iterator[Any]:
    """Take apart ``Field(ge=…, lt=…)`` inside ``Annotated``, which holds its bounds in a list of its own."""
    for one in metadata:
        yield from _flat(one.metadata) if isinstance(one, FieldInfo) else [one]
