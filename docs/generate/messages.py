"""Every message that the library raises on purpose, read off the source: what it says, why, and what to type."""

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lomix_search
from generate.docstrings import section

PACKAGE = Path(lomix_search.__file__).parent


@dataclass(frozen=True)
class Message:
    """One place that makes an error.

    Args:
        kind: Its class.
        module: Where, dotted below ``lomix_search``.
        text: The first line; ``⟨name⟩`` stands for what is filled in.
        cause: What the docstring of the function says of it, as Markdown; often empty.
        cure: Lines to type; empty where the first line says it.
    """

    kind: str
    module: str
    text: str
    cause: str
    cure: tuple[str, ...]


def kinds() -> dict[str, str]:
    """Return the classes of errors, those of other modules too, with what each is."""
    return {name: " ".join(told.split()) for name, (_, told) in sorted(_classes().items())}


@functools.cache
def _classes() -> dict[str, tuple[str, str]]:
    """Return module and docstring of each class of errors, by its name; of the source, whatever was imported."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    nodes = [(path, one) for path, tree in trees.items() for one in tree.body if isinstance(one, ast.ClassDef)]
    found: dict[str, tuple[str, str]] = {}
    known, before = {"LomixError"}, 0
    while len(known) > before:
        before = len(known)
        for path, one in nodes:
            if known & {base.id for base in one.bases if isinstance(base, ast.Name)} and not one.name.startswith("_"):
                known.add(one.name)
                found[one.name] = (_module(path), ast.get_docstring(one) or "")
    return found


def _module(path: Path) -> str:
    """Return the dotted name of a file below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def all_messages() -> list[Message]:
    """Read the package."""
    wanted = set(kinds())
    found = [one for path in sorted(PACKAGE.rglob("*.py")) for one in _messages_of(path, wanted)]
    return list(dict.fromkeys(found))


def pages() -> dict[str, str]:
    """Return a page for each kind of error, by its name."""
    by_kind: dict[str, list[Message]] = defaultdict(list)
    for one in all_messages():
        by_kind[one.kind].append(one)
    return {kind: _page(kind, told, by_kind[kind]) for kind, told in kinds().items()}


def _page(kind: str, told: str, messages: list[Message]) -> str:
    lines = [
        f"# {kind}\n",
        f"{told.replace('``', '`')}\n",
        f"`lomix_search.{_classes()[kind][0]}.{kind}`, {len(messages)} message{'s' * (len(messages) != 1)}.\n",
    ]
    rooms: dict[str, list[Message]] = defaultdict(list)
    for one in messages:
        rooms[one.module.rpartition(".")[0] or one.module].append(one)
    for room, inside in rooms.items():
        lines += [f"## From {room.replace('.', ' · ')}\n", *(_entry(one) for one in inside)]
    return "\n".join(lines)


def _entry(message: Message) -> str:
    cause = f"**Cause** {message.cause}" if message.cause else ""
    body = "\n\n".join(part for part in (cause, _cure(message)) if part) or "The line itself says what is needed."
    indented = body.replace("\n", "\n  ")
    return f"{_shown(message.text)}\n: {indented}\n"


def _shown(text: str) -> str:
    """Return a message as code, whatever marks it holds."""
    text = " ".join(text.split())
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _cure(message: Message) -> str:
    lines = "\n".join(line for text in message.cure for line in text.splitlines())
    return f"**Try**\n\n```text\n{lines}\n```" if lines else ""


def _messages_of(path: Path, wanted: set[str]) -> Iterator[Message]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = _module(path)
    for function, node in _calls(tree, None):
        kind = node.func.id if isinstance(node.func, ast.Name) else ""
        if kind not in wanted or not node.args:
            continue
        told = section(ast.get_docstring(function) or "", "Raises").get(kind, "") if function else ""
        told = "" if told.startswith("as ") or told in ("always.", "they do not.", "they do not fit.") else told
        hints = [one.value for one in node.keywords if one.arg == "hint"]
        named = _public_texts() | _constants(tree) | _named_texts(function)
        cure = tuple(text for hint in hints for text in _texts(named.get(getattr(hint, "id", ""), hint)))
        yield Message(
            kind, module, next(_texts(node.args[0]), "(every fault of a file or a call, one a line)"), told, cure
        )


def _calls(node: ast.AST, function: ast.FunctionDef | None) -> Iterator[tuple[ast.FunctionDef | None, ast.Call]]:
    """Walk through a module and yield each call with the function that it stands in."""
    for child in ast.iter_child_nodes(node):
        inside = child if isinstance(child, ast.FunctionDef) else function
        if isinstance(child, ast.Call):
            yield inside, child
        yield from _calls(child, inside)


def _constants(tree: ast.Module) -> dict[str, ast.AST]:
    """Return the texts that a module gives names to, outside its functions."""
    named = [one for one in tree.body if isinstance(one, ast.Assign) and len(one.targets) == 1]
    return {one.targets[0].id: one.value for one in named if isinstance(one.targets[0], ast.Name)}


@functools.cache
def _public_texts() -> dict[str, ast.AST]:
    """Return those of all modules that others may import."""
    found = [_constants(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))]
    return {name: value for each in found for name, value in each.items() if not name.startswith("_")}


def _named_texts(function: ast.FunctionDef | None) -> dict[str, ast.AST]:
    """Return what a function's names stand for, where it says so once: ``hint = "…"``."""
    nodes = ast.walk(function) if function else ()
    named = [one for one in nodes if isinstance(one, ast.Assign) and len(one.targets) == 1]
    found = {one.targets[0].id: one.value for one in named if isinstance(one.targets[0], ast.Name)}
    for one in named:
        if isinstance(one.targets[0], ast.Tuple) and isinstance(one.value, ast.Tuple):
            pairs = zip(one.targets[0].elts, one.value.elts, strict=False)
            found |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
    return found


def _texts(node: ast.AST) -> Iterator[str]:
    """Yield the texts that an expression may be: that of a string, those of a list, both of a choice."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(_part(one) for one in node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = next(_texts(node.left), "…"), next(_texts(node.right), "…")
        yield left + right
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.List | ast.Tuple):
        for one in node.elts:
            yield from _texts(one)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join" and node.args:
        yield "\n".join(_texts(node.args[0]))


def _part(node: ast.AST) -> str:
    """Return a part of an f-string: its text, or a word for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    while isinstance(inner, ast.Attribute | ast.Subscript | ast.Call):
        if isinstance(inner, ast.Attribute):
            return f"⟨{inner.attr.strip('_')}⟩"
        inner = inner.value if isinstance(inner, ast.Subscript) else (inner.args or [inner.func])[0]
    return f"⟨{inner.id.strip('_')}⟩" if isinstance(inner, ast.Name) else "⟨…⟩"
