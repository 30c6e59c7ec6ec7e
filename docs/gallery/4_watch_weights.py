"""
Watch the weights
=================

Three rules that make weights of the same losses, in a loop of one's own. The paper's lets every weight only fall, all
at nearly one speed; ``uncertainty`` goes to one over the loss; ``anneal`` is a schedule.
"""

import matplotlib.pyplot as plt
import torch
from monai.networks.nets import BasicUNet

import lomix_search as lomix
from lomix_search.data.kinds.chest_ct import ChestCTSettings, load_chest_ct

splits = load_chest_ct(ChestCTSettings(augment="none"))
items = [splits.train[i] for i in range(0, len(splits.train), 3)]
images, labels = torch.stack([image for image, _ in items]), torch.stack([label for _, label in items])
images, labels = images[..., 32:96, 32:96], labels[..., 32:96, 32:96]  # the middle of each slice
STEPS = 40


def weights_of(weighting: str) -> tuple[list[list[float]], lomix.MixtureLoss]:
    """Train a small network and return the weights of all maps at every step."""
    torch.manual_seed(0)
    unet = BasicUNet(spatial_dims=2, in_channels=1, out_channels=6, features=(8, 8, 16, 32, 64, 8))
    net = lomix.instrument(unet, images).train()
    loss = lomix.MixtureLoss.for_network(net, weighting=weighting)
    optimizer = torch.optim.AdamW([{"params": net.parameters()}, *loss.parameter_groups(weights_lr=0.02)], lr=5e-3)
    history = []
    for step in range(STEPS):
        loss.weighting.advance(step / STEPS)
        optimizer.zero_grad()
        loss(net(images), labels).backward()
        optimizer.step()
        history.append(loss.per_map.weights.tolist())
    return history, loss


# %%
# Each line is a map; the originals are bold, the finest one, which inference uses, is orange.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for axis, weighting in zip(axes, ("softplus", "uncertainty", "anneal"), strict=True):
    history, loss = weights_of(weighting)
    for column, one in enumerate(loss.maps):
        original, finest = one.operator == "original", one.id == "P4"
        style = {
            "color": "#D55E00" if finest else "#0072B2",
            "lw": 2 if original else 0.6,
            "alpha": 1 if original else 0.5,
        }
        axis.plot([weights[column] for weights in history], **style)
    axis.set(xlabel="step", title=weighting, yscale="log" if weighting == "anneal" else "linear")
axes[0].set_ylabel("weight of a map")
