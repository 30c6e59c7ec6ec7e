"""What each back end can take. Known without importing it: Triton is slow to import, and not everywhere."""

NATIVE_CLASSES = 2**16 - 1
"""The C++ kernel multiplies sums over the classes of 8 pixels in float32 before it takes their logarithm."""
NATIVE_BY_PIXEL = ("focal_gamma", "label_smoothing")
"""Options that change each pixel's loss and that the C++ kernel computes; Triton's computes none."""
TRITON_MAPS = 6
"""Originals that the Triton kernels have arguments for."""
TRITON_CLASSES = 64
"""More would not stand in the registers of one tile."""
READ_COARSE = ("native",)
"""Back ends that interpolate coarse originals as they read them; the others get them at the labels' size."""
