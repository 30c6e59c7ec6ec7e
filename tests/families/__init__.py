"""Small networks of families that people publish, each in the style of its public implementations, in our own code.

Beside each: the decoder stages an expert names, coarse to fine, in the notation of tests/published/base.py.
"""

from families import classic, mixers, modern, odd, parallel, several, tokens  # noqa: F401  each adds its own
from families.base import FAMILIES

__all__ = ["FAMILIES"]
