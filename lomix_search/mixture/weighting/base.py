"""What a weighting is, and the table of those known by name.

A weighting is built for the maps of a loss, in their order. ``WEIGHTINGS`` holds functions and classes that take the
maps first and settings by keyword; the settings' annotations say what a recipe's ``[weighting]`` table may hold.
"""

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from pydantic import ValidationError, create_model
from pydantic_core import PydanticUndefined
from torch import Tensor, nn

from lomix_search.errors import LossError, nearest
from lomix_search.mixture.maps import Map
from lomix_search.utils.schema import Frozen, faults_of

_Built = TypeVar("_Built", bound=Callable[..., "Weighting"])
_Family = TypeVar("_Family", bound=Callable[[str], Callable[..., "Weighting"]])


class Weighting(nn.Module, ABC):
    """Interface of all weightings: m per-map losses in, one total out.

    A new one implements ``weights`` (0 for maps that are not ``kept``); it overrides ``forward`` only if its total is
    more than Σ wₖ·ℓₖ, and ``active`` only if some of its maps need not be computed at all.

    Args:
        maps: The maps to weigh, in the order of the losses.
    """

    name: str = "custom"
    """The word for it in mixture files."""

    lr: float | None = None
    """Learning rate of its parameters, which then have no weight decay; None: they are treated like the network's."""

    settles: bool = False
    """Whether learned weights have an optimum that they settle at, however small or large; else it is watched whether
    they die."""

    waits_for: str = ""
    """A call that its weights need to move at all, and that was not made yet; empty: none."""

    kept: Tensor

    def __init__(self, maps: Sequence[Map]) -> None:
        super().__init__()
        self.map_ids = tuple(m.id for m in maps)
        self.register_buffer("kept", torch.ones(len(self.map_ids)))
        self._kept = (True,) * len(self.map_ids)

    @abstractmethod
    def weights(self) -> Tensor:
        """Return the weights w (m,), ≥ 0, with their gradient where they are learned."""

    def forward(self, losses: Tensor) -> Tensor:
        """Add the losses up.

        Args:
            losses: ℓ (m,), one mean loss a map; 0 for maps that are not active.

        Returns:
            The total, a scalar.
        """
        return (self.weights().to(losses) * losses).sum()

    def active(self) -> tuple[bool, ...]:
        """Say which maps count; the others are skipped and cost nothing. Must not read a tensor on a device."""
        return self._kept

    def advance(self, progress: float) -> None:
        """Take note of how far training has come; called before each step.

        Args:
            progress: Steps taken / all steps, in [0, 1].
        """

    def keep(self, ids: Collection[str]) -> None:
        """Go on with some of the maps; the others weigh 0 from now on and cost nothing.

        Args:
            ids: Maps to keep, at least one of those that are kept now.

        Raises:
            LossError: no map would be left, or an id names none of the maps.
        """
        wanted = {ids} if isinstance(ids, str) else set(ids)
        if strange := sorted(wanted - set(self.map_ids)):
            raise LossError(
                f'weighting "{self.name}" has no such maps.',
                seen=list_ids(strange),
                hint="loss.weighting.map_ids   # those that there are",
            )
        kept = tuple(before and name in wanted for before, name in zip(self._kept, self.map_ids, strict=True))
        if not any(kept):
            still = next(name for name, before in zip(self.map_ids, self._kept, strict=True) if before)
            raise LossError(
                f'weighting "{self.name}": no map would be left.',
                seen=list_ids(sorted(wanted)) or "no map is named",
                hint=f'loss.weighting.keep(["{still}"])   # one of those that are still kept',
            )
        self.kept.copy_(torch.tensor(kept).to(self.kept))
        self._kept = kept

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Keep ``active`` in step with the buffer when another state is loaded."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._kept = tuple(bool(kept) for kept in self.kept.tolist())


WEIGHTINGS: dict[str, Callable[..., Weighting]] = {}
FAMILIES: dict[str, Callable[[str], Callable[..., Weighting]]] = {}
"""Weightings whose names have two parts, ``family:member``, by family: functions of the member's name."""


def weighting(name: str) -> Callable[[_Built], _Built]:
    """Register a weighting, called with the maps and with the settings of a recipe by keyword.

    Args:
        name: A new name.

    Returns:
        A decorator that leaves its target as it is.

    Raises:
        LossError: the name is taken.
    """
    if name in WEIGHTINGS:
        raise LossError(f'weighting("{name}") exists already.', hint=f'@weighting("my_{name}")')

    def register(target: _Built) -> _Built:
        WEIGHTINGS[name] = target
        return target

    return register


