"""Checks that imports inside lomix_search point only up the packages of import_order.txt, never in a circle."""

import ast
import sys
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lomix_search"
ORDER = ROOT / ".ci" / "import_order.txt"


def main() -> int:
    imports = read_imports()
    faults = [*out_of_order(imports), *circles(imports)]
    print("\n".join(faults))
    return bool(faults)


def rooms() -> dict[str, int]:
    """Return each package's line in the order."""
    lines = [line.split() for line in ORDER.read_text().splitlines() if line and not line.startswith("#")]
    return {room: line for line, names in enumerate(lines) for room in names}


def room_of(module: str) -> str:
    """Return the package that a module lies in: ``mixture`` for ``mixture.loss.plan``."""
    return module.split(".")[0]


def read_imports() -> nx.DiGraph:
    """Return which module imports which, those inside functions too, each edge with a line it stands on."""
    files = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    graph = nx.DiGraph()
    graph.add_nodes_from(files)
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            for imported in imported_by(node, files):
                if imported != module:
                    graph.add_edge(module, imported, line=node.lineno, file=path.relative_to(ROOT))
    return graph


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imported_by(node: ast.AST, files: dict[str, Path]) -> list[str]:
    """Return the modules of the package that one import statement names."""
    if isinstance(node, ast.Import):
        return [a.name.removeprefix("lomix_search.") for a in node.names if a.name.startswith("lomix_search.")]
    if not isinstance(node, ast.ImportFrom) or not f"{node.module}.".startswith("lomix_search."):
        return []
    base = (node.module or "").removeprefix("lomix_search").removeprefix(".")
    names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
    return [name if name in files else base or "__init__" for name in names]


def out_of_order(imports: nx.DiGraph) -> list[str]:
    order = rooms()
    faults = [f"{room} has no line in {ORDER.name}" for room in sorted({room_of(m) for m in imports} - set(order))]
    for module, imported, at in imports.edges(data=True):
        own, other = room_of(module), room_of(imported)
        if own in order and other in order and own != other != "__init__" and order[other] >= order[own]:
            faults.append(
                f"{at['file']}:{at['line']}: {own} imports {other}, which does not stand above it in {ORDER.name}"
            )
    return faults


def circles(imports: nx.DiGraph) -> list[str]:
    circle = [sorted(part) for part in nx.strongly_connected_components(imports) if len(part) > 1]
    return ["modules that import one another: " + ", ".join(part) for part in circle]


if __name__ == "__main__":
    sys.exit(main())
