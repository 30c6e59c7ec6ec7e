"""What docstrings say: the sections of Google's form, as Markdown."""

import inspect
import re


def section(thing: object, head: str) -> dict[str, str]:
    """Read one section of a docstring.

    Args:
        thing: What has the docstring, or the docstring itself.
        head: ``"Args"`` or ``"Raises"``.

    Returns:
        What it says of each name, as one line of Markdown.
    """
    thing = getattr(thing, "func", thing)  # of a partial
    text = thing if isinstance(thing, str) else thing.__doc__ or ""
    found = re.search(rf"^{head}:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(text), re.DOTALL | re.MULTILINE)
    if found is None:
        return {}
    pairs = (entry.partition(":") for entry in _entries(found[1]))
    return {name.strip(): markdown(words) for name, _, words in pairs}


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring as Markdown."""
    return markdown(inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0])


def markdown(text: str) -> str:
    """Turn what docstrings hold of reStructuredText into Markdown, on one line."""
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    return " ".join(text.replace("``", "`").split())


def _entries(block: str) -> list[str]:
    """Cut a section into its entries: lines that stand farther in belong to the one before."""
    lines = inspect.cleandoc("\n" + block).splitlines()
    entries: list[str] = []
    for line in lines:
        if line.startswith(" ") and entries:
            entries[-1] += f" {line.strip()}"
        elif line.strip():
            entries.append(line)
    return entries
