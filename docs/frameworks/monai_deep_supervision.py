"""MONAI's SupervisedTrainer, with the deep supervision of MONAI itself."""

import task
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer, default_prepare_batch
from monai.losses import DeepSupervisionLoss, DiceCELoss


def prepare_batch(batch, device, non_blocking, **kwargs):
    """Give the labels their axis for the channel."""
    images, labels = default_prepare_batch(batch, device, non_blocking, **kwargs)
    return images, labels[:, None]


def loss(maps, labels):
    """Hand DynUNet's stacked maps over as the list that DeepSupervisionLoss takes."""
    return deep_supervision(list(maps.unbind(1)), labels)


network = task.network(deep_supervision=True)
deep_supervision = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
trainer = SupervisedTrainer(
    device="cpu",
    max_epochs=1,
    epoch_length=task.STEPS,
    train_data_loader=DataLoader(task.train_set(), batch_size=task.BATCH, shuffle=True, drop_last=True),
    prepare_batch=prepare_batch,
    network=network,
    optimizer=optimizer,
    loss_function=loss,
)
trainer.run()
task.report(network)
