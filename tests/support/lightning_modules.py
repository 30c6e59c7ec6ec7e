"""LightningModules as their users write them, and a quiet Trainer; imported where Lightning is installed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from support.shapes import Shapes
from support.zoo import SmallUNet


class Segmentation(LightningModule):
    """The usual one."""

    def __init__(self, network: nn.Module | None = None, loss: Callable[..., Any] | None = None) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.net = network or SmallUNet(width=4)
        self.loss = loss or nn.CrossEntropyLoss()
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, _: int) -> Tensor:
        images, labels = batch
        return self.loss(self.net(images), labels)

    def validation_step(self, batch: Any, _: int) -> None:
        images, labels = batch
        logits = self.net(images)
        self.seen.append(logits)
        self.log("val", self.loss(logits, labels))

    test_step = validation_step

    def predict_step(self, batch: Any, _: int) -> Tensor:
        return self.net(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Scheduled(Segmentation):
    """With a schedule that cycles learning rate and momentum of every group it finds."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=40)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class Manual(Segmentation):
    """Manual optimization with two optimizers: a network, and a second one that learns to judge what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.judge = nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1))

    def training_step(self, batch: Any, _: int) -> None:
        images, labels = batch
        of_judge, of_net = self.optimizers()
        self.toggle_optimizer(of_judge)
        self.manual_backward(self.judge(self.net(images).detach()).square().mean())
        of_judge.step()
        of_judge.zero_grad()
        self.untoggle_optimizer(of_judge)
        self.toggle_optimizer(of_net)
        self.manual_backward(self.loss(self.net(images), labels))
        of_net.step()
        of_net.zero_grad()
        self.untoggle_optimizer(of_net)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.judge.parameters(), lr=0.1), torch.optim.AdamW(self.net.parameters(), lr=1e-2)


def smooth() -> nn.Module:
    """A network without layers that see other items of a batch."""
    torch.manual_seed(7)
    net = SmallUNet(width=4)
    net.dropout.p = 0.0
    for part in (*net.down, *net.up):
        part[0].bias = None  # under a norm it moves by rounding alone
        part[1] = nn.InstanceNorm2d(part[1].num_features, affine=True)
    return net


def shapes(batch: int = 4, count: int = 12) -> DataLoader[Any]:
    """The same batches in each epoch."""
    return DataLoader(Shapes(count, noise=0.0), batch_size=batch)


def trainer(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    """A Trainer that says nothing and keeps its files in a folder."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": False, "num_sanity_val_steps": 0, "max_epochs": 2, "default_root_dir": folder}
    return Trainer(callbacks=list(callbacks), **(quiet | options))
