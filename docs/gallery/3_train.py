"""
Train with all maps at once
===========================

``search`` trains network, operators and weights together, validates on slices that it does not train on, writes
checkpoints and goes on where it was stopped. The recipe ``chest_ct`` says the same to the command line.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from monai.networks.nets import BasicUNet

import lomix_search as lomix
from lomix_search.data.kinds.chest_ct import ChestCTSettings, load_chest_ct
from lomix_search.training.trackers import read_lines

splits = load_chest_ct(ChestCTSettings(augment="none"))
train, val = ([(image[:, ::2, ::2], label[::2, ::2]) for image, label in part] for part in (splits.train, splits.val))
torch.manual_seed(0)
unet = BasicUNet(spatial_dims=2, in_channels=1, out_channels=6, features=(8, 8, 16, 32, 64, 8))
net = lomix.instrument(unet, train[0][0][None])
loss = lomix.MixtureLoss.for_network(net, weighting="anneal")
print(len(loss.maps), "maps, such as", ", ".join(one.id for one in loss.maps[::9]))

# %%
# Sixty steps at half the resolution, which is far too little for a result.

folder = Path(tempfile.mkdtemp())
settings = {"steps": 60, "batch_size": 4, "lr": 5e-3, "validate_every": 10, "schedule": "poly"}
result = lomix.search(net, loss, train, val, folder=folder, classes=splits.classes, progress=False, **settings)
print(f"validation Dice {result.final.mean:.2f}, best {result.best_dice:.2f} at step {result.best_step}")

# %%
# Everything is in ``metrics.jsonl``, a line a step. The total falls because weight moves to one map; Dice says how the
# network does.

lines = read_lines(folder / "metrics.jsonl")
steps = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
names = splits.classes[1:]
scores = [(line["step"], *(line[f"val/dice/{name}"] for name in names)) for line in lines if "val/dice" in line]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.plot(*zip(*steps, strict=True), color="#0072B2")
left.set(xlabel="step", ylabel="total loss", title="training", ylim=(0, None))
for name, column in zip(names, list(zip(*scores, strict=True))[1:], strict=True):
    right.plot([score[0] for score in scores], column, marker="o", ms=3, label=name)
right.set(xlabel="step", ylabel="Dice", title="validation slices", ylim=(0, 1))
right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
