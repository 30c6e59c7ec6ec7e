"""Write the table of docs/zoo.md: of every published network what was found, and what training with heads costs.

PYTHONPATH=.:tests python benchmarks/stage_lists.py --install published
PYTHONPATH=.:tests python benchmarks/zoo_table.py [NAME …]

Each network runs in a process of its own. With names, only their rows are written anew. Each row is written when it is
there, so what is stopped goes on with the names that are left.
"""

import pathlib
import re
import sys

import torch
from published.apart import apart
from published.judge import Verdict, judge
from published.networks import ZOO

PAGE = pathlib.Path("docs/zoo.md")
HEAD = """
| network | back end | stages found, coarse to fine | right | same | trains | step |
|---|---|---|---|---|---|---|
"""
COUNTS = re.compile(r"^\d+ of \d+ ladders exactly right; .*$", re.MULTILINE)


def row(entry: dict, verdict: Verdict) -> str:
    found = ", ".join(f"`{name}`" for name in verdict.found) or verdict.refused
    right = "—" if "nonU" in entry["tags"] else "yes" if verdict.right else "**no**"
    trains = {True: "yes", False: "not run", None: "—"}[verdict.trains]
    cost = f"{verdict.cost:.2f} ×" if verdict.cost == verdict.cost else "—"
    same = "yes" if verdict.same else "**no**"
    return f"| {entry['id']} | {verdict.backend or '—'} | {found} | {right} | {same} | {trains} | {cost} |"


def written(rows: dict[str, str]) -> str:
    """Put these rows into the page, count all of them, and return the counts."""
    text, _, below = PAGE.read_text().partition(HEAD)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in below.splitlines()} | rows
    shown = [rows[entry["id"]] for entry in ZOO if entry["id"] in rows]
    cells = [[cell.strip() for cell in line.split("|")] for line in shown]
    right, ladders = sum(c[4] == "yes" for c in cells), sum(c[4] != "—" for c in cells)
    same = sum(c[5] == "yes" for c in cells)
    counts = f"{right} of {ladders} ladders exactly right; eval output the same in {same} of {len(shown)} networks."
    PAGE.write_text(COUNTS.sub(counts, text) + HEAD + "\n".join(shown) + "\n")
    return counts


def main() -> None:
    torch.set_num_threads(1)
    counts = ""
    for entry in ZOO:
        if sys.argv[1:] and not any(name in entry["id"] for name in sys.argv[1:]):
            continue
        verdict = apart(judge, entry, 600)
        if isinstance(verdict, str):  # a package that is not installed must not hide the others
            verdict = Verdict(refused=f"not run: {verdict.splitlines()[0][:100]}")
        line = row(entry, verdict)
        print(line, flush=True)
        counts = written({entry["id"]: line})
    print(counts)


if __name__ == "__main__":
    main()
