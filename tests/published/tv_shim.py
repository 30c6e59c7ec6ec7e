"""PyPI torchvision wheels are CUDA builds: _C.so cannot be loaded beside CPU torch (needs libtorch_cuda.so), and the
two unguarded register_fake() calls (torchvision::nms, torchvision::qnms) then make `import torchvision` fail.
Declaring those two schemas first is enough for everything that does not use the C++ ops (nms, roi_align, io).
Beside a CUDA torch the real library is loaded, which aborts where it finds them declared."""

import contextlib

import torch

_keep = torch.library.Library("torchvision", "FRAGMENT")
for _n in ("nms", "qnms") if torch.version.cuda is None else ():
    with contextlib.suppress(RuntimeError):
        _keep.define(_n + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
