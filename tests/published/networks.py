"""All of them, in one list."""

from published import generic, medical, small  # noqa: F401  each adds its own
from published.base import ZOO

__all__ = ["ZOO"]
