"""The search space: which maps to supervise, as a networkx graph that stages, operators and maps share."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from lomix_search.errors import SpaceError, nearest
from lomix_search.mixture.maps import MAX_STAGES, MOST_LISTED, Map, has_wildcard, id_filter, parse_id
from lomix_search.mixture.operator_graph import build_operator_graph
from lomix_search.mixture.operators_file import register_operators
from lomix_search.mixture.rules import OperatorRule
from lomix_search.utils.files import read_toml, write_text
from lomix_search.utils.schema import Frozen, build_typed
from lomix_search.utils.shipped import shipped_files
from lomix_search.utils.toml import to_toml

if TYPE_CHECKING:
    import networkx as nx

MAX_MAPS = 2**20
"""Maps that are enumerated, at most: a space file must not be able to take all time and memory."""

_Scale = Annotated[int, Field(ge=1, le=MAX_STAGES)]
_IDS = "[m.id for m in space.maps(4)]   # those of four stages"


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
        budget: At most this many maps; those that come later in the order are left out.
        operators_file: A Python file of ``@operator`` functions, relative to the space file; run when that is loaded.
    """

    name: str = "custom"
    about: str = ""
    originals: Literal["all", "finest", "none"] | tuple[_Scale, ...] = "all"
    operator: tuple[OperatorRule, ...] = ()
    always_with_finest: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    budget: Annotated[int, Field(ge=1)] | None = None
    operators_file: str | None = None

    @field_validator("operator")
    @classmethod
    def _once(cls, rules: tuple[OperatorRule, ...]) -> tuple[OperatorRule, ...]:
        if twice := sorted(name for name, times in Counter(rule.name for rule in rules).items() if times > 1):
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
        if not isinstance(source, str | Path):
            raise SpaceError(
                f"a search space is a name or a path, not {type(source).__name__}.", hint='SearchSpace.load("lomix")'
            )
        known = shipped_files("search_spaces")
        path = known.get(str(source), Path(source))
        if not _there(path):
            raise SpaceError(f'no search space "{source}": neither shipped nor a file. {nearest(str(source), known)}')
        content = read_toml(path, SpaceError, limit=2**20)
        if {"data", "network"} <= content.keys():
            own = content["space"].get("name") if isinstance(content.get("space"), dict) else None
            raise SpaceError(
                f"{source} is a recipe, not a search space.",
                seen=f"its space is {own}" if own else "its tables data and network",
                hint=[*([f"lomix show {own}"] if own else []), "lomix ls   # lists the search spaces that ship"],
            )
        if isinstance(file := content.get("operators_file"), str):
            register_operators(path.parent / file)
        return build_typed(cls, content, path.name, SpaceError)

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
            SpaceError: a rule names a stage or subset size that a network of L stages does not have, or there are more
                maps than can be gone through.
        """
        self.check(num_stages)
        wanted = id_filter(self.include, self.exclude)
        kept = (m for m in self._candidates(num_stages) if wanted(m.id))
        yield from itertools.islice(kept, self.budget)

    def lacks(self, ids: Iterable[str], num_stages: int) -> list[str]:
        """Return the ids that name no map of the space. The ids alone tell, so it is quick for a space of any size.

        Args:
            ids: Map ids such as ``P4`` or ``add(1,3)``.
            num_stages: L, the number of stages.

        Returns:
            Those that ``maps`` does not yield.

        Raises:
            SpaceError: as ``maps``.
        """
        if self.budget is not None:
            known = {m.id for m in self.maps(num_stages)}
            return [name for name in ids if name not in known]
        self.check(num_stages)
        wanted = id_filter(self.include, self.exclude)
        return [name for name in ids if self.find(name, num_stages) is None or not wanted(name)]

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
        total = self._number(num_stages)
        return total if self.budget is None else min(total, self.budget)

    def find(self, name: str, num_stages: int) -> Map | None:
        """Return the map of an id, told from the id alone.

        Args:
            name: An id such as ``P4`` or ``add(1,3)``.
            num_stages: L, the number of stages.

        Returns:
            The map; None if the rules do not make it for L stages. Patterns and budget are not asked.
        """
        if (read := parse_id(name)) is None:
            return None
        operator, scales = read
        if operator == "original":
            return Map("original", scales) if scales[0] in self._originals(num_stages) else None
        rule = next((rule for rule in self.operator if rule.name == operator), None)
        ascending = all(low < high for low, high in itertools.pairwise(scales)) and scales[-1] <= num_stages
        finest = num_stages in scales or not self.always_with_finest
        if rule is None or not ascending or not finest or len(scales) not in rule.sizes_for(num_stages):
            return None
        return Map(rule.name, scales, rule.parameters(scales))

    def keep(self, ids: Iterable[str]) -> "SearchSpace":
        """Return the same space with only these maps.

        Args:
            ids: Map ids such as ``P4`` or ``add(1,3)``.

        Returns:
            A space whose order is still the stable one.

        Raises:
            SpaceError: ``ids`` is empty, or names a map that the space does not have for any network.
        """
        kept = tuple(ids)
        if not kept:  # as patterns, none means all
            raise SpaceError(f'space "{self.name}": keep() was given no map; at least one must stay.', hint=_IDS)
        if strange := [name for name in kept if not self._possible(name)]:
            found = ", ".join(strange[:MOST_LISTED])
            raise SpaceError(f'space "{self.name}" has no such map for any network.', seen=found, hint=_IDS)
        return self.model_copy(update={"include": kept, "exclude": (), "budget": None})

    def only(self, operators: Iterable[str] | None = None, sizes: Iterable[int] | None = None) -> "SearchSpace":
        """Return the same space with only some of its operators and subset sizes.

        Args:
            operators: Names of those to keep; None keeps all.
            sizes: Subset sizes to keep; None keeps all.

        Returns:
            The space; it may have only originals left.
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
        if num_stages > MAX_STAGES:
            hint = "lomix.instrument(net, example, stages=[…])  # names those to take"
            raise SpaceError(f"{num_stages} stages: a network has 1 to {MAX_STAGES}.", hint=hint)
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
            listed = "\n".join([f'space "{self.name}" does not fit.', *(f"  {fault}" for fault in faults)])
            raise SpaceError(listed, hint=self._what_fits(num_stages))

    def _what_fits(self, num_stages: int) -> list[str]:
        """Return what to write into the space instead of sizes and stages that the network does not have."""
        if num_stages < 1:
            return ["space.check(4)   # L, the number of the network's stages"]
        lines = []
        if not isinstance(self.originals, str) and any(scale > num_stages for scale in self.originals):
            kept = [scale for scale in self.originals if scale <= num_stages]
            lines.append(f"originals = {kept}" if kept else 'originals = "all"')
        for i, rule in enumerate(self.operator):
            if any(size > num_stages for size in rule.sizes or ()):
                sizes = rule.sizes_for(num_stages)
                lines.append(f"operator[{i}]: sizes = {sizes}" if sizes else f"leave operator[{i}] ({rule.name}) out")
        return lines

    def _possible(self, name: str) -> bool:
        """Tell whether the rules make a map of this id for some network: one that ends with its finest scale."""
        read = parse_id(name)
        return read is not None and self.find(name, read[1][-1]) is not None

    def _candidates(self, num_stages: int) -> Iterator[Map]:
        """Return what include and exclude choose from, in the stable order."""
        if self.include and not any(has_wildcard(pattern) for pattern in self.include):
            yield from self._named(num_stages)  # by name, so that few are found among however many
            return
        self._check_number(num_stages)
        yield from (Map("original", (scale,)) for scale in self._originals(num_stages))
        for rule in self.operator:
            for size in rule.sizes_for(num_stages):
                for scales in itertools.combinations(range(1, num_stages + 1), size):
                    if num_stages in scales or not self.always_with_finest:
                        yield Map(rule.name, scales, rule.parameters(scales))

    def _originals(self, num_stages: int) -> tuple[int, ...]:
        named = {"all": tuple(range(1, num_stages + 1)), "finest": (num_stages,), "none": ()}
        return named[self.originals] if isinstance(self.originals, str) else tuple(sorted(set(self.originals)))

    def _named(self, num_stages: int) -> list[Map]:
        order = {rule.name: i for i, rule in enumerate(self.operator)}
        found = [m for name in dict.fromkeys(self.include) if (m := self.find(name, num_stages)) is not None]
        return sorted(found, key=lambda m: (order.get(m.operator, -1), len(m.scales), m.scales))

    def _number(self, num_stages: int) -> int:
        """Return how many maps the rules make, before include, exclude and budget: in closed form."""
        fixed, free = (1, num_stages - 1) if self.always_with_finest else (0, num_stages)
        mutants = sum(math.comb(free, s - fixed) for rule in self.operator for s in rule.sizes_for(num_stages))
        return len(self._originals(num_stages)) + mutants

    def _check_number(self, num_stages: int) -> None:
        patterns = [pattern for pattern in (*self.include, *self.exclude) if has_wildcard(pattern)]
        number = self._number(num_stages)
        if self.budget is not None and not self.include and not self.exclude:
            number = min(number, self.budget)
        if number > MAX_MAPS or number * len(patterns) > 16 * MAX_MAPS:
            sifted = f", sifted by {len(patterns)} patterns" if patterns else ""
            raise SpaceError(
                f'space "{self.name}" makes {number} maps of {num_stages} stages{sifted}; '
                f"at most {MAX_MAPS} can be gone through.",
                hint="sizes = [2]   # under [[operator]] in the space file: pairs alone",
            )

    # -- graph ---------------------------------------------------------------------------------------------------------

    def graph(self, num_stages: int, num_classes: int = 2) -> "nx.DiGraph":
        """Build the graph: stage nodes → operator nodes → map nodes (an original hangs on its stage directly).

        Args:
            num_stages: L, the number of stages.
            num_classes: C; parameter counts and costs depend on it.

        Returns:
            A DiGraph. Every node has ``kind`` (stage, operator or map); maps also have ``operator``, ``scales`` (text,
            so that GraphML holds it), ``arity``, ``parameters`` (number of learned values; shared ones count at each
            map that uses them) and ``cost`` (multiplications and additions per pixel to fuse it).
        """
        operators = [rule.name for rule in self.operator]
        return build_operator_graph(self.name, operators, self.maps(num_stages), num_stages, num_classes)

    def __str__(self) -> str:
        """Return a tree of the rules, with the closed-form counts for 3 to 6 stages where they fit."""
        rules = [f"├─ {rule}" for rule in self.operator]
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


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a zero byte: no file has it
        return False
