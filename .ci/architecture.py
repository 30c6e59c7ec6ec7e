"""Checks that the house stays as CONTRIBUTING.md draws it; ``--draw`` draws it anew from the imports.

What is checked: packages import only from those above them in architecture.txt, no modules import one another in a
circle, the root and each module stay short, no two public things share a name, each test file lies where its module
does and imports no other, the walks lead down, and the drawing is the one that today's imports give.
"""

import ast
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lomix_search"
ORDER = ROOT / ".ci" / "architecture.txt"
PAGE = ROOT / "CONTRIBUTING.md"
DRAWING = re.compile(r"(<!-- python \.ci/architecture\.py --draw -->\n).*?(<!-- end of the drawing -->)", re.DOTALL)

ENTRIES, LONGEST, MEDIAN = 13, 400, 160  # the twelve rooms and files, and the plug-ins
ONE_INTERFACE = ("mixture.loss.backends", "data.kinds")
"""Packages whose modules answer to the same names, because whoever calls them picks one of them."""


def main(*arguments: str) -> int:
    files = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    imports = read_imports(files)
    if "--draw" in arguments:
        PAGE.write_text(drawn(imports))
        return 0
    checks = [
        out_of_order(imports),
        circles(imports),
        sizes(files),
        names(files),
        places_of_tests(files),
        walks(),
        named_files(),
    ]
    faults = [fault for found in checks for fault in found]
    if not faults and PAGE.read_text() != drawn(imports):  # packages in a circle cannot be drawn
        faults.append("CONTRIBUTING.md: the drawing is not today's; type: python .ci/architecture.py --draw")
    print(*faults, sep="\n", end="\n" if faults else "")
    return bool(faults)


def rooms() -> list[list[str]]:
    """Return the packages, line by line."""
    return [line.split() for line in ORDER.read_text().splitlines() if line and not line.startswith("#")]


def room_of(module: str) -> str:
    """Return the package that a module lies in: ``mixture`` for ``mixture.loss.plan``."""
    return module.split(".")[0]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def read_imports(files: dict[str, Path]) -> nx.DiGraph:
    """Return which module imports which, those inside functions too, each edge with a line it stands on."""
    graph = nx.DiGraph()
    graph.add_nodes_from(files)
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            for imported in imported_by(node, files):
                if imported != module:
                    graph.add_edge(module, imported, at=f"{path.relative_to(ROOT)}:{node.lineno}")
    return graph


def imported_by(node: ast.AST, files: dict[str, Path]) -> list[str]:
    """Return the modules of the package that one import statement names."""
    if isinstance(node, ast.Import):
        return [a.name.removeprefix("lomix_search.") for a in node.names if a.name.startswith("lomix_search.")]
    if not isinstance(node, ast.ImportFrom) or not f"{node.module}.".startswith("lomix_search."):
        return []
    base = (node.module or "").removeprefix("lomix_search").removeprefix(".")
    found = [f"{base}.{alias.name}".strip(".") for alias in node.names]
    return [name if name in files else base or "__init__" for name in found]


def out_of_order(imports: nx.DiGraph) -> Iterator[str]:
    order = {room: line for line, row in enumerate(rooms()) for room in row}
    for room in sorted({room_of(module) for module in imports} - set(order)):
        yield f"{room} has no line in {ORDER.name}"
    for module, imported, at in imports.edges(data="at"):
        own, other = room_of(module), room_of(imported)
        if own != other and own in order and other in order and order[other] >= order[own]:
            yield f"{at}: {own} imports {other}, which does not stand above it in {ORDER.name}"


def circles(imports: nx.DiGraph) -> Iterator[str]:
    for circle in nx.strongly_connected_components(imports):
        if len(circle) > 1:
            yield f"these modules import one another: {', '.join(sorted(circle))}"


def sizes(files: dict[str, Path]) -> Iterator[str]:
    entries = [path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "_shelf")]
    if len(entries) > ENTRIES:
        yield f"lomix_search has {len(entries)} entries; at most {ENTRIES} can be taken in at a glance"
    lines = {module: len(path.read_text().splitlines()) for module, path in files.items()}
    for module, count in lines.items():
        if count > LONGEST:
            yield f"{module} has {count} lines; at most {LONGEST}: cut it where its data change form"
    median = statistics.median(lines.values())
    if median > MEDIAN:
        yield f"the median module has {median:.0f} lines; at most {MEDIAN}"


