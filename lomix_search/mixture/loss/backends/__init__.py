"""The machines under the fused loss: plain PyTorch, C++ and Triton, which all compute the same two passes."""
