"""What a search found: maps with their weights, in a file that people can read and other runs can train with."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PrivateAttr, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from lomix_search.errors import MixtureError, SpaceError
from lomix_search.mixture.operators import find_operator
from lomix_search.mixture.space import MAX_STAGES, Map, SearchSpace
from lomix_search.utils.files import read_bytes, read_json, write_bytes, write_text
from lomix_search.utils.schema import Frozen, build_typed
from lomix_search.utils.terminal import Table

VERSION = 1
Weight = Annotated[float, Field(ge=0, le=1e30)]  # finite in float32, and their sum too
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
TENSORS = 2**32
"""Bytes of operator parameters that a file may have."""
SEEN = 8
"""How many names an error lists."""


class MapWeight(Frozen):
    """One map and its found weight.

    Args:
        id: The map, e.g. ``P4`` or ``add(1,3)``.
        weight: Its loss weight, ≥ 0.
    """

    id: str
    weight: Weight


class StageInfo(Frozen):
    """One decoder stage of the network that was searched.

    Args:
        name: Module path.
        channels: Channels of the feature map.
        stride: Input size divided by the stage's size, per spatial dimension.
    """

    name: str
    channels: int
    stride: tuple[float, ...]


class Provenance(Frozen):
    """Where a mixture comes from. It holds no time stamps, so that equal runs write equal files.

    Args:
        recipe: Name of the recipe, if one was run.
        network: Class of the network.
        seed: Seed of the run.
        steps: Optimizer steps taken.
        versions: Versions of python, torch and lomix_search.
        commit: Commit of the checkout the library ran from, if it did.
        metrics: Named results, such as ``val.dice.best``.
        warnings: What the search had to say about its own result, such as weights that did not select.
    """

    recipe: str | None = None
    network: str | None = None
    seed: int | None = None
    steps: int | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Concentration(Frozen):
    """How selective a set of weights is.

    Args:
        total: Sum of the weights.
        entropy: Shannon entropy of the normalised weights, in nats.
        effective_maps: exp(entropy): as many equally weighted maps would be as spread out. The number of maps when all
            are equal, 1 when one has all the weight.
    """

    total: float
    entropy: float
    effective_maps: float


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
        operators_sha256: Checksum of the operator parameters in the safetensors file beside the JSON; None without any.
        spread: How selective the weights are; in files only, ``concentration()`` computes it.
        provenance: Where it comes from.
    """

    format: Literal["lomix-mixture"] = "lomix-mixture"
    version: Literal[1] = 1
    sha256: Checksum | None = None
    space: SearchSpace
    num_classes: Annotated[int, Field(ge=1, le=2**16)]
    num_maps: Annotated[int, Field(ge=1, le=MAX_STAGES)]
    stages: tuple[StageInfo, ...] = ()
    weighting: str
    maps: Annotated[tuple[MapWeight, ...], Field(min_length=1)]
    operators_sha256: Checksum | None = None
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
            MixtureError: the path is that of the parameters.
        """
        target, checksum = Path(path), None
        if target.suffix == ".safetensors":
            raise MixtureError(
                f"{target} would hold the operators' parameters; a mixture is a JSON file.",
                hint=f'mixture.save("{target.with_suffix(".json")}")',
            )
        if self._operators:
            packed = tensors_to_bytes({name: t.detach().cpu().contiguous() for name, t in self._operators.items()})
            write_bytes(target.with_suffix(".safetensors"), packed)
            checksum = hashlib.sha256(packed).hexdigest()
        noted = {"operators_sha256": checksum, "spread": self.concentration()}
        content = self.model_copy(update=noted).model_dump(mode="json")
        content["sha256"] = _checksum(content)
        write_text(target, json.dumps(content, indent=2) + "\n")

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
        content = read_json(source, MixtureError, "a mixture: not JSON")
        if content.get("format") != "lomix-mixture":
            raise MixtureError(f'{source} is not a mixture: it lacks "format": "lomix-mixture".')
        if isinstance(version := content.get("version"), int) and version > VERSION:
            raise MixtureError(
                f"{source} is a mixture of version {version}; this library reads up to {VERSION}.",
                hint="pip install --upgrade lomix-search",
            )
        mixture = build_typed(cls, content, source.name, MixtureError)
        if mixture.sha256 is not None and mixture.sha256 != _checksum(content):
            raise MixtureError(
                f"{source} was changed or damaged after it was written: the checksum differs.",
                hint='take the line "sha256" out of the file, if it was you who changed it',
            )
        mixture = mixture.model_copy(update={"spread": None, "sha256": None})
        mixture._source = str(source)
        if mixture.operators_sha256 is not None:
            tensors = source.with_suffix(".safetensors")
            mixture._operators = _read_tensors(tensors, mixture.operators_sha256)
            mixture._check_tensors(tensors)
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
        faults = [_misfit(name, self._operators[name], one.shape) for name, one in wanted.items()]
        if found := [fault for fault in faults if fault]:
            raise MixtureError(f"{self._source} holds operator parameters that do not fit.", seen=found[:SEEN])
        return {name: self._operators[name] for name in wanted}

    def _check_tensors(self, path: Path) -> None:
        """Refuse parameters that no map of the mixture has, of another shape, or not finite."""
        shapes = self._shapes()
        faults = [
            f"{name}: no operator of this mixture has it" if name not in shapes else _misfit(name, one, shapes[name])
            for name, one in self._operators.items()
        ]
        if found := [fault for fault in faults if fault]:
            more = [f"… and {len(found) - SEEN} more"] if len(found) > SEEN else []
            raise MixtureError(
                f"{path} holds operator parameters that do not fit the mixture.", seen=[*found[:SEEN], *more]
            )

    def _shapes(self) -> dict[str, torch.Size]:
        """Return the shape of each parameter that the operators of these maps have, without making any."""
        users = {m.parameters: m for m in self._by_id().values() if m.parameters is not None}
        kinds: dict[tuple[str, int], Mapping[str, Tensor]] = {}
        for m in users.values():
            kind, factory = (m.operator, len(m.scales)), find_operator(m.operator).module
            if kind not in kinds and factory is not None:
                with torch.device("meta"):
                    kinds[kind] = factory(self.num_classes, len(m.scales)).state_dict()
        return {
            f"{key}.{name}": one.shape
            for key, m in users.items()
            for name, one in kinds[m.operator, len(m.scales)].items()
        }

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
        """Return the ranked table."""
        spread = self.concentration()
        share = f"{len(self.maps)} maps, sum {spread.total:.3g}, {spread.effective_maps:.1f} effective"
        table = Table("rank", "map", "weight", "share", title=f"{self.space.name} by {self.weighting}: {share}")
        for rank, m in enumerate(self.ranked(), 1):
            part = m.weight / spread.total if spread.total > 0 else 0.0
            table.add_row(str(rank), m.id, f"{m.weight:.4f}", f"{part:.1%}")
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
            top: Keep so many maps.
            mass: Keep the fewest maps that hold this part of the weight, in (0, 1].
            per_operator: Keep so many maps of each operator (originals count as one).
            keep_finest: Keep the finest original, which is what inference uses, among them whatever its rank.

        Returns:
            The smaller mixture; training with it costs in proportion.

        Raises:
            MixtureError: not exactly one criterion, or one out of range; or no map would be left.
        """
        chosen = set(self._chosen(top, mass, per_operator))
        finest = f"P{self.num_maps}"
        if keep_finest and finest in self.weights and finest not in chosen:
            if top is not None and len(chosen) >= top:
                chosen.remove(next(m.id for m in reversed(self.ranked()) if m.id in chosen))
            chosen.add(finest)
        kept = tuple(m for m in self.maps if m.id in chosen)
        if not kept:  # a part of weights that are all 0
            raise MixtureError("prune would leave no map: all weights of the mixture are 0.")
        space = self.space.keep(m.id for m in kept)
        used = {m.parameters for m in space.maps(self.num_maps)}
        smaller = self.model_copy(update={"maps": kept, "space": space})
        return smaller.with_operators({k: t for k, t in self._operators.items() if k.partition(".")[0] in used})

    def _chosen(self, top: int | None, mass: float | None, per_operator: int | None) -> Iterator[str]:
        if sum(criterion is not None for criterion in (top, mass, per_operator)) != 1:
            raise MixtureError("prune needs exactly one of top, mass and per_operator.", hint="mixture.prune(top=8)")
        for name, number in (("top", top), ("per_operator", per_operator)):
            if number is not None and number < 1:
                raise MixtureError(f"prune({name}={number}): at least one map must stay.", hint=f"prune({name}=1)")
        if mass is not None and not 0 < mass <= 1:
            raise MixtureError(f"prune(mass={mass}): a part of the weight lies in (0, 1].", hint="prune(mass=0.9)")
        kinds = {name: m.operator for name, m in self._by_id().items()}
        taken, of_operator = 0.0, dict.fromkeys(kinds.values(), 0)
        limit = mass * self.concentration().total * (1 - 1e-12) if mass is not None else math.inf
        for rank, m in enumerate(self.ranked()):
            kind = kinds[m.id]
            if rank >= (top or math.inf) or taken >= limit:
                return
            if of_operator[kind] < (per_operator or math.inf):
                yield m.id
            taken, of_operator[kind] = taken + m.weight, of_operator[kind] + 1

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
            raise MixtureError(f"the two mixtures share {len(shared)} maps; an order needs at least 2.")
        mine = torch.tensor([self.weights[name] for name in shared], dtype=torch.float64)
        theirs = torch.tensor([other.weights[name] for name in shared], dtype=torch.float64)
        return _kendall(mine, theirs)

    def check(self, num_maps: int, num_classes: int, stages: Sequence[str] = ()) -> None:
        """Check that the mixture belongs to a network.

        Args:
            num_maps: The network's number of stages.
            num_classes: Its number of classes.
            stages: Names of its stages, coarse to fine; compared when both sides know them.

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
        if different := [f"{what}: mixture {mine}, network {theirs}" for what, mine, theirs in facts if mine != theirs]:
            raise MixtureError(
                "this mixture was found on another network.",
                seen=different,
                hint="search anew on this network: lomix.search(net, loss, train, val)",
            )


def concentration(weights: Sequence[float]) -> Concentration:
    """Measure how selective weights are.

    Args:
        weights: Non-negative loss weights.

    Returns:
        Sum, entropy of the normalised weights (0 · log 0 = 0) and its exponential. All zero for a zero sum.
    """
    total = math.fsum(weights)
    if total <= 0:
        return Concentration(total=total, entropy=0.0, effective_maps=0.0)
    parts = [w / total for w in weights if w > 0]
    entropy = max(0.0, -math.fsum(p * math.log(p) for p in parts))
    return Concentration(total=total, entropy=entropy, effective_maps=math.exp(entropy))


def _kendall(a: Tensor, b: Tensor) -> float:
    rows, columns = torch.triu_indices(len(a), len(a), offset=1)
    up, across = torch.sign(a[rows] - a[columns]), torch.sign(b[rows] - b[columns])
    pairs = up.abs().sum() * across.abs().sum()
    return ((up * across).sum() / pairs.sqrt()).item() if pairs > 0 else math.nan


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the checksum of all that a file says, however it is laid out, but for the checksum itself."""
    said = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_tensors(path: Path, checksum: str) -> dict[str, Tensor]:
    """Read parameters. What is read is what the checksum vouches for, whatever the path leads to."""
    together = "copy mixture.json and mixture.safetensors together"
    if not path.exists():
        raise MixtureError(f"{path} is missing; the mixture's operator parameters are in it.", hint=together)
    packed = read_bytes(path, MixtureError, TENSORS)
    if hashlib.sha256(packed).hexdigest() != checksum:
        raise MixtureError(f"{path} does not belong to the mixture beside it: the checksums differ.", hint=together)
    try:
        return tensors_from_bytes(packed)
    except (SafetensorError, KeyError, ValueError) as cause:  # KeyError: a type of numbers that torch has not
        raise MixtureError(f"{path} is not a safetensors file.", seen=str(cause)) from None


def _misfit(name: str, one: Tensor, shape: torch.Size) -> str:
    """Say what is wrong with a parameter, or nothing."""
    if one.shape != shape:
        return f"{name}: shape {tuple(one.shape)}, its operator has {tuple(shape)}"
    if not bool(one.isfinite().all()):
        return f"{name}: values that are not finite"
    return ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SEEN]) + (f", … ({len(names)})" if len(names) > SEEN else "")
