"""Graph → stages, coarse to fine."""

from lomix_search.instrumentation.stages.decoder import decoder_stages
from lomix_search.instrumentation.stages.find import find_stages
from lomix_search.instrumentation.stages.stage import Stage, Stages, Tap, tap_of

__all__ = ["Stage", "Stages", "Tap", "decoder_stages", "find_stages", "tap_of"]
