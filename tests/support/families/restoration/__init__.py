"""Networks whose output is an image, a flow or a depth."""

from support.families.restoration import depth, diffusion, images, spectra  # noqa: F401  each adds its own
