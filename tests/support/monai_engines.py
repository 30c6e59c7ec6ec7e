"""Small pieces of a training with MONAI: labelled squares in dictionaries of MetaTensors, a network, a trainer."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from monai.data.dataloader import DataLoader
from monai.data.meta_tensor import MetaTensor
from monai.networks.nets.dynunet import DynUNet
from torch import nn

import lomix_search as lomix
from lomix_search.integrations.monai import LoMixHandler
from lomix_search.mixture.loss import MixtureLoss

EXAMPLE = torch.zeros(1, 1, 32, 32)


def dynunet(deep_supervision: bool = False) -> DynUNet:
    torch.manual_seed(1)
    return DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        kernel_size=[3, 3, 3, 3],
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2],
        filters=[4, 4, 4, 4],
        deep_supervision=deep_supervision,
        deep_supr_num=2,
    )


def items(count: int = 8) -> list[dict[str, MetaTensor]]:
    """Image (1, 32, 32) and class numbers (1, 32, 32) as MONAI's readers give them: float MetaTensors."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 32, 32, generator=generator)
    labels = (3 * torch.nn.functional.avg_pool2d(images, 5, 1, 2)).clamp(0, 2).round()
    return [{"image": MetaTensor(i), "label": MetaTensor(y)} for i, y in zip(images, labels, strict=True)]


def loader(count: int = 8) -> DataLoader:
    return DataLoader(items(count), batch_size=2)


def in_two_processes(act: Callable[[int], None], meeting: Path) -> None:
    """Run a function in two forks that know each other, as torchrun's processes do; fails where one of them does.

    Args:
        act: Gets the number of its process.
        meeting: A file that does not exist yet.
    """
    children = []
    for rank in (0, 1):
        if (child := os.fork()) == 0:
            failed = 1
            try:
                dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
                act(rank)
                failed = 0
            except BaseException:
                traceback.print_exc()
            os._exit(failed)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def trained_by(net: nn.Module, loss: MixtureLoss, lr: float = 1e-2) -> torch.optim.Optimizer:
    return torch.optim.Adam([{"params": net.parameters()}, *loss.parameter_groups()], lr=lr)


class Training:
    """An instrumented DynUNet in a SupervisedTrainer; its parts by the names that MONAI gives them."""

    def __init__(self, folder: Path, epochs: int = 2, weighting: str = "normalized", **options: Any) -> None:
        from monai.engines import SupervisedTrainer

        self.unet = dynunet()
        self.net = lomix.instrument(self.unet, EXAMPLE)
        wrap = options.pop("wrap", lambda net: net)
        self.loss = lomix.MixtureLoss.for_network(self.net, weighting=weighting)
        self.optimizer = trained_by(self.net, self.loss)
        self.lomix = LoMixHandler(self.loss, self.net, folder / "mixture.json", log_weights=True)
        handlers = [self.lomix, *options.pop("train_handlers", [])]
        arguments: dict[str, Any] = {
            "device": "cpu",
            "max_epochs": epochs,
            "train_data_loader": loader(),
            "network": wrap(self.net),
            "optimizer": self.optimizer,
            "loss_function": self.loss,
        }
        self.trainer = SupervisedTrainer(train_handlers=handlers, **(arguments | options))

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint of MONAI's holds."""
        return {"network": self.unet, "optimizer": self.optimizer, "trainer": self.trainer, "lomix": self.lomix}
