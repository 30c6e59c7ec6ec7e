"""What a search found: maps with their weights, in a file that people can read and other runs can train with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from lomix_search.errors import MixtureError, SpaceError
from lomix_search.mixture.map_weights import Concentration, MapWeight, concentration, kendall, strongest
from lomix_search.mixture.maps import MAX_STAGES, MOST_LISTED, Map
from lomix_search.mixture.mixture_files import (
    WITHOUT_OPERATORS,
    read_content,
    read_parameters,
    verify_content,
    write_content,
    write_parameters,
)
from lomix_search.mixture.operator_parameters import misfits, operator_shapes
from lomix_search.mixture.provenance import Provenance, StageInfo
from lomix_search.mixture.space import SearchSpace
from lomix_search.utils.schema import Frozen, build_typed
from lomix_search.utils.terminal import Table, telling_digits

_Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Mixture(Frozen):
    """Maps with their found weights; a value that is saved, shown, pruned, compared and trained with.

    Args:
        format: Always ``lomix-mixture``.
        version: Version of the file format.
        sha256: Checksum of all else in the file; in files only, None in those written before there was one.
        space: The space that was searched.
        num_classes: Channels of every map; 1 means binary with a sigmoid.
        stages: The network's stages, coarse to fine; may be empty when the loss was used without ``instrument``.
        num_maps: L, the number of stages.
        weighting: Name of the rule that found the weights.
        maps: Ids and weights in the space's stable order.
        multilabel: Each channel was a class of its own, which may overlap others; None where it was not noted.
        operators_sha256: Checksum of the operator parameters in the safetensors file beside the JSON; None without any.
        spread: How selective the weights are; in files only, ``concentration()`` computes it.
        provenance: Where it comes from.
    """

    format: Literal["lomix-mixture"] = "lomix-mixture"
    version: Literal[1] = 1
    sha256: _Checksum | None = None
    space: SearchSpace
    num_classes: Annotated[int, Field(ge=1, le=2**16)]
    num_maps: Annotated[int, Field(ge=1, le=MAX_STAGES)]
    stages: tuple[StageInfo, ...] = ()
    weighting: str
    maps: Annotated[tuple[MapWeight, ...], Field(min_length=1)]
    multilabel: bool | None = None
    operators_sha256: _Checksum | None = None
    spread: Concentration | None = None
    provenance: Provenance = Provenance()
    _operators: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _source: str = PrivateAttr(default="the mixture")

    @model_validator(mode="after")
    def _consistent(self) -> "Mixture":
        ids = [m.id for m in self.maps]
        try:
            strange = self.space.lacks(ids, self.num_maps)
        except SpaceError as cause:
            raise ValueError(str(cause)) from None
        if strange:
            raise ValueError(f"maps that the space does not hold for {self.num_maps} stages: {_few(strange)}")
        if len(set(ids)) < len(ids):
            raise ValueError("maps are listed twice")
        if self.stages and len(self.stages) != self.num_maps:
            raise ValueError(f"stages lists {len(self.stages)}, num_maps is {self.num_maps}")
        return self

    # -- files ---------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write ``mixture.json`` and, if operators learn, ``mixture.safetensors`` with their parameters beside it.

        Equal mixtures write equal bytes. Both files are written atomically, the parameters first. The JSON holds a
        checksum of itself and one of the parameters, which ``load`` verifies.

        Args:
            path: The JSON file to write.

        Raises:
            MixtureError: ``path`` is where the parameters go.
        """
        target, checksum = Path(path), None
        if target.suffix == ".safetensors":
            raise MixtureError(
                f"{target} would hold the operators' parameters; a mixture is a JSON file.",
                hint=f'mixture.save("{target.with_suffix(".json")}")',
            )
        if self._operators:
            checksum = write_parameters(target.with_suffix(".safetensors"), self._operators)
        noted = {"operators_sha256": checksum, "spread": self.concentration()}
        write_content(target, self.model_copy(update=noted).model_dump(mode="json"))

    @classmethod
    def load(cls, path: str | Path) -> "Mixture":
        """Read a mixture; nothing in the files is executed.

        Args:
            path: The JSON file.

        Returns:
            The mixture, with operator parameters if it has any.

        Raises:
            MixtureError: not a mixture file, of a later version, changed after it was written, or with damaged or
                missing operator parameters.
        """
        source = Path(path)
        content = read_content(source)
        mixture = build_typed(cls, content, source.name, MixtureError)
        verify_content(source, content)
        mixture = mixture.model_copy(update={"spread": None, "sha256": None})
        mixture._source = str(source)
        if mixture.operators_sha256 is not None:
            tensors = source.with_suffix(".safetensors")
            mixture._operators = read_parameters(tensors, mixture.operators_sha256)
            mixture._check_parameters(tensors)
        return mixture

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, float]:
        """Weights by map id, in the space's order."""
        return {m.id: m.weight for m in self.maps}

    @property
    def operators(self) -> Mapping[str, Tensor]:
        """Learned operator parameters by state_dict name, e.g. ``concat(1,2).weight``."""
        return dict(self._operators)

    def operators_like(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the operators' parameters that a loss wants.

        Args:
            wanted: By state_dict name, of the shapes that are needed.

        Returns:
            One for each, of its shape.

        Raises:
            MixtureError: some are missing, or have another shape.
        """
        missing = [name for name in wanted if name not in self._operators]
        if missing:
            raise MixtureError(
                f"{self._source} lacks parameters of {len(missing)} of {len(wanted)} that its operators have.",
                seen=_few(missing),
                hint="MixtureLoss.from_mixture(mixture)  # begins with new ones",
            )
        found = {name: self._operators[name] for name in wanted}
        if faults := misfits(found, {name: one.shape for name, one in wanted.items()}):
            raise MixtureError(
                f"{self._source} holds operator parameters that do not fit.",
                seen=faults[:MOST_LISTED],
                hint="MixtureLoss.from_mixture(mixture)  # begins with new ones",
            )
        return found

    def _check_parameters(self, path: Path) -> None:
        """Refuse parameters that no map of the mixture has, of another shape, or not finite."""
        if faults := misfits(self._operators, operator_shapes(self._by_id().values(), self.num_classes)):
            more = [f"… and {len(faults) - MOST_LISTED} more"] if len(faults) > MOST_LISTED else []
            raise MixtureError(
                f"{path} holds operator parameters that do not fit the mixture.",
                seen=[*faults[:MOST_LISTED], *more],
                hint=WITHOUT_OPERATORS,
            )

    def with_operators(self, tensors: Mapping[str, Tensor]) -> "Mixture":
        """Return a copy that holds these operator parameters.

        Args:
            tensors: By state_dict name.

        Returns:
            The copy; the tensors are cloned to the CPU.
        """
        copy = self.model_copy()
        copy._operators = {name: t.detach().cpu().clone() for name, t in tensors.items()}
        return copy

    def ranked(self) -> list[MapWeight]:
        """Return the maps by falling weight; equal ones in the space's order."""
        return sorted(self.maps, key=lambda m: -m.weight)

    def concentration(self) -> Concentration:
        """Return how selective the weights are."""
        return concentration([m.weight for m in self.maps])

    def __str__(self) -> str:
        """Return the mixture as a weighted sum, strongest first."""
        return " + ".join(f"{m.weight:.3g}·{m.id}" for m in self.ranked())

    def __rich__(self) -> Table:
        return self.table()

    def table(self, top: int | None = None) -> Table:
        """Return the ranked table.

        Args:
            top: Only so many of the strongest; shares stay those of all maps.
        """
        spread = self.concentration()
        share = f"{len(self.maps)} maps, sum {spread.total:.3g}, {spread.effective_maps:.1f} effective"
        table = Table("rank", "map", "weight", "share", title=f"{self.space.name} by {self.weighting}: {share}")
        shares = {m.id: m.weight / spread.total if spread.total > 0 else 0.0 for m in self.maps}
        digits, parts = telling_digits(self.weights.values(), 4), telling_digits(shares.values()) - 2
        for rank, m in enumerate(self.ranked()[:top], 1):
            table.add_row(str(rank), m.id, f"{m.weight:.{digits}f}", f"{shares[m.id]:.{parts}%}")
        return table

    # -- deriving ------------------------------------------------------------------------------------------------------

    def prune(
        self,
        *,
        top: int | None = None,
        mass: float | None = None,
        per_operator: int | None = None,
        keep_finest: bool = True,
    ) -> "Mixture":
        """Keep the strongest maps, with the weights they have.

        Exactly one of the three criteria is given.

        Args:
            top: Number of maps to keep.
            mass: Keep the fewest maps that hold this part of the weight, in (0, 1].
            per_operator: Number of maps to keep of each operator (originals count as one operator).
            keep_finest: Keep the finest original, which inference uses, even if its rank is lower.

        Returns:
            The smaller mixture. The cost of training with it falls in proportion.

        Raises:
            MixtureError: not exactly one criterion, or one out of range; or no map would be left.
        """
        operators = {name: m.operator for name, m in self._by_id().items()}
        chosen = set(strongest(self.ranked(), operators, top=top, mass=mass, per_operator=per_operator))
        finest = f"P{self.num_maps}"
        if keep_finest and finest in self.weights and finest not in chosen:
            if top is not None and len(chosen) >= top:
                chosen.remove(next(m.id for m in reversed(self.ranked()) if m.id in chosen))
            chosen.add(finest)
        kept = tuple(m for m in self.maps if m.id in chosen)
        if not kept:  # a part of weights that are all 0
            raise MixtureError(
                "prune would leave no map: all weights of the mixture are 0.",
                hint="mixture.prune(top=8)  # by number, not by a part of the weight",
            )
        space = self.space.keep(m.id for m in kept)
        used = {m.parameters for m in space.maps(self.num_maps)}
        smaller = self.model_copy(update={"maps": kept, "space": space})
        return smaller.with_operators({k: t for k, t in self._operators.items() if k.partition(".")[0] in used})

    def _by_id(self) -> dict[str, Map]:
        found = ((m.id, self.space.find(m.id, self.num_maps)) for m in self.maps)
        return {name: m for name, m in found if m is not None}

    def compare(self, other: "Mixture") -> float:
        """Return Kendall's τ-b between the weights of two mixtures, over the maps that both hold.

        Args:
            other: Another mixture.

        Returns:
            1 for the same order, −1 for the opposite, about 0 for unrelated ones; NaN if one has no order at all.

        Raises:
            MixtureError: they share fewer than two maps.
        """
        shared = [name for name in self.weights if name in other.weights]
        if len(shared) < 2:
            raise MixtureError(
                f"the two mixtures share {len(shared)} maps; an order needs at least 2.",
                seen=[_few(list(self.weights)), _few(list(other.weights))],
                hint="MixtureLoss(mixture.space, …)  # search the other in the space of the first",
            )
        mine = torch.tensor([self.weights[name] for name in shared], dtype=torch.float64)
        theirs = torch.tensor([other.weights[name] for name in shared], dtype=torch.float64)
        return kendall(mine, theirs)

    def check(
        self, num_maps: int, num_classes: int, stages: Sequence[str] = (), multilabel: bool | None = None
    ) -> None:
        """Check that the mixture belongs to a network.

        Args:
            num_maps: The network's number of stages.
            num_classes: Its number of classes.
            stages: Names of its stages, coarse to fine; compared when both sides know them.
            multilabel: Whether its channels are classes that may overlap; compared in the same way.

        Raises:
            MixtureError: it was found on another network; says what differs.
        """
        names = [stage.name for stage in self.stages]
        facts: list[tuple[str, int | str, int | str]] = [
            ("stages", self.num_maps, num_maps),
            ("classes", self.num_classes, num_classes),
        ]
        if stages and names:
            facts.append(("stage names", ", ".join(names), ", ".join(stages)))
        if None not in (multilabel, self.multilabel):
            kinds = {True: "regions that may overlap", False: "classes"}
            facts.append(("channels", kinds[bool(self.multilabel)], kinds[bool(multilabel)]))
        if different := [f"{what}: mixture {mine}, network {theirs}" for what, mine, theirs in facts if mine != theirs]:
            raise MixtureError(
                "this mixture was found on another network.",
                seen=different,
                hint="search anew on this network: lomix.search(net, loss, train, val)",
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_LISTED]) + (f", … ({len(names)})" if len(names) > MOST_LISTED else "")
