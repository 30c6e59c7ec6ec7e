"""Networks whose levels are summed, refined or joined: pyramids and side outputs."""

from support.families.pyramid import again, brought, exchanged, headed, once_more, projected, refined, sequence, summed  # noqa: F401  each adds its own
