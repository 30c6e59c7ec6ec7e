"""Every command of ``lomix``, read off the application that runs them."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from lomix_search.cli import app


def all_commands() -> dict[str, Any]:
    """Return each command by what is typed, ``lomix tune best``."""
    return dict(_within("lomix", typer.main.get_command(app)))


def page() -> str:
    """Return the commands as Markdown."""
    return "\n".join(_shown(name, command) for name, command in all_commands().items())


def _within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inside = getattr(command, "commands", None)
    if not inside or getattr(command, "invoke_without_command", False):
        yield name, command
    for word, one in (inside or {}).items():
        if not one.hidden:
            yield from _within(f"{name} {word}", one)


def _shown(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    context = command.context_class(command, info_name=name)
    options = [record for one in command.params if one not in arguments and (record := one.get_help_record(context))]
    usage = " ".join([name, *(_usage(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {name}\n", _plain(command.help or ""), f"\n```\n{usage}\n```\n"]
    lines += [f"`{_word(one)}`\n: {_plain(one.help or '') or '–'}\n" for one in arguments]
    lines += [f"`{flags}`\n: {_plain(told) or '–'}\n" for flags, told in options]
    return "\n".join(lines)


def _word(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[]").removesuffix("...")


def _usage(argument: Any) -> str:
    word = _word(argument) + ("…" if argument.nargs == -1 and "…" not in _word(argument) else "")
    return word if argument.required else f"[{word}]"


def _plain(text: str) -> str:
    """Return a help text as Markdown: rich's marks gone, ``[default: x]`` in round brackets."""
    text = re.sub(r"\s*\[default: ([^\]]*)\]", r" (default: \1)", " ".join(text.split()))
    text = re.sub(r"\[/?(?:bold|italic|dim|red|green|yellow|cyan)\]", "", text)
    return text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")
