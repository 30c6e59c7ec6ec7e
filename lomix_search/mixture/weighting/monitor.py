"""Watches whether the weights select, and says once, in plain words, when they only shrink."""

from collections.abc import Sequence
from typing import Any

from lomix_search.mixture.map_weights import Concentration, concentration

SHRUNK = 0.8
"""Weights have shrunk when less than this part of their first sum is left …"""
EVEN = 0.95
"""… and do not select when more than this part of the first effective number of maps is left."""


class Monitor:
    """Watches the weights of one run. Constant weights, uniform or not, never set it off."""

    def __init__(self) -> None:
        self.first: Concentration | None = None
        self.warning = ""

    def look(self, weights: Sequence[float]) -> tuple[Concentration, str]:
        """Look at the weights of a step.

        Args:
            weights: w (m,), ≥ 0.

        Returns:
            How selective they are, and a warning. The warning is empty, except at the first step at which the weights
            are seen to shrink without selecting.
        """
        now = concentration(weights)
        first = self.first = self.first or now
        shrunk = now.total < SHRUNK * first.total
        if self.warning or not shrunk or now.effective_maps < EVEN * first.effective_maps:
            return now, ""
        self.warning = (
            f"the weights shrink without selecting: {1 - now.total / first.total:.0%} of their sum is gone, and they "
            f"still count as {now.effective_maps:.1f} equal maps of {len(weights)}. Their order says little, their "
            "size only how long training ran; the network trains as with equal weights. To let the weights select: "
            "weighting.name=lookahead (asks held-out data which maps help), or weighting.name=normalized; to spare "
            "the search: weighting.name=uniform or anneal."
        )
        return now, self.warning

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"first": self.first.model_dump() if self.first else None, "warning": self.warning}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        self.first = Concentration(**state["first"]) if state["first"] else None
        self.warning = state["warning"]
