"""Networks of one way down and one way up."""

from support.families.unet import beside, blocks, branches, classic, levels, medical, mended, scenes, shared, upsampling  # noqa: F401  each adds its own
