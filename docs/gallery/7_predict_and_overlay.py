"""
Predict and overlay, in 3D
==========================

Volumes of a public set, from its files to predictions beside the truth: what ``lomix prepare``, ``lomix run`` and
``lomix predict`` do, in Python.

Data: Task04_Hippocampus of the `Medical Segmentation Decathlon <http://medicaldecathlon.com>`_, 260 MR volumes, 28 MB
(Antonelli et al. 2022, CC BY-SA 4.0; so are the pictures below). ``LOMIX_DATA=FOLDER`` says where it is: the folder
that holds ``hippocampus`` with ``imagesTr`` and ``labelsTr`` in it.
"""

# sphinx_gallery_thumbnail_path = "gallery/stored/7_predict_and_overlay.png"
import os
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np

from lomix_search.data.prepare import prepare
from lomix_search.experiments.predict.predict_images import predict_images
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import load_recipe

raw, home = Path(os.environ["LOMIX_DATA"]) / "hippocampus", Path("hippocampus")
prepare("hippocampus", raw, home / "data", progress=False)  # lomix prepare hippocampus RAW hippocampus/data
small = ["search.steps=80", "search.batch_size=1", "search.validate_every=80", "network.args.filters=[8,16,32,64]"]
recipe = load_recipe("hippocampus", [f"data.root={home / 'data'}", *small])
scores = run_recipe(recipe, home / "run").test["final"]
print(f"test Dice of {len(scores.cases)} volumes after 80 steps")
for name in scores.foreground:
    print(f"  {name:22} {scores.per_class[name]:.2f}")

# %%
# Eighty steps of a small network; the recipe takes 3,000 of a wider one. The first test volume is now segmented as a
# new one would be, from its file to a NIfTI file with the same header.

case = scores.cases[0]
(image,) = (path for path in raw.rglob(f"{case}.nii.gz") if "image" in path.parent.name)
(truth,) = (path for path in raw.rglob(f"{case}.nii.gz") if "label" in path.parent.name)
predict_images([home / "run"], image, home / "predicted")
volumes = [np.asarray(nib.load(path).dataobj) for path in (image, truth, home / "predicted" / image.name)]

# %%
# Each row is a plane through the middle of the structure: red its anterior part, blue the posterior one.

middle = [int(places.mean()) for places in np.nonzero(volumes[1])]
figure, axes = plt.subplots(3, 3, figsize=(8, 8), layout="constrained")
for row, (axis_number, plane) in zip(axes, enumerate(("sagittal", "coronal", "axial")), strict=True):
    picture, *overlays = (np.take(volume, middle[axis_number], axis_number).T for volume in volumes)
    for axis, overlay in zip(row, (None, *overlays), strict=True):
        axis.imshow(picture, cmap="gray", origin="lower")
        if overlay is not None:
            shown = np.ma.masked_equal(overlay, 0)
            axis.imshow(shown, cmap="Set1", alpha=0.5, vmin=1, vmax=9, origin="lower", interpolation="nearest")
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(plane)
for axis, title in zip(axes[0], ("image", "truth", "prediction"), strict=True):
    axis.set_title(title)
