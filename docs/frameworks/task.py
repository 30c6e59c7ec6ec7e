"""The task that every framework's script trains: slices of one real chest CT, five structures.

The scripts beside this file differ only in the framework. ``STEPS``, ``SEED`` and ``REPORT`` (a file for the numbers)
come from the environment, so that the benchmark and the tests run them as they stand.
"""

import json
import os
import resource
import time
from pathlib import Path

import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.utils.data import Dataset

from lomix_search.data.kinds.chest_ct import ChestCTSettings, load_chest_ct
from lomix_search.evaluation.dice_meter import DiceMeter

STEPS = int(os.environ.get("STEPS", "250"))
SEED = int(os.environ.get("SEED", "0"))
BATCH = 4
CLASSES = 6

torch.manual_seed(SEED)
_SPLITS = load_chest_ct(ChestCTSettings())
_BEGAN = time.monotonic()
_BEFORE = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # what imports and data took


def train_set() -> Dataset[tuple[Tensor, Tensor]]:
    """Pairs of an image, float32 (1, 128, 128) in [0, 1], and class numbers, int64 (128, 128)."""
    return _SPLITS.train


def network(deep_supervision: bool = False) -> nn.Module:
    """A U-Net of MONAI's that decodes three levels; with deep supervision it returns all of them in training."""
    return DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=CLASSES,
        kernel_size=[3, 3, 3, 3],
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2],
        filters=[16, 32, 64, 128],
        deep_supervision=deep_supervision,
        deep_supr_num=2,
    )


@torch.no_grad()
def report(net: nn.Module) -> None:
    """Print Dice on the six test slices, seconds a step with all round it, and the memory that training took."""
    seconds, meter = time.monotonic() - _BEGAN, DiceMeter(_SPLITS.classes)
    net.eval()
    for index in range(len(_SPLITS.test)):
        image, label = _SPLITS.test[index]
        meter.update(net(image[None]).argmax(1), label[None], [_SPLITS.test.cases[index]])
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - _BEFORE) / 1024
    said = {"dice": meter.result().mean, "seconds_per_step": seconds / STEPS, "peak_mib": peak}
    print(", ".join(f"{key} {value:.4g}" for key, value in said.items()))
    if path := os.environ.get("REPORT"):
        Path(path).write_text(json.dumps(said))
