"""Learn how the multi-scale outputs of any U-shaped segmentation network should be mixed in training.

The whole public surface is what this module exports; everything else is importable from its own module.
"""

__version__ = "0.1.0"
