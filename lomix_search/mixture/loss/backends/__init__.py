"""The back ends of the fused loss, plain PyTorch, C++ and Triton: all compute the same two passes.

A back end has ``sums`` (pass 1) and ``gradients`` (pass 2), both of which take a ``KernelPlan``.
"""
