"""
Predict and overlay
===================

A recipe is run to its end, and the trained network is loaded from the run folder, as a program would that has never
seen the training. What ``lomix run``, ``lomix predict`` and ``lomix report`` do, in Python.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.trained import load_trained
from lomix_search.recipe.recipe import load_recipe

recipe = load_recipe(
    "chest_ct",
    [
        "search.steps=50",
        "search.batch_size=2",
        "weighting.name=anneal",
        "network.args.features=[8,8,16,32,64,8]",
        "optimizer.lr=5e-3",
    ],
)
folder = Path(tempfile.mkdtemp()) / "run"
outcome = run_recipe(recipe, folder)
print("test Dice after 50 steps:", {name: round(scores.mean, 2) for name, scores in outcome.test.items()})
print(sorted(path.name for path in folder.iterdir()))

# %%
# Six test slices of the one patient. ``logits`` are those of the user's own network.

trained, splits = load_trained(folder), recipe.build_data()
images = torch.stack([splits.test[i][0] for i in range(0, 6, 2)])
truth = np.stack([splits.test[i][1] for i in range(0, 6, 2)])
with torch.no_grad():
    predicted = trained.net.logits(images).argmax(1).numpy()

figure, axes = plt.subplots(3, 3, figsize=(8, 8), layout="constrained")
for row, image, right, found in zip(axes, images[:, 0], truth, predicted, strict=True):
    for axis, overlay in zip(row, (None, right, found), strict=True):
        axis.imshow(image, cmap="gray")
        if overlay is not None:
            axis.imshow(
                np.ma.masked_equal(overlay, 0), cmap="Set1", alpha=0.55, vmin=1, vmax=9, interpolation="nearest"
            )
        axis.axis("off")
for axis, title in zip(axes[0], ("image", "truth", "prediction"), strict=True):
    axis.set_title(title)