def names(files: dict[str, Path]) -> Iterator[str]:
    """Find public functions, classes and constants of one name in two modules."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in files.items():
        for node in ast.parse(path.read_text()).body:
            for name in defined_by(node):
                if not name.startswith("_"):
                    found[name].add(module)
    for name, modules in found.items():
        if len(modules) > 1 and not any(all(m.startswith(package) for m in modules) for package in ONE_INTERFACE):
            yield f"{name} is in {' and in '.join(sorted(modules))}: one word, one meaning"


def defined_by(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def places_of_tests(files: dict[str, Path]) -> Iterator[str]:
    """``tests/data/test_split_files.py`` tests ``data.split``: its name begins with that of a module of its package."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        where, subject = path.relative_to(ROOT / "tests").parts[0], f"{path.stem.removeprefix('test_')}_"
        known = {part for module in files if room_of(module) == where for part in module.split(".")[1:]}
        if known and path.name != "conftest.py" and not any(subject.startswith(f"{name}_") for name in known):
            yield f"{path.relative_to(ROOT)}: begins with the name of no module of lomix_search/{where}"
        if re.search(r"^\s*(from|import) (\w+\.)*test_", path.read_text(), re.MULTILINE):
            yield f"{path.relative_to(ROOT)}: imports another test; what both need belongs in tests/support"


def walks() -> Iterator[str]:
    """Follow the numbered walks of CONTRIBUTING.md: their modules exist, and none leads back to a package above."""
    order = {room: line for line, row in enumerate(rooms()) for room in row}
    before = ("", "")
    for number, path in re.findall(r"^(\d+)\. `([\w/]+\.py)`:", PAGE.read_text(), re.MULTILINE):
        room = path.split("/")[0]
        if not (PACKAGE / path).is_file():
            yield f"CONTRIBUTING.md: there is no lomix_search/{path}"
        elif number != "1" and order[room] < order[before[0]]:
            yield f"CONTRIBUTING.md: {path} lies above {before[1]}, so the walk leads back up"
        before = (room, path)


def named_files() -> Iterator[str]:
    """Look for the modules and tests that the pages name, such as ``data/split.py`` or ``data/test_split.py``."""
    for page in [PAGE, ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for name in sorted(set(re.findall(r"`((?:\w+/)+\w+\.py)\b", page.read_text()))):
            if not any((folder / name).is_file() for folder in (ROOT, PACKAGE, ROOT / "tests", ROOT / "recipes")):
                yield f"{page.relative_to(ROOT)}: names {name}, which is nowhere"


def drawn(imports: nx.DiGraph) -> str:
    """Return CONTRIBUTING.md with the drawing that the imports give."""
    return DRAWING.sub(lambda found: found[1] + mermaid(imports) + found[2], PAGE.read_text())


def mermaid(imports: nx.DiGraph) -> str:
    """Draw the packages, with an arrow to each from those it imports, unless a longer way of arrows says so already."""
    order = [room for row in rooms() for room in row if "__" not in room]
    edges = {(room_of(imported), room_of(module)) for module, imported in imports.edges}
    graph = nx.transitive_reduction(nx.DiGraph([(a, b) for a, b in edges if a != b and {a, b} <= set(order)]))
    lines = [f'  {room}["<b>{room}</b>{label(imports, room)}"]' for room in order]
    arrows = [f"  {a} --> {b}" for a, b in sorted(graph.edges, key=lambda edge: [*map(order.index, edge)])]
    return "\n".join(["```mermaid", "flowchart TD", *lines, *arrows, "```"]) + "\n"


def label(imports: nx.DiGraph, room: str) -> str:
    """Name what a package holds, five names a line: its packages first, with a stroke, then its modules."""
    inside = [module.split(".")[1:] for module in imports if module.startswith(f"{room}.")]
    packages = {parts[0] for parts in inside if len(parts) > 1}
    held = sorted(f"{name}/" for name in packages) + sorted({parts[0] for parts in inside} - packages)
    return "".join(f"<br/>{' · '.join(held[i : i + 5])}" for i in range(0, len(held), 5))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
