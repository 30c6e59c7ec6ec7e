"""Typed files: what was read into frozen pydantic values, with every fault of a file reported at once."""

import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from lomix_search.errors import LomixError, nearest


class Frozen(BaseModel):
    """Base of all typed values: they do not change, unknown keys are faults, and ``true`` is not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None and not _takes_switch(field.annotation):
            raise ValueError("input should not be true or false")
        return value


_Value = TypeVar("_Value", bound=Frozen)

SHOWN = 40
"""How many faults of a file are shown: files of others may hold anything."""


def build_typed(
    kind: type[_Value],
    content: Mapping[str, Any],
    source: str,
    error: type[LomixError],
    extra_faults: Iterable[str] = (),
) -> _Value:
    """Build a typed value, or say everything that is wrong with it.

    Args:
        kind: The class to build.
        content: Keys and values as read.
        source: What to call the file in the message.
        error: Class of the error to raise.
        extra_faults: Faults found elsewhere in the same file; they are reported first.

    Returns:
        The value.

    Raises:
        LomixError: of class ``error``, one line a fault: where, what was found, what is allowed.
    """
    faults = [*extra_faults, *faults_in(kind, content)]
    if faults:
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        shown = faults if len(faults) <= SHOWN else [*faults[:SHOWN], f"… and {len(faults) - SHOWN} more."]
        raise error("\n".join([f"{source} has {count}.", *(f"  {fault}" for fault in shown)]))
    return kind.model_validate(dict(content))


def faults_in(kind: type[BaseModel], content: Mapping[str, Any]) -> list[str]:
    """Return what keeps a typed value from being built, one line a fault; an empty list if all is well."""
    try:
        kind.model_validate(dict(content))
    except ValidationError as cause:
        return faults_of(cause, kind)
    return []


def faults_of(cause: ValidationError, kind: type[BaseModel]) -> list[str]:
    """Put pydantic's findings into the words of the file: one line a fault."""
    items: list[dict[str, Any]] = [dict(item) for item in cause.errors(include_url=False)]
    places = [item["loc"] for item in items]
    told = [item for item in items if item["type"] != "too_short" or not any(_within(at, item["loc"]) for at in places)]
    return [_fault(item, kind) for item in told]


def _within(place: tuple[str | int, ...], table: tuple[str | int, ...]) -> bool:
    """Whether a fault lies inside a list: pydantic then takes the list for a shorter one, and says that too."""
    return len(place) > len(table) and place[: len(table)] == table


def _fault(item: dict[str, Any], kind: type[BaseModel]) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown. {nearest(str(item['loc'][-1]), _keys_beside(kind, item['loc']))}"
    if item["type"] == "missing":
        return f"{where}: missing."
    message = _in_words(item) or item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    shown = "" if item["type"] == "value_error" and where == "" else f" = {shortened(item['input'])}"
    return f"{where}{shown}: {message[:1].lower()}{message[1:]}".lstrip(": ")


def _in_words(item: Mapping[str, Any]) -> str:
    """Say what is needed as this library says it; empty for what pydantic says well, or our own validators."""
    kind, context, given = str(item["type"]), item.get("ctx", {}), item["input"]
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"unknown. {nearest(str(given), known)}" if known else ""
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        value = context[bound]
        return f"{word} {format(value, 'g') if isinstance(value, float) else value} is needed."
    if kind == "too_short":
        return f"at least {context['min_length']} in it is needed."
    if kind in ("tuple_type", "list_type", "set_type", "frozen_set_type"):
        one = isinstance(given, bool | int | float | str)
        return f"a list is needed{f', such as [{json.dumps(given)}]' if one else ''}."
    what = next((what for start, what in _TYPES.items() if kind.startswith(start)), "")
    return f"{what} is needed." if what else ""


_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_TYPES = {
    "int_": "a whole number", "float_": "a number", "bool_": "true or false", "string_type": "text", "dict_": "a table",
    "model_": "a table", "mapping_": "a table", "finite_number": "a finite number",
}  # fmt: skip


def shortened(value: object, most: int = 80) -> str:
    """Return how Python writes a value, cut off for a message where that is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        return f"a very large {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _keys_beside(kind: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the allowed keys where an unknown one was found."""
    model: Any = kind
    for part in location[:-1]:
        if isinstance(part, str) and _is_model(model) and part in model.model_fields:
            model = _model_within(model.model_fields[part].annotation)
    return [field.alias or name for name, field in model.model_fields.items()] if _is_model(model) else []


def _takes_switch(annotation: Any) -> bool:
    """Whether a field may be true or false: ``bool``, ``Any``, or a union with one of them."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, typing.Literal):
        return any(_takes_switch(inner) for inner in typing.get_args(annotation))
    return annotation in (bool, Any, object) or isinstance(annotation, bool)


def _is_model(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _model_within(annotation: Any) -> Any:
    """Find the model class in ``Model``, ``tuple[Model, ...]`` or ``Model | None``."""
    if _is_model(annotation):
        return annotation
    inner = [_model_within(argument) for argument in typing.get_args(annotation)]
    return next((model for model in inner if _is_model(model)), annotation)
