#!/usr/bin/env python3
"""Follow every local link of a folder of HTML pages: files that are linked exist, and so do places within pages.

python .ci/links.py build/site
"""

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

UNSEEN = {"genindex.html", "search.html"}  # made by Sphinx; their links are made by a script


class Page(HTMLParser):
    """The links of a page and the places that others may link to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        self.links |= {found[name] for name in ("href", "src") if name in found}


@cache
def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.html")):
        if path.name in UNSEEN:
            continue
        for link in sorted(read(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if not target.exists():
                yield f"{path.relative_to(folder)}: {link} is not there"
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in read(target).places:
                yield f"{path.relative_to(folder)}: {link} has no such place"


def main(folder: str) -> int:
    pages = list(Path(folder).rglob("*.html"))
    faults = list(broken(Path(folder).resolve()))
    print(*faults, f"{len(pages)} pages, {sum(len(read(p.resolve()).links) for p in pages)} links", sep="\n")
    return 1 if faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
