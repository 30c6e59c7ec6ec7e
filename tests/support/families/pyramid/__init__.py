"""Networks whose levels are summed, refined or joined: pyramids and side outputs."""

from support.families.pyramid import (  # noqa: F401  each adds its own
    again,
    brought,
    exchanged,
    headed,
    in_turn,
    once_more,
    projected,
    refined,
    sequence,
    summed,
)
