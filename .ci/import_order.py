"""Checks that imports inside lomix_search point only back up the data-flow order of import_order.txt."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "lomix_search"


def main() -> int:
    lines = (ROOT / ".ci" / "import_order.txt").read_text().splitlines()
    order = {name: i for i, name in enumerate(line for line in lines if line and not line.startswith("#"))}
    faults = [fault for path in sorted((ROOT / PACKAGE).rglob("*.py")) for fault in check(path, order)]
    print("\n".join(faults))
    return bool(faults)


def check(path: Path, order: dict[str, int]) -> list[str]:
    where = path.relative_to(ROOT / PACKAGE)
    own = where.parts[0].removesuffix(".py")
    if own not in order:
        return [f"{where}: {own} has no line in .ci/import_order.txt"]
    return [
        f"{where}:{line}: imports {name}, which stands below {own} in .ci/import_order.txt"
        for name, line in imported(ast.parse(path.read_text()))
        if name != own and order.get(name, len(order)) > order[own] and name != "__init__"
    ]


def imported(tree: ast.Module) -> list[tuple[str, int]]:
    """Return (top module inside the package, line) of each import, those inside functions too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            found += [("__init__" if name.startswith("__") else name, node.lineno) for name in names]
        elif isinstance(node, ast.Import):
            found += [(a.name.split(".")[1], node.lineno) for a in node.names if a.name.startswith(f"{PACKAGE}.")]
    return found


if __name__ == "__main__":
    sys.exit(main())
