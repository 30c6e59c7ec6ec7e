"""Typed files: TOML and JSON into frozen pydantic values, with every fault of a file reported at once."""

import datetime
import json
import os
import re
import tempfile
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from lomix_search.errors import LomixError, nearest


class Frozen(BaseModel):
    """Base of all typed values: immutable, unknown keys are faults, true is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None and not _takes_switch(field.annotation):
            raise ValueError("input should not be true or false")
        return value


Value = TypeVar("Value", bound=Frozen)

DEPTH = 64
"""How deep values may be nested in a file."""
SHOWN = 40
"""How many faults of a file are shown: files of others may hold anything."""


def read_toml(path: Path, error: type[LomixError], limit: int = 2**24) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        error: Class of the error to raise.
        limit: Bytes that it may have: a file may come from anyone, and is not to take all memory and time.

    Returns:
        Its content.

    Raises:
        LomixError: of class ``error``: no such file, too large, or not TOML (with line and column).
    """
    content: dict[str, Any] = _parse(path, tomllib.loads, "a TOML file", error, limit)
    return content


def read_json(path: Path, error: type[LomixError], form: str = "a JSON file") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: The file.
        error: Class of the error to raise.
        form: What it should be, for the message.

    Returns:
        Its content.

    Raises:
        LomixError: of class ``error``: no such file, too large, or no JSON object.
    """
    content = _parse(path, json.loads, form, error, 2**26)
    if not isinstance(content, dict):
        raise error(f"{path} holds no JSON object.", seen=f"a {type(content).__name__}")
    return content


def read_bytes(path: Path, error: type[LomixError], limit: int) -> bytes:
    """Read a file of bounded size: no pipe, on which this would wait, nor a device that never ends.

    Args:
        path: The file.
        error: Class of the error to raise.
        limit: Bytes that it may have.

    Returns:
        All of it.

    Raises:
        LomixError: of class ``error``: it cannot be read, is no file, or has more bytes.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise error(f"{path} cannot be read.", seen="a pipe or device, not a file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as cause:  # ValueError: a path that holds a zero byte
        raise error(f"{path} cannot be read.", seen=getattr(cause, "strerror", None) or str(cause)) from None
    if len(content) > limit:
        raise error(f"{path} has more than {limit >> 20} MiB; no such file is so large.")
    return content


def _parse(path: Path, parse: Callable[[str], Any], form: str, error: type[LomixError], limit: int) -> Any:
    text = read_bytes(path, error, limit)
    try:
        content = parse(text.decode("utf-8-sig"))  # some editors put a byte order mark first
    except ValueError as cause:  # TOMLDecodeError, JSONDecodeError and UnicodeDecodeError are all ValueErrors
        raise error(f"{path} is not {form}.", seen=str(cause)) from None
    except RecursionError:
        raise error(f"{path} is not {form}.", seen=f"values nested more than {DEPTH} deep") from None
    if _too_deep(content):
        raise error(f"{path} is not {form}.", seen=f"values nested more than {DEPTH} deep")
    return content


def _too_deep(content: object) -> bool:
    """Tell whether values are nested deeper than any of ours: what walks them later calls itself for each level."""
    level = [content]
    for _ in range(DEPTH):
        held = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for some in held for inner in some]
    return bool(level)


def validate(
    kind: type[Value],
    content: Mapping[str, Any],
    source: str,
    error: type[LomixError],
    extra_faults: Iterable[str] = (),
) -> Value:
    """Build a typed value, or say everything that is wrong with it.

    Args:
        kind: The class to build.
        content: Keys and values as read.
        source: What to call the file in the message.
        error: Class of the error to raise.
        extra_faults: Faults found elsewhere in the same file, reported in the same breath.

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
    """Return what keeps a typed value from being built, one line a fault; nothing if all is well."""
    try:
        kind.model_validate(dict(content))
    except ValidationError as cause:
        return faults_of(cause, kind)
    return []


def faults_of(cause: ValidationError, kind: type[BaseModel]) -> list[str]:
    """Put pydantic's findings into the words of the file: one line a fault."""
    return [_fault(dict(item), kind) for item in cause.errors(include_url=False)]


def to_toml(content: Mapping[str, Any]) -> str:
    """Write a document that ``tomllib`` reads back to the same values (the standard library only reads).

    Args:
        content: Text, numbers, booleans, lists and tables of them; TOML has no null.

    Returns:
        The document: plain keys first, then tables, then arrays of tables, each in the order given.
    """
    return "\n".join(_toml_table(content, ())).strip("\n") + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file as ``write_bytes`` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that after a crash there is either the old or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException as cause:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(cause, OSError):
            cause.filename = str(path)  # a full disk names no file by itself
        raise


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
    """Return how Python writes a value, cut off where that is long: it stands in a message."""
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
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
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
