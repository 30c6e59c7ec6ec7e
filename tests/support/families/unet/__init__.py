"""Networks of one way down and one way up."""

from support.families.unet import (  # noqa: F401  each adds its own
    ascents,
    beside,
    between,
    blocks,
    branches,
    classic,
    conditions,
    cropped,
    endings,
    gone_up,
    levels,
    medical,
    mended,
    resampled,
    resized,
    scenes,
    shared,
    upsampling,
    worked,
    works_then_rises,
)
