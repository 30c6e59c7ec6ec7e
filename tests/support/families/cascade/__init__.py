"""Networks of several U-Nets."""

from support.families.cascade import networks  # noqa: F401  each adds its own
