"""The search space: which maps to supervise, as a networkx graph that stages, operators and maps share."""

import fnmatch
import itertools
import math
import runpy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import networkx as nx
from pydantic import Field, field_validator

from lomix_search.errors import SpaceError, nearest
from lomix_search.operators import OPERATORS, find_operator
from lomix_search.shelf import shelved
from lomix_search.typed import Frozen, read_toml, to_toml, validate, write_text

Scale = Annotated[int, Field(ge=1, le=16)]
Size = Annotated[int, Field(ge=2, le=16)]


@dataclass(frozen=True)
class Map:
    """One supervised map: an original (one scale) or a mutant (an operator applied to several).

    Args:
        operator: Name of the operator; ``"original"`` for the logits of one stage.
        scales: Stages it is made of, 1 the coarsest, ascending.
        parameters: Name of the learned module it uses, shared by all maps that give the same name; None if it has none.
    """

    operator: str
    scales: tuple[int, ...]
    parameters: str | None = None

    @property
    def id(self) -> str:
        """The stable name: ``P4`` for an original, ``add(1,3)`` for a mutant."""
        if self.operator == "original":
            return f"P{self.scales[0]}"
        return f"{self.operator}({','.join(map(str, self.scales))})"


class OperatorRule(Frozen):
    """One ``[[operator]]`` table of a space file.

    Args:
        name: A registered operator.
        sizes: Subset sizes to apply it to, each at least 2; all when left out.
        per_subset: Overrides how an operator that learns shares its parameters: one set for each subset, or each size.
    """

    name: str
    sizes: tuple[Size, ...] | None = None
    per_subset: bool | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in OPERATORS:
            raise ValueError(f"unknown. {nearest(name, OPERATORS)}")
        return name

    def parameters(self, scales: tuple[int, ...]) -> str | None:
        """Name the learned module that the mutant of these scales uses."""
        operator = find_operator(self.name)
        if not operator.learned:
            return None
        own = operator.per_subset if self.per_subset is None else self.per_subset
        return f"{self.name}({','.join(map(str, scales))})" if own else f"{self.name}[{len(scales)}]"


