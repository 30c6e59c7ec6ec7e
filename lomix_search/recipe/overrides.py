"""What users write on a command line: dotted keys, ``key=value`` and lists, split where TOML would split them."""

import itertools
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from lomix_search.utils.toml import to_toml_value

_QUOTED = r""" "(?:[^"\\]|\\.)*" | '[^']*' """
_BARE = re.compile(r"[^\s\"'=\[\]{}#,.]+")  # more than TOML's bare keys: a module may be called ändern
_OPENING = {"[": "]", "(": ")", "{": "}"}


def split_key(key: str) -> tuple[str, ...]:
    """Split a dotted key as TOML does: ``data.names."a.b"`` has three parts.

    Args:
        key: The key.

    Returns:
        Its parts.

    Raises:
        ValueError: a part is missing, or is neither a bare word nor quoted.
    """
    parts, rest = [], key.strip()
    while True:
        found = re.match(rf"(?:{_QUOTED.strip()} | {_BARE.pattern})", rest, re.VERBOSE | re.DOTALL)
        if found is None:
            raise ValueError(f"{key!r} is no key; words with dots between them are, such as optimizer.lr.")
        parts.append(_unquoted(found[0]))
        rest = rest[found.end() :].lstrip()
        if not rest:
            return tuple(parts)
        if not rest.startswith("."):
            raise ValueError(f'{key!r} is no key; quote what is no plain word: data.names."a b".')
        rest = rest[1:].lstrip()


def join_key(path: Iterable[str]) -> str:
    """Join the parts of a key so that ``split_key`` takes them apart again."""
    return ".".join(part if _BARE.fullmatch(part) else to_toml_value(part) for part in path)


def split_setting(text: str) -> tuple[str, str]:
    """Split ``key=value`` at the first = outside quotes.

    Args:
        text: The setting.

    Returns:
        Key and value, without the blanks around them.

    Raises:
        ValueError: there is no = or no key.
    """
    key = re.match(rf"(?:{_QUOTED} | [^\"'=])*", text, re.VERBOSE | re.DOTALL)
    assert key is not None
    if not key[0].strip() or text[key.end() : key.end() + 1] != "=":
        raise ValueError("must read key=value, e.g. optimizer.lr=3e-4.")
    return key[0].strip(), text[key.end() + 1 :].strip()


def toml_or_text(value: str) -> Any:
    """Read a value as TOML (``3e-4``, ``true``, ``[1, 2]``), or take it as plain text.

    Args:
        value: What stands after the =. It counts as TOML if all of it is one value.

    Returns:
        The value.

    Raises:
        ValueError: lists are nested deeper than can be read.
    """
    try:
        read = tomllib.loads(f"value = [{value}]")["value"]  # within brackets, a comment or a second line is not TOML
        alone = tomllib.loads(f"value = {value}")["value"]  # "1, 2" and "1," are no single value
    except RecursionError:
        raise ValueError("its value is nested too deep.") from None
    except ValueError:  # not TOML, or a number of thousands of digits, which Python refuses
        return value
    return alone if len(read) == 1 else value


def split_list(text: str) -> list[str]:
    """Split a list of settings at its commas, but not within quotes or brackets.

    Args:
        text: Such as ``uniform,lookahead(rate=20,finest=0.3)``.

    Returns:
        The entries without the blanks around them, quotes and all; [] for an empty text.

    Raises:
        ValueError: an entry is empty, or a bracket or quote is left open or closed twice.
    """
    return _entries(text, brackets=True)


def names_of(text: str) -> list[str]:
    """Split a list of names at its commas; a name with a comma in it stands in quotes: ``liver,"lung, left"``.

    Args:
        text: The list.

    Returns:
        The names; [] for an empty text.

    Raises:
        ValueError: a name is empty, or a quote is left open.
    """
    return [_unquoted(entry) for entry in _entries(text, brackets=False)]


def _entries(text: str, brackets: bool) -> list[str]:
    """Cut at commas. Quotes count only where a value may begin, so that Crohn's is a name."""
    if not text.strip(" ,"):
        return []
    waiting, cuts, at = list[str](), [-1], 0
    while at < len(text):
        letter, begins = text[at], text[:at].rstrip()[-1:] in ("", *",=[({")
        if letter in "\"'" and begins:
            found = re.match(_QUOTED, text[at:], re.VERBOSE | re.DOTALL)
            if found is None:
                raise ValueError(f"{text!r} has a quote that is not closed.")
            at += found.end()
            continue
        if brackets and letter in _OPENING:
            waiting.append(_OPENING[letter])
        elif brackets and letter in _OPENING.values() and (not waiting or waiting.pop() != letter):
            raise ValueError(f"{text!r} has a {letter} that closes nothing.")
        elif letter == "," and not waiting:
            cuts.append(at)
        at += 1
    if waiting:
        raise ValueError(f"{text!r} has a bracket that is not closed: {waiting[-1]} is missing.")
    entries = [text[start + 1 : stop].strip() for start, stop in itertools.pairwise([*cuts, len(text)])]
    if not all(entries):
        raise ValueError(f"{text!r} has an empty entry between its commas.")
    return entries


def _unquoted(text: str) -> str:
    if text[:1] not in ("'", '"'):
        return text
    try:
        return str(tomllib.loads(f"value = {text}")["value"])
    except ValueError:
        raise ValueError(f"{text} is no quoted text.") from None
