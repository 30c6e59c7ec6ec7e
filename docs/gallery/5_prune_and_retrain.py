"""
Prune a mixture and train again
===============================

What a search found is a value: maps with weights. It can be read, saved, cut down to its strongest maps, and trained
with from scratch, at a fraction of the cost.
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
settings = {"steps": 40, "batch_size": 4, "lr": 5e-3, "validate_every": 40, "schedule": "poly", "progress": False}


def network() -> lomix.Instrumented:
    """Return a new network, always the same."""
    torch.manual_seed(0)
    unet = BasicUNet(spatial_dims=2, in_channels=1, out_channels=6, features=(8, 8, 16, 32, 64, 8))
    return lomix.instrument(unet, train[0][0][None])


net = network()
loss = lomix.MixtureLoss.for_network(net, weighting="uncertainty")
found = lomix.search(net, loss, train, val, folder=Path(tempfile.mkdtemp()), **settings)
print(found.mixture.table(top=5))

# %%
# The eight strongest maps, with the finest original, which inference uses.

small = found.mixture.prune(top=8)
print(small)

# %%
# Trained from scratch with these alone: no other map is computed any more.

net = network()
loss = lomix.MixtureLoss.from_mixture(small)
again = lomix.search(net, loss, train, val, folder=Path(tempfile.mkdtemp()), **settings)
lines = [line for line in read_lines(again.folder / "metrics.jsonl") if "mixture/per_map" in line]

ranked = found.mixture.ranked()
colours = ["#D55E00" if m.id in small.weights else "#bbbbbb" for m in ranked]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(2, 1), layout="constrained")
left.bar(range(len(ranked)), [m.weight for m in ranked], color=colours)
left.set_xticks(range(len(ranked)), [m.id for m in ranked], rotation=90, fontsize=7)
left.set(ylabel="weight", title="48 maps by weight; orange: the eight that are kept")
for name, values in zip(loss.map_ids, zip(*(line["mixture/per_map"] for line in lines), strict=True), strict=True):
    right.plot([line["step"] for line in lines], values, label=name)
right.set(xlabel="step", ylabel="loss of a map", title="trained anew with the eight")
right.legend(fontsize=7)
