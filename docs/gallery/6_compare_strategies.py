"""
Compare strategies
==================

Whether mixing helps is a question for your own data: same networks, same batches, same number of steps, several seeds.
``lomix compare`` does it with recipes and says what can be told apart; here is its idea in a few lines.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from monai.networks.nets import BasicUNet

import lomix_search as lomix
from lomix_search.data.kinds.chest_ct import ChestCTSettings, load_chest_ct

splits = load_chest_ct(ChestCTSettings(augment="none"))
train, val = ([(image[:, ::2, ::2], label[::2, ::2]) for image, label in part] for part in (splits.train, splits.val))
STRATEGIES = {
    "last layer": {"space": "last_layer", "weighting": "uniform"},
    "deep supervision": {"space": "deep_supervision", "weighting": "uniform"},
    "all maps, annealed": {"space": "lomix", "weighting": "anneal"},
}
SEEDS = (1, 2)


def score(strategy: dict[str, str], seed: int) -> float:
    """Train for a few steps and return the Dice on the validation slices."""
    torch.manual_seed(seed)
    unet = BasicUNet(spatial_dims=2, in_channels=1, out_channels=6, features=(8, 8, 16, 32, 64, 8))
    net = lomix.instrument(unet, train[0][0][None])
    loss = lomix.MixtureLoss.for_network(net, **strategy)
    settings = {"steps": 16, "batch_size": 4, "lr": 5e-3, "schedule": "poly", "seed": seed, "validate_every": 16}
    folder = Path(tempfile.mkdtemp())
    return lomix.search(net, loss, train, val, folder=folder, progress=False, **settings).final.mean


scores = {name: [score(strategy, seed) for seed in SEEDS] for name, strategy in STRATEGIES.items()}

# %%
# A line joins the scores of one seed: differences within a seed are what counts. Sixteen steps of a tiny network on one
# patient say nothing of any strategy; the picture is how to look.

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for i, seed in enumerate(SEEDS):
    axis.plot(list(scores), [values[i] for values in scores.values()], marker="o", label=f"seed {seed}")
axis.set(ylabel="validation Dice", title="16 steps each")
axis.legend()

# %%
# On the command line, with tests, intervals and a table::
#
#     lomix compare chest_ct --strategies last_layer,deep_supervision,anneal --seeds 6
