"""MONAI's SupervisedTrainer, as its users write it."""

import task
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer, default_prepare_batch
from monai.losses import DiceCELoss


def prepare_batch(batch, device, non_blocking, **kwargs):
    """Give the labels their axis for the channel."""
    images, labels = default_prepare_batch(batch, device, non_blocking, **kwargs)
    return images, labels[:, None]


network = task.network()
loss = DiceCELoss(to_onehot_y=True, softmax=True)
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
