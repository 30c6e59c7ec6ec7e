"""Networks that write in their forward pass where they should not; ``HOSTILE`` holds each by its name.

``weights`` change parameters and buffers; ``objects`` plain Python objects and generators; ``beyond_copies`` what a
deep copy shares with its original; ``inputs`` the tensors that they are given.
"""

from support.hostile import weights, objects, beyond_copies, inputs  # noqa: F401, I001  in the order of HOSTILE
from support.hostile.base import HOSTILE
from support.hostile.inputs import Batch, Boxed, Pair

__all__ = ["HOSTILE", "Batch", "Boxed", "Pair"]