class SearchSpace(Frozen):
    """All maps that training may supervise, described by rules and enumerated for a number of stages when needed.

    Maps come in a stable order: originals coarse to fine, then operator by operator as listed, subsets by size and then
    by scale. Their number is ``originals + operators × (2^L − L − 1)`` when nothing restricts it.

    Args:
        name: The space's name.
        about: One line on it.
        originals: ``"all"``, ``"finest"``, ``"none"`` or a list of stages (1 the coarsest).
        operator: The rules, one for each operator.
        always_with_finest: Only subsets that hold the finest stage.
        include: Keep only maps whose id matches one of these patterns (``*`` and ``?``), e.g. ``"add(*,4)"``.
        exclude: Leave out maps whose id matches one of these.
        budget: At most so many maps; those that come later in the order are left out.
        operators_file: A Python file of ``@operator`` functions, relative to the space file; run when that is loaded.
    """

    name: str = "custom"
    about: str = ""
    originals: Literal["all", "finest", "none"] | tuple[Scale, ...] = "all"
    operator: tuple[OperatorRule, ...] = ()
    always_with_finest: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    budget: Annotated[int, Field(ge=1)] | None = None
    operators_file: str | None = None

    @field_validator("operator")
    @classmethod
    def _once(cls, rules: tuple[OperatorRule, ...]) -> tuple[OperatorRule, ...]:
        names = [rule.name for rule in rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"listed twice: {', '.join(twice)}")
        return rules

    # -- files ---------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, source: str | Path) -> "SearchSpace":
        """Load a space.

        Args:
            source: A shipped name (``"lomix"``) or the path of a TOML file.

        Returns:
            The space.

        Raises:
            SpaceError: no such space, or a malformed file; every fault is listed.
        """
        known = shelved("search_spaces")
        path = known.get(str(source), Path(source))
        if not path.exists():
            raise SpaceError(f'no search space "{source}": neither shipped nor a file. {nearest(str(source), known)}')
        content = read_toml(path, SpaceError)
        if isinstance(file := content.get("operators_file"), str):
            _register_from(path.parent / file)
        return validate(cls, content, path.name, SpaceError)

    def save(self, path: str | Path) -> None:
        """Write the space as a TOML file that ``load`` reads back to an equal value."""
        write_text(Path(path), self.to_toml())

    def to_toml(self) -> str:
        """Return the space as TOML, without what is left at its default."""
        return to_toml(self.model_dump(exclude_defaults=True))

    # -- maps ----------------------------------------------------------------------------------------------------------

    def maps(self, num_stages: int) -> Iterator[Map]:
        """Enumerate the maps lazily, in the stable order.

        Args:
            num_stages: L, the number of stages, at least 1.

        Yields:
            The maps.

        Raises:
            SpaceError: a rule names a stage or subset size that a network of L stages does not have.
        """
        self.check(num_stages)
        kept = (m for m in self._candidates(num_stages) if self._wanted(m.id))
        yield from itertools.islice(kept, self.budget)

    def count(self, num_stages: int) -> int:
        """Count the maps: in closed form, or one by one where patterns decide.

        Args:
            num_stages: L, the number of stages.

        Returns:
            The number of maps that ``maps`` yields.
        """
        if self.include or self.exclude:
            return sum(1 for _ in self.maps(num_stages))
        self.check(num_stages)
        fixed, free = (1, num_stages - 1) if self.always_with_finest else (0, num_stages)
        mutants = sum(math.comb(free, s - fixed) for rule in self.operator for s in _sizes(rule, num_stages))
        total = len(self._originals(num_stages)) + mutants
        return total if self.budget is None else min(total, self.budget)

    def keep(self, ids: Iterable[str]) -> "SearchSpace":
        """Return the same space with only these maps.

        Args:
            ids: Map ids such as ``P4`` or ``add(1,3)``.

        Returns:
            A space whose order is still the stable one.
        """
        return self.model_copy(update={"include": tuple(ids), "exclude": (), "budget": None})

    def only(self, operators: Iterable[str] | None = None, sizes: Iterable[int] | None = None) -> "SearchSpace":
        """Return the same space with only some of its operators and subset sizes.

        Args:
            operators: Names of those to keep; None keeps all.
            sizes: Subset sizes to keep; None keeps all.

        Returns:
            A space that may have originals alone.
        """
        names = None if operators is None else set(operators)
        rules = [rule for rule in self.operator if names is None or rule.name in names]
        if sizes is not None:
            kept = sorted(set(sizes))
            both = [(rule, tuple(s for s in kept if rule.sizes is None or s in rule.sizes)) for rule in rules]
            rules = [rule.model_copy(update={"sizes": left}) for rule, left in both if left]
        return self.model_copy(update={"operator": tuple(rules)})

    def check(self, num_stages: int) -> None:
        """Check that the rules fit a network.

        Args:
            num_stages: L, the number of stages.

        Raises:
            SpaceError: every rule that does not fit is named.
        """
        faults = [
            f"operator[{i}].sizes = {list(rule.sizes or ())}: this network has {num_stages} stages."
            for i, rule in enumerate(self.operator)
            if any(size > num_stages for size in rule.sizes or ())
        ]
        if not isinstance(self.originals, str) and any(scale > num_stages for scale in self.originals):
            faults.append(f"originals = {list(self.originals)}: this network has {num_stages} stages.")
        if num_stages < 1:
            faults.append("a network has at least 1 stage.")
        if faults:
            raise SpaceError("\n".join([f'space "{self.name}" does not fit.', *(f"  {fault}" for fault in faults)]))

    def _candidates(self, num_stages: int) -> Iterator[Map]:
        yield from (Map("original", (scale,)) for scale in self._originals(num_stages))
        for rule in self.operator:
            for size in _sizes(rule, num_stages):
                for scales in itertools.combinations(range(1, num_stages + 1), size):
                    if num_stages in scales or not self.always_with_finest:
                        yield Map(rule.name, scales, rule.parameters(scales))

    def _originals(self, num_stages: int) -> tuple[int, ...]:
        named = {"all": tuple(range(1, num_stages + 1)), "finest": (num_stages,), "none": ()}
        return named[self.originals] if isinstance(self.originals, str) else tuple(sorted(set(self.originals)))

    def _wanted(self, name: str) -> bool:
        included = not self.include or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.include)
        return included and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude)

    # -- graph ---------------------------------------------------------------------------------------------------------

    def graph(self, num_stages: int, num_classes: int = 2) -> nx.DiGraph:
        """Build the graph: stage nodes → operator nodes → map nodes (an original hangs on its stage directly).

        Args:
            num_stages: L, the number of stages.
            num_classes: C; parameter counts and costs depend on it.

        Returns:
            A DiGraph. Every node has ``kind`` (stage, operator or map); maps also have ``operator``, ``scales`` (text,
            so that GraphML holds it), ``arity``, ``parameters`` (number of learned values; shared ones count at each
            map that uses them) and ``cost`` (multiplications and additions per pixel to fuse it).
        """
        graph = nx.DiGraph(name=self.name, num_stages=num_stages, num_classes=num_classes)
        graph.add_nodes_from((f"stage {scale}", {"kind": "stage"}) for scale in range(1, num_stages + 1))
        graph.add_nodes_from((rule.name, {"kind": "operator"}) for rule in self.operator)
        for m in self.maps(num_stages):
            graph.add_node(m.id, kind="map", **_attributes(m, num_classes))
            stages = [f"stage {scale}" for scale in m.scales]
            if m.operator == "original":
                graph.add_edge(stages[0], m.id)
            else:
                graph.add_edges_from([*((stage, m.operator) for stage in stages), (m.operator, m.id)])
        return graph

    def __str__(self) -> str:
        """Return a tree of the rules, with the closed-form counts for 3 to 6 stages where they fit."""
        rules = [f"├─ {rule.name}{_suffix(rule)}" for rule in self.operator]
        about = f": {self.about}" if self.about else ""
        return "\n".join(
            [
                f"{self.name}{about}",
                f"├─ originals: {self.originals}",
                *rules,
                f"└─ maps: {self._counts()}",
            ]
        )

    def _counts(self) -> str:
        counts = []
        for stages in range(2, 7):
            try:
                counts.append(f"{self.count(stages)} for {stages} stages")
            except SpaceError:  # a rule that needs more stages
                continue
        return ", ".join(counts)


def _sizes(rule: OperatorRule, num_stages: int) -> list[int]:
    every = range(2, num_stages + 1)
    return list(every) if rule.sizes is None else sorted(set(rule.sizes) & set(every))


def _suffix(rule: OperatorRule) -> str:
    sizes = "" if rule.sizes is None else f" of {', '.join(map(str, rule.sizes))}"
    return sizes + (" (parameters per subset)" if rule.per_subset else "")


def _attributes(m: Map, num_classes: int) -> dict[str, Any]:
    arity = len(m.scales)
    learned = None if m.operator == "original" else find_operator(m.operator).module
    parameters = sum(p.numel() for p in learned(num_classes, arity).parameters()) if learned else 0
    return {
        "operator": m.operator,
        "scales": ",".join(map(str, m.scales)),
        "arity": arity,
        "parameters": parameters,
        "cost": parameters + (arity - 1) * num_classes,
    }


def _register_from(path: Path) -> None:
    """Run a file of operators once; a second load of the same file finds them registered already."""
    if not path.is_file():
        raise SpaceError(f"operators_file {path} does not exist.")
    if path.resolve() not in _RUN:
        runpy.run_path(str(path))
        _RUN.add(path.resolve())


_RUN: set[Path] = set()
