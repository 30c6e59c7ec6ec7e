"""Writes the text of the Triton kernels for one shape of problem: ``triton_kernels`` loads what these return."""
