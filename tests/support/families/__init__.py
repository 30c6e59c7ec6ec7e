"""Small networks of families that people publish, each in the style of its public implementations, in our own code.

Grouped by what the networks are. Beside each: the decoder stages an expert names, coarse to fine, in the notation of
tests/published/base.py, and the list that it was written for.
"""

from support.families import cascade, kinds, odd, pyramid, restoration, tokens, unet  # noqa: F401  each adds its own
from support.families.base import FAMILIES

__all__ = ["FAMILIES"]
