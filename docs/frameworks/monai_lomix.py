"""MONAI's SupervisedTrainer, with LoMix."""

import task
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer, default_prepare_batch

import lomix_search as lomix
from lomix_search.integrations.monai import LoMixHandler


def prepare_batch(batch, device, non_blocking, **kwargs):
    """Give the labels their axis for the channel."""
    images, labels = default_prepare_batch(batch, device, non_blocking, **kwargs)
    return images, labels[:, None]


network = task.network()
net = lomix.instrument(network, torch.zeros(1, 1, 128, 128))
loss = lomix.MixtureLoss.for_network(net)
optimizer = torch.optim.AdamW([{"params": net.parameters()}, *loss.parameter_groups()], lr=1e-3)
trainer = SupervisedTrainer(
    device="cpu",
    max_epochs=1,
    epoch_length=task.STEPS,
    train_data_loader=DataLoader(task.train_set(), batch_size=task.BATCH, shuffle=True, drop_last=True),
    prepare_batch=prepare_batch,
    network=net,
    optimizer=optimizer,
    loss_function=loss,
    train_handlers=[LoMixHandler(loss, net, path=None)],
)
trainer.run()
task.report(network)