def weighting_family(name: str) -> Callable[[_Family], _Family]:
    """Register a family of weightings, whose names have two parts: ``family:member``.

    Args:
        name: The family's.

    Returns:
        A decorator for a function that takes the member's name and returns what ``weighting`` would register.
    """

    def register(target: _Family) -> _Family:
        FAMILIES[name] = target
        return target

    return register


def build_weighting(kind: str | Weighting, maps: Sequence[Map], settings: Mapping[str, Any] | None = None) -> Weighting:
    """Build a weighting by name, or check that a built one is meant for these maps.

    Args:
        kind: A registered name or a weighting.
        maps: The maps to weigh.
        settings: By keyword; for names only.

    Returns:
        The weighting.

    Raises:
        LossError: unknown name or settings (all faults are listed), or a weighting built for other maps.
        MissingExtraError: its package is not installed.
    """
    if isinstance(kind, str):
        checked = weighting_settings(kind, settings or {})
        return _factory(kind)(tuple(maps), **checked)
    if not isinstance(kind, Weighting):
        raise LossError(
            f"weighting is {kind!r}; needed: a name or a Weighting built for the maps.", hint='weighting="softplus"'
        )
    ids = tuple(m.id for m in maps)
    if kind.map_ids != ids:
        raise LossError(
            f"{type(kind).__name__} was built for {len(kind.map_ids)} other maps; this loss has {len(ids)}.",
            seen=[f"weighting: {list_ids(kind.map_ids)}", f"loss:      {list_ids(ids)}"],
            hint=f"{type(kind).__name__}(tuple(space.maps(num_maps)), …)",
        )
    return kind


def weighting_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check the settings of a weighting.

    Args:
        name: Of a weighting.
        settings: By keyword.

    Returns:
        The settings, defaults included, of the types that the weighting wants.

    Raises:
        LossError: unknown name, unknown settings or values out of range; all of them are listed.
    """
    if faults := weighting_faults(name, settings):
        if name not in WEIGHTINGS and len(faults) == 1:
            near = next(iter(difflib.get_close_matches(name, WEIGHTINGS, n=1)), "softplus")
            raise LossError(f'weighting "{name}": {faults[0].partition(": ")[2]}', hint=f'weighting="{near}"')
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        listed = "\n".join([f'weighting "{name}" has {count}.', *(f"  {fault}" for fault in faults)])
        raise LossError(listed, hint=_own_settings(name))
    model = _settings(_factory(name))
    checked = model.model_validate(dict(settings))
    return {key: getattr(checked, key) for key in model.model_fields}


def weighting_faults(name: str, settings: Mapping[str, Any]) -> list[str]:
    """List everything that is wrong with a recipe's ``[weighting]`` table.

    Args:
        name: Of a weighting.
        settings: The other keys.

    Returns:
        One line a fault: key, what was found, what is allowed.
    """
    if name not in WEIGHTINGS and name.partition(":")[0] not in FAMILIES:
        known = [*WEIGHTINGS, *(f"{family}:…" for family in FAMILIES)]
        return [f"name = {name!r}: unknown. {nearest(name, known)}"]
    try:
        model = _settings(_factory(name))
        model.model_validate(dict(settings))
    except LossError as cause:
        return [f"name = {name!r}: {cause}"]
    except ValidationError as cause:
        if not model.model_fields:
            return [f"{key}: unknown; {name} has no settings." for key in settings]
        return faults_of(cause, model)
    return []


def _own_settings(name: str) -> str:
    """Return what to write instead of settings that do not fit: those that a weighting has by itself."""
    if name not in WEIGHTINGS:
        return 'weighting="softplus"'
    fields = _settings(_factory(name)).model_fields
    own = {key: field.default for key, field in fields.items() if field.default not in (None, PydanticUndefined)}
    listed = ", ".join(f"{key}={value!r}" for key, value in own.items())
    return f"{name}: {listed}   # its own" if own else f'weighting="{name}"   # with no setting'


def _factory(name: str) -> Callable[..., Weighting]:
    family, _, member = name.partition(":")
    return WEIGHTINGS[name] if name in WEIGHTINGS else FAMILIES[family](member)


def _settings(factory: Callable[..., Weighting]) -> type[Frozen]:
    """Read the settings off the signature: every parameter after the maps, with its annotation and default."""
    _, *parameters = inspect.signature(factory).parameters.values()
    fields: dict[str, Any] = {
        p.name: (Any if p.annotation is p.empty else p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return create_model("Settings", __base__=Frozen, **fields)


def list_ids(ids: Sequence[str]) -> str:
    """Return the ids as an error lists them: the first ones and their number where they are many."""
    return ", ".join(ids) if len(ids) <= 6 else f"{', '.join(ids[:5])}, … ({len(ids)})"
