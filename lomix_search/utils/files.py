"""Files read and written: what cannot be read is said in words, and a file is written whole or not at all."""

import json
import os
import shlex
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lomix_search.errors import LomixError

UNFINISHED = ".unfinished."
"""What folders begin with in which something is written that has no name yet; a killed process leaves them."""

DEPTH = 64
"""How deep values may be nested in a file."""


def read_toml(path: Path, error: type[LomixError], limit: int = 2**24) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        error: Class of the error to raise.
        limit: Bytes that it may have. A file may come from anyone and must not take all memory and time.

    Returns:
        Its content.

    Raises:
        LomixError: of class ``error``: the file cannot be read, is too large, or is not TOML (with line and column).
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
        LomixError: of class ``error``: the file cannot be read, is too large, or holds no JSON object.
    """
    content = _parse(path, json.loads, form, error, 2**26)
    if not isinstance(content, dict):
        raise error(
            f"{path} holds no JSON object.", seen=f"a {type(content).__name__}", hint=f"ls {_quoted(path.parent)}"
        )
    return content


def read_json_line(line: bytes) -> dict[str, Any] | None:
    """Read one line of a file of JSON lines, such as a log that a crash may have cut off.

    Args:
        line: As it stands in the file.

    Returns:
        Its content; None if the line is torn or holds no JSON object.
    """
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None
    return content if isinstance(content, dict) else None


def read_bytes(path: Path, error: type[LomixError], limit: int) -> bytes:
    """Read a file of bounded size. Pipes, on which this would wait, and devices, which never end, are refused.

    Args:
        path: The file.
        error: Class of the error to raise.
        limit: Bytes that it may have.

    Returns:
        All of it.

    Raises:
        LomixError: of class ``error``: the file cannot be read, is a pipe or device, or has more bytes.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise error(
                f"{path} cannot be read.",
                seen="a pipe or device, not a file",
                hint=f"cat {_quoted(path)} > copy{path.suffix}   # and name the copy",
            )
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as cause:  # ValueError: a path that holds a zero byte
        seen = getattr(cause, "strerror", None) or str(cause)
        raise error(f"{path} cannot be read.", seen=seen, hint=why_unread(path)) from None
    if len(content) > limit:
        raise error(
            f"{path} has more than {limit >> 20} MiB; no such file is so large.",
            hint=f"ls -l {_quoted(path)}   # is it another file?",
        )
    return content


def _parse(path: Path, parse: Callable[[str], Any], form: str, error: type[LomixError], limit: int) -> Any:
    text = read_bytes(path, error, limit)
    try:
        content = parse(text.decode("utf-8-sig"))  # some editors put a byte order mark first
    except ValueError as cause:  # TOMLDecodeError, JSONDecodeError and UnicodeDecodeError are all ValueErrors
        raise error(
            f"{path} is not {form}.", seen=unread_because(cause), hint=_how_written(path, parse, cause)
        ) from None
    except RecursionError:
        content = None
    if content is None or _too_deep(content):
        raise error(f"{path} is not {form}.", seen=f"values nested more than {DEPTH} deep", hint=_what_is(path))
    return content


def why_unread(path: Path) -> str:
    """Return a command that shows why a file cannot be read, or changes that."""
    if os.path.isdir(path):  # noqa: PTH112 — Path's own raises for a name that is too long
        return f"ls {_quoted(path)}   # name one of its files"
    if os.path.exists(path):  # noqa: PTH110 — the same
        return f"chmod u+r {_quoted(path)}"
    there = next((parent for parent in path.parents if os.path.isdir(parent)), Path())  # noqa: PTH112
    return f"ls {_quoted(there)}   # what there is"


def unread_because(cause: Exception) -> str:
    """Return what keeps a file from being read as text of some form."""
    if isinstance(cause, UnicodeDecodeError):
        return (
            f"no text: its byte {cause.start + 1} is 0x{cause.object[cause.start]:02x}, which UTF-8 does not have there"
        )
    return str(cause)


def _how_written(path: Path, parse: Callable[[str], Any], cause: ValueError) -> str:
    """Return what shows how a file of text should be written."""
    if isinstance(cause, UnicodeDecodeError):
        return _what_is(path)
    if parse is not json.loads and path.suffix == ".json":
        return f"lomix show {_quoted(path)}   # if it is a mixture; recipes and search spaces are TOML"
    if parse is json.loads:
        return f"python -m json.tool {_quoted(path)}   # shows the line"
    return 'name = "lung"   # one key a line, text in quotes; a table begins with [table]'


def _what_is(path: Path) -> str:
    return f"file {_quoted(path)}   # what it is"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _too_deep(content: object) -> bool:
    """Tell whether values are nested too deep for functions that call themselves for each level."""
    level = [content]
    for _ in range(DEPTH):
        held = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for some in held for inner in some]
    return bool(level)


def write_text(path: Path, text: str) -> None:
    """Write a text file as ``write_bytes`` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that after a crash there is either the old or the new one, and never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as cause:
        cause.filename = str(path)  # not that of a file which nobody named
        raise
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


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a file to write that takes its name when all went well, and vanishes when not.

    Args:
        path: Its name in the end; its folder is made when missing.

    Yields:
        Where to write, in a folder of its own beside it, with the same name.

    Raises:
        OSError: it cannot be written; ``filename`` is the path.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
        yield temporary / path.name
        with (temporary / path.name).open("rb") as file:
            os.fsync(file.fileno())
        (temporary / path.name).chmod(0o644)
        (temporary / path.name).replace(path)
    except OSError as cause:
        cause.filename = str(path)  # a full disk names no file by itself
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
