"""Strategies to compare: what each changes in a recipe."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lomix_search.errors import RecipeError, nearest
from lomix_search.experiments.build import with_mixture
from lomix_search.mixture.weighting import WEIGHTINGS, weighting_faults
from lomix_search.recipe.overrides import split_list, split_setting, toml_or_text
from lomix_search.recipe.recipe import Recipe
from lomix_search.recipe.sections import SpaceSection, WeightingSection
from lomix_search.recipe.tuning import TuneSection

SPACES = ("last_layer", "deep_supervision", "mutation")
"""Strategies that are a search space of their own, weighted uniformly unless a setting ``weighting`` says otherwise."""
DERIVED = "derived"
"""The maps that ``rank`` puts first in the run of ``lookahead`` of the same seed and labels, trained anew."""
_EXAMPLE = "--strategies 'uniform,lookahead(rate=20,finest=0.3)'"


@dataclass(frozen=True)
class Strategy:
    """One way to supervise.

    Args:
        name: A space, a weighting, or ``derived``.
        settings: Of the weighting; of a space: ``weighting``; of ``derived``: ``top`` and ``weighting`` (fixed or
            anneal). Keys with a dot, such as ``optimizer.lr``, are keys of the recipe that this strategy alone changes.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and settings, as they were written."""
        inside = ",".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name}({inside})" if inside else self.name

    @property
    def slug(self) -> str:
        """A folder name."""
        return re.sub(r"[^A-Za-z0-9_.=-]+", "-", self.label).strip("-")

    @property
    def _weighting(self) -> str:
        """The name of its weighting."""
        return str(self.settings.get("weighting", "uniform")) if self.name in SPACES else self.name

    @property
    def _own(self) -> dict[str, Any]:
        """The settings that are not keys of the recipe."""
        return {key: value for key, value in self.settings.items() if "." not in key}

    def apply(self, recipe: Recipe, seed: int, labels: float, mixture: Path | None = None) -> Recipe:
        """Return the recipe of one run.

        Args:
            recipe: The one that all runs share.
            seed: Of the run.
            labels: Part of the training items to use.
            mixture: The file of a derived mixture.

        Returns:
            The recipe.

        Raises:
            RecipeError: the recipe has no key that the strategy changes, or the value does not fit it.
        """
        search = recipe.search.model_copy(update={"seed": seed, "label_fraction": labels})
        recipe = recipe.model_copy(
            update={"search": search, "tune": TuneSection()}
        )  # its ranges may not fit another space
        changes = {key: value for key, value in self.settings.items() if "." in key}
        supervised = self._supervise(recipe, seed, mixture)
        return supervised.override(changes) if changes else supervised

    def _supervise(self, recipe: Recipe, seed: int, mixture: Path | None) -> Recipe:
        """Give a recipe the strategy's space and weighting."""
        if self.name == DERIVED:
            assert mixture is not None
            return with_mixture(recipe, mixture, self.settings.get("weighting", "fixed"))
        if self.name in SPACES:
            plain = WeightingSection(name=self._weighting)
            return recipe.model_copy(update={"space": SpaceSection(name=self.name), "weighting": plain})
        own = recipe.weighting.settings if recipe.weighting.name == self.name else {}
        settings = own | self._own
        if self.name == "random" or "draw" in settings:
            settings = {"seed": seed} | settings
        return recipe.model_copy(update={"weighting": WeightingSection(name=self.name, **settings)})


def read_strategies(text: str) -> tuple[Strategy, ...]:
    """Read a list of strategies.

    Args:
        text: ``"last_layer,lookahead(rate=20,finest=0.3),torchjd:UW"``.

    Returns:
        The strategies.

    Raises:
        RecipeError: unknown names (the nearest is suggested) or settings, or a strategy named twice; all are listed.
    """
    try:
        parts = split_list(text)
    except ValueError as cause:
        raise RecipeError(f"the strategies cannot be read: {cause}", hint=_EXAMPLE) from None
    strategies, faults = [], []
    for part in parts:
        try:
            strategy = _strategy(part)
        except ValueError as cause:
            faults.append(f"{part}: {cause}")
            continue
        faults += [f"{part}: {fault}" for fault in _faults(strategy)]
        strategies.append(strategy)
    slugs = [strategy.slug for strategy in strategies]
    faults += [f"{slug}: named twice." for slug in sorted({slug for slug in slugs if slugs.count(slug) > 1})]
    if not parts:
        faults.append("none is named.")
    if faults:
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise RecipeError(
            "\n".join([f"the strategies have {count}.", *(f"  {fault}" for fault in faults)]), hint=_EXAMPLE
        )
    return tuple(strategies)


def needed(strategies: Sequence[Strategy]) -> tuple[Strategy, ...]:
    """Return what to run, in order: ``derived`` comes last, after the ``lookahead`` that it needs."""
    derived = [s for s in strategies if s.name == DERIVED]
    others = [s for s in strategies if s.name != DERIVED]
    if derived and not any(s.name == "lookahead" for s in others):
        others.append(Strategy("lookahead"))
    return (*others, *derived)


def _strategy(text: str) -> Strategy:
    """Read ``name`` or ``name(key=value,…)``, the values in TOML; ValueError where it is neither."""
    match = re.fullmatch(r"([\w:]+)(?:\((.*)\))?", text, re.DOTALL)
    if match is None:
        return Strategy(text)  # which no strategy is called
    settings: dict[str, Any] = {}
    for one in split_list(match[2] or ""):
        key, value = split_setting(one)
        if key in settings:
            raise ValueError(f"{key} is given twice.")
        settings[key] = toml_or_text(value)
    return Strategy(match[1], settings)


def _faults(strategy: Strategy) -> list[str]:
    if strategy.name == DERIVED:
        top = strategy.settings.get("top", 8)
        strange = [key for key in strategy._own if key not in ("top", "weighting")]
        faults = [f"{key}: unknown. {nearest(key, ['top', 'weighting'])}" for key in strange]
        if (how := strategy.settings.get("weighting", "fixed")) not in ("fixed", "anneal"):
            faults.append(f"weighting = {how!r}: fixed or anneal is needed.")
        if not isinstance(top, int) or top < 1:
            faults.append(f"top = {top!r}: a budget is a whole number of maps, at least 1.")
        return faults
    if strategy.name in SPACES:
        strange = [f"{key}: unknown. {nearest(key, ['weighting'])}" for key in strategy._own if key != "weighting"]
        kinds = [name for name in WEIGHTINGS if name != "fixed"]
        how = strategy._weighting
        return strange + ([] if how in kinds else [f"weighting = {how!r}: unknown. {nearest(how, kinds)}"])
    known = (*SPACES, DERIVED, *(name for name in WEIGHTINGS if name != "fixed"), "torchjd:UW")
    if strategy.name == "fixed" or (strategy.name not in known and ":" not in strategy.name):
        return [f"unknown. {nearest(strategy.name, known)}"]
    return weighting_faults(strategy.name, strategy._own)
