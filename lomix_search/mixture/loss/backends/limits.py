"""What each back end can take. Known without importing it: Triton is slow to import, and not everywhere."""

NATIVE_CLASSES = 2**16 - 1
"""The C++ kernel multiplies sums over the classes of 8 pixels in float32 before it takes their logarithm."""
TRITON_MAPS = 8
"""More originals were never tried with the Triton kernels, which are written out for each scale."""
TRITON_CLASSES = 64
"""More are not written out: compiling takes minutes, and a map does not stand in the registers of a lane."""
READ_COARSE = ("native", "triton")
"""Back ends that interpolate coarse originals as they read them; the others get them at the labels' size."""
