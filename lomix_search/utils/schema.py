"""Typed files: what was read into frozen pydantic values, with every fault of a file reported at once."""

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
    return [_fault(dict(item), kind) for item in cause.errors(include_url=False)]


def _fault(item: dict[str, Any], kind: type[BaseModel]) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown. {nearest(str(item['loc'][-1]), _keys_beside(kind, item['loc']))}"
    if item["type"] == "missing":
        return f"{where}: missing."
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    shown = "" if item["type"] == "value_error" and where == "" else f" = {shortened(item['input'])}"
    return f"{where}{shown}: {message[:1].lower()}{message[1:]}".lstrip(": ")


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
