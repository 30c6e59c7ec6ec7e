"""For processes of other packages' commands that tests start, in whose PYTHONPATH this folder stands.

torchvision comes as a CUDA build: beside a torch without CUDA it is imported only where two of its operators are
declared first. ``LOMIX_ABSENT`` hides lomix_search, as where it was never installed. ``ONE_CORE``: nnU-Net takes a
thread for each core, and on busy cores these wait for one another, many times as long (OMP_THREAD_LIMIT=1 makes oneDNN
hang); and its processes are forks, as each of them would import all anew, for eight seconds.
"""

import importlib.abc
import importlib.machinery
import multiprocessing
import os
import sys
from collections.abc import Sequence
from types import ModuleType


class _Before(importlib.abc.MetaPathFinder):
    """Sees every import before it happens, and finds nothing itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == "lomix_search" and os.environ.get("LOMIX_ABSENT"):
            raise ModuleNotFoundError("lomix_search is hidden", name=name)
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "FRAGMENT")
                sys._torchvision_operators = library  # type: ignore[attr-defined]  # as long as the process lives
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.meta_path.insert(0, self)
        return None


sys.meta_path.insert(0, _Before())
if os.environ.get("ONE_CORE"):
    os.cpu_count = lambda: 1
    forks = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forks  # type: ignore[assignment, return-value]
