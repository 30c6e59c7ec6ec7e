"""A segmentation network in Lightning, as its users write it."""

# ruff: noqa: D101, D102

import task
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from monai.losses import DiceCELoss
from torch.utils.data import DataLoader


class Segmentation(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = task.network()
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        return self.loss(self.net(images), labels[:, None])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


seed_everything(task.SEED)
module = Segmentation()
trainer = Trainer(
    max_steps=task.STEPS,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
trainer.fit(module, DataLoader(task.train_set(), batch_size=task.BATCH, shuffle=True, drop_last=True))
task.report(module.net)
