#!/usr/bin/env python3
"""Put today's diffs between the scripts of this folder into docs/in-your-framework.md.

    python docs/frameworks/diffs.py            # says whether the page shows them
    python docs/frameworks/diffs.py --write    # writes them

In the page, a line ``<!-- diff BEFORE.py AFTER.py -->`` stands above each block.
"""

import difflib
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "in-your-framework.md"
BLOCK = re.compile(r"(<!-- diff (\S+) (\S+) -->\n)```diff\n.*?```\n", re.DOTALL)


def diff(before: str, after: str) -> str:
    """Return what turns one script into another, with two lines round each change."""
    lines = [(HERE / name).read_text().splitlines() for name in (before, after)]
    return "\n".join(difflib.unified_diff(*lines, before, after, n=2, lineterm=""))


def main(*arguments: str) -> int:
    """Check the page, or write it; return 1 where it shows other diffs than today's."""
    page = PAGE.read_text()
    today = BLOCK.sub(lambda found: f"{found[1]}```diff\n{diff(found[2], found[3])}\n```\n", page)
    if "--write" in arguments:
        PAGE.write_text(today)
    elif today != page:
        print(f"{PAGE.name} shows other diffs than those of today: python docs/frameworks/diffs.py --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
