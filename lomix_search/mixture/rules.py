"""One rule of a search space: which operator is applied to subsets of which sizes."""

from typing import Annotated

from pydantic import Field, field_validator

from lomix_search.errors import nearest
from lomix_search.mixture.maps import MAX_STAGES
from lomix_search.mixture.operators import OPERATORS, find_operator
from lomix_search.utils.schema import Frozen

_Size = Annotated[int, Field(ge=2, le=MAX_STAGES)]


class OperatorRule(Frozen):
    """One ``[[operator]]`` table of a space file.

    Args:
        name: A registered operator.
        sizes: Subset sizes to apply it to, each at least 2; all when left out.
        per_subset: Overrides how an operator that learns shares its parameters: one set for each subset, or each size.
    """

    name: str
    sizes: tuple[_Size, ...] | None = None
    per_subset: bool | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in OPERATORS:
            raise ValueError(f"unknown. {nearest(name, OPERATORS)}")
        return name

    def __str__(self) -> str:
        """Return the rule in words."""
        sizes = "" if self.sizes is None else f" of {', '.join(map(str, self.sizes))}"
        return self.name + sizes + (" (parameters per subset)" if self.per_subset else "")

    def parameters(self, scales: tuple[int, ...]) -> str | None:
        """Name the learned module that the mutant of these scales uses."""
        operator = find_operator(self.name)
        if not operator.learned:
            return None
        own = operator.per_subset if self.per_subset is None else self.per_subset
        return f"{self.name}({','.join(map(str, scales))})" if own else f"{self.name}[{len(scales)}]"

    def sizes_for(self, num_stages: int) -> list[int]:
        """Return the subset sizes that apply to a network of ``num_stages`` stages, ascending."""
        every = range(2, num_stages + 1)
        return list(every) if self.sizes is None else sorted(set(self.sizes) & set(every))
