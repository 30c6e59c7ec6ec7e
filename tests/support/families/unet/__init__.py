"""Networks of one way down and one way up."""

from support.families.unet import (  # noqa: F401  each adds its own
    ascents,
    beside,
    between,
    blocks,
    branches,
    classic,
    conditions,
    endings,
    levels,
    medical,
    mended,
    predicted,
    resampled,
    resized,
    scenes,
    shared,
    upsampling,
    worked,
)
