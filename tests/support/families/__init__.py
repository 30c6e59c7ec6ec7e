"""Small networks of families that people publish, each in the style of its public implementations, in our own code.

Beside each: the decoder stages an expert names, coarse to fine, in the notation of tests/published/base.py.
"""

from support.families import (  # noqa: F401  each adds its own; the third list was written after the rules
    classic,
    eighth,
    fourth,
    fourth_images,
    fourth_scenes,
    fourth_tokens,
    mixers,
    modern,
    ninth,
    odd,
    parallel,
    seventh,
    several,
    sixth,
    third,
    third_fused,
    third_more,
    third_odd,
    third_tokens,
    tokens,
)
from support.families.base import FAMILIES

__all__ = ["FAMILIES"]
