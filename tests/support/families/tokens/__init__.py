"""Networks of tokens: transformers, scans, and maps with channels last."""

from support.families.tokens import bridges, decoders, ladders, scans  # noqa: F401  each adds its own
