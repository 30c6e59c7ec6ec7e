"""Pieces of HTML that the pages are built of: text, numbers, tables, tiles."""

import base64
import hashlib
import html
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any


def text(value: object) -> str:
    """Escape a value for HTML, also inside quotes."""
    return html.escape(str(value))


def number(value: float | str | None, digits: int = 3) -> str:
    """Write a number; – for one that is missing, NaN, infinite or none at all."""
    if not isinstance(value, float | int) or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Write a time in the two units that say most: ``3 min 12 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def json_script(value: Any) -> str:
    """Write JSON for a script element; nothing in it can end the element."""
    packed = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f'<script type="application/json">{packed.replace("<", chr(92) + "u003c")}</script>'


def section(key: str, title: str, body: str, lead: str = "") -> str:
    """Return a section with a heading and an anchor; nothing where the body is empty."""
    if not body:
        return ""
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{key}"><h2>{text(title)}</h2>{lead}{body}</section>'


def tile(label: str, value: str, note: str = "") -> str:
    """Return one figure with its name; all three are HTML."""
    note = f"<small>{note}</small>" if note else ""
    return f'<div class="tile"><dt>{label}</dt><dd>{value}{note}</dd></div>'


def tiles(found: Iterable[str]) -> str:
    """Return a row of tiles."""
    return f'<dl class="tiles">{"".join(found)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "", caption: str = "") -> str:
    """Return a table that scrolls inside itself where it is too wide.

    Args:
        head: Titles of the columns, HTML.
        rows: Cells, HTML; a cell that starts with ``<td`` or ``<th`` is taken as it is, the first of a row is its name.
        kind: CSS class.
        caption: What it shows, HTML; also its name for screen readers.
    """
    body = "".join(f"<tr>{''.join(_cell(cell, i == 0) for i, cell in enumerate(row))}</tr>" for row in rows)
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    name = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="{kind}">{name}'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bar(share: float, colour: str = "var(--accent)") -> str:
    """Return a bar of a length in 0 … 1."""
    width = 100 * min(1.0, max(0.0, share if math.isfinite(share) else 0.0))
    return f'<span class="bar"><i style="width:{width:.1f}%;background:{colour}"></i></span>'


def lean(share: float, colour: str = "var(--accent)") -> str:
    """Return a bar from the middle: to the right for 0 … 1, to the left for -1 … 0."""
    width = 50 * min(1.0, abs(share)) if math.isfinite(share) else 0.0
    left = 50 if share >= 0 else 50 - width
    return f'<span class="lean"><i style="left:{left:.1f}%;width:{width:.1f}%;background:{colour}"></i></span>'


def command(*words: object) -> str:
    """Return a command as a shell reads it, names quoted where they need it, HTML."""
    return f"<code>{text(shlex.join(map(str, words)))}</code>"


def facts(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """Return names and values, HTML, one a line."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return f'<dl class="facts">{"".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in items)}</dl>'


def page(title: str, header: str, sections: Mapping[str, tuple[str, str]], footer: str) -> str:
    """Put a whole page together.

    Args:
        title: Of the document, plain text.
        header: What stands above all sections, HTML.
        sections: By anchor: name in the menu, plain text, and content, HTML; empty ones are left out.
        footer: The last words, HTML.

    Returns:
        The document. It loads nothing: style, script and pictures are in it.
    """
    shown = {key: pair for key, pair in sections.items() if pair[1]}
    menu = "".join(f'<a href="#{key}">{text(name)}</a>' for key, (name, _) in shown.items())
    here = files("lomix_search.experiments.report")
    style, script = (f"\n{here.joinpath(name).read_text(encoding='utf-8')}" for name in ("page.css", "page.js"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n'
        f'<nav aria-label="sections"><div>{menu}</div><button type="button" id="theme" '
        'aria-label="light or dark">◐</button></nav>\n'
        f"<main>\n<header>{header}</header>\n{''.join(content for _, content in shown.values())}\n</main>\n"
        f"<footer>{footer}</footer>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _policy(script: str) -> str:
    """Let the browser run this one script and load nothing: what a page shows comes from files of other people."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _cell(cell: str, first: bool) -> str:
    if cell.startswith(("<td", "<th")):
        return cell
    return f'<th scope="row">{cell}</th>' if first else f"<td>{cell}</td>"
