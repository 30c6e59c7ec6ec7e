"""Graph → stages, coarse to fine."""

from lomix_search.instrumentation.stages.decoder import decoder_stages
from lomix_search.instrumentation.stages.find import FoundStages, find_stages
from lomix_search.instrumentation.stages.stage import Stage, Stages
from lomix_search.instrumentation.stages.taps import Tap, tap_of

__all__ = ["FoundStages", "Stage", "Stages", "Tap", "decoder_stages", "find_stages", "tap_of"]
