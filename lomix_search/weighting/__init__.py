"""How raw parameters become the weights of the per-map losses, and the weighted losses one total."""

from lomix_search.weighting.base import (
    WEIGHTINGS,
    Weighting,
    build_weighting,
    check_weighting,
    weighting,
    weighting_faults,
)
from lomix_search.weighting.given import Fixed, random, uniform
from lomix_search.weighting.learned import Normalized, Softplus, Uncertainty
from lomix_search.weighting.lookahead import Lookahead
from lomix_search.weighting.monitor import Monitor
from lomix_search.weighting.scalarized import Scalarized
from lomix_search.weighting.schedule import Anneal

__all__ = [
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
    "check_weighting",
    "random",
    "uniform",
    "weighting",
    "weighting_faults",
]
