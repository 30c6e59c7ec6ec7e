"""
Find the decoder stages of a network
====================================

``instrument`` reads a network, finds the map with which its decoder finishes each resolution, and taps it by hooks.
Here it is MONAI's BasicUNet, untouched; the input is a slice of a real chest CT.
"""

import matplotlib.pyplot as plt
import torch
from monai.networks.nets import BasicUNet

import lomix_search as lomix
from lomix_search.data.kinds.chest_ct import ChestCTSettings, load_chest_ct

splits = load_chest_ct(ChestCTSettings(augment="none"))
image, label = splits.train[5]

torch.manual_seed(0)
unet = BasicUNet(spatial_dims=2, in_channels=1, out_channels=6, features=(8, 8, 16, 32, 64, 8))
net = lomix.instrument(unet, image[None])
print(net.stages)

# %%
# In eval mode nothing has changed, bit for bit; in train mode there is one map of logits for each stage.

assert torch.equal(net.eval()(image[None]), unet.eval()(image[None]))
print([tuple(logits.shape) for logits in net.train()(image[None])])

# %%
# What the network carries at each stage, before any training: the size of its features, coarse to fine.

with torch.no_grad():
    features = net.eval().stage_features(image[None])

figure, axes = plt.subplots(1, 5, figsize=(11, 2.8), layout="constrained")
axes[0].imshow(image[0], cmap="gray")
axes[0].set_title("CT slice")
for axis, stage, feature in zip(axes[1:], net.stages, features, strict=True):
    axis.imshow(feature[0].norm(dim=0), cmap="magma")
    axis.set_title(f"{stage.name}\n{stage.channels} × {stage.size[0]} × {stage.size[1]}", fontsize=10)
for axis in axes:
    axis.axis("off")

# %%
# ``strip`` gives the very object back.

assert net.strip() is unet
