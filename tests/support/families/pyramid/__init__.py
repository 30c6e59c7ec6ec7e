"""Networks whose levels are summed, refined or joined: pyramids and side outputs."""

from support.families.pyramid import again, refined, sequence, summed  # noqa: F401  each adds its own
