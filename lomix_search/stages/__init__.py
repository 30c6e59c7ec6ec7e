"""Graph → stages, coarse to fine."""

from lomix_search.stages.detect import decoder_stages
from lomix_search.stages.find import find_stages
from lomix_search.stages.stage import Stage, Stages, Tap, tap_of

__all__ = ["Stage", "Stages", "Tap", "decoder_stages", "find_stages", "tap_of"]
