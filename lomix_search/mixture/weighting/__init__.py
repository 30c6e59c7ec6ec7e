"""Weightings: how raw parameters become the weights of the per-map losses, and the weighted losses one total.

One loss a map goes in, the total comes out. A new weighting is one ``@weighting`` class or function.
"""

from lomix_search.mixture.weighting.base import (
    WEIGHTINGS,
    Weighting,
    build_weighting,
    weighting,
    weighting_family,
    weighting_faults,
    weighting_settings,
)
from lomix_search.mixture.weighting.given import Fixed, random_weights, uniform_weights
from lomix_search.mixture.weighting.learned import Normalized, Softplus, Uncertainty
from lomix_search.mixture.weighting.lookahead import Lookahead
from lomix_search.mixture.weighting.monitor import Monitor
from lomix_search.mixture.weighting.recommended import RECOMMENDED, recommended_weighting, resolved_weighting
from lomix_search.mixture.weighting.scalarized import Scalarized
from lomix_search.mixture.weighting.schedule import Anneal

__all__ = [
    "RECOMMENDED",
    "WEIGHTINGS",
    "Anneal",
    "Fixed",
    "Lookahead",
    "Monitor",
    "Normalized",
    "Scalarized",
    "Softplus",
    "Uncertainty",
    "Weighting",
    "build_weighting",
    "random_weights",
    "recommended_weighting",
    "resolved_weighting",
    "uniform_weights",
    "weighting",
    "weighting_family",
    "weighting_faults",
    "weighting_settings",
]
