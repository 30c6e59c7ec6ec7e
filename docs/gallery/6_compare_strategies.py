"""
Compare strategies
==================

Whether mixing helps is a question for your own data: same networks, same batches, same number of steps, several seeds,
every test picture scored. What ``lomix prepare`` and ``lomix compare`` do, in Python.

Data: the grey pictures of `BBBC038 <https://bbbc.broadinstitute.org/BBBC038>`_, nuclei in fluorescence microscopy
(Data Science Bowl 2018, Caicedo et al. 2019, CC0). ``LOMIX_DATA=FOLDER`` says where they are: the folder that holds
``nuclei``, as the recipe ``nuclei`` says.
"""

# sphinx_gallery_thumbnail_path = "gallery/stored/6_compare_strategies.png"
import csv
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from lomix_search.data.prepare import prepare
from lomix_search.experiments.compare.runner import compare_strategies
from lomix_search.experiments.compare.strategies import read_strategies
from lomix_search.recipe.recipe import load_recipe

raw, home = Path(os.environ["LOMIX_DATA"]) / "nuclei", Path("nuclei")
prepare("nuclei", raw, home / "data", size=96, progress=False)  # lomix prepare nuclei RAW nuclei/data --size 96
small = ["data.size=96", "search.steps=30", "search.validate_every=30", "network.args.features=[8,8,16,32,64,8]"]
recipe = load_recipe("nuclei", [f"data.root={home / 'data'}", *small])
strategies = read_strategies("last_layer,anneal")
rows = compare_strategies(recipe, strategies, seeds=2, folder=home / "compare")
for row in rows:
    print(f"{row.strategy:10}", "test Dice of seeds 1 and 2:", *(f"{dice:.3f}" for dice in row.dice))
for name, pair in [(row.strategy, row.against.get("last_layer")) for row in rows]:
    if pair is not None:
        print(f"{name} − last_layer: {pair.difference:+.3f}, 95 % from {pair.low:+.3f} to {pair.high:+.3f}")

# %%
# Differences within a seed are what counts, and each picture has its own. Thirty steps of a small network say nothing
# of any strategy; these pictures are how to look.

with (home / "compare/cases.csv").open() as file:
    cases = {(one["strategy"], one["seed"], one["case"]): float(one["dice"]) for one in csv.DictReader(file)}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for i, seed in enumerate(("1", "2")):
    left.plot([row.strategy for row in rows], [row.dice[i] for row in rows], marker="o", label=f"seed {seed}")
    names = [case for strategy, of, case in cases if (strategy, of) == ("anneal", seed)]
    right.plot(np.sort([cases["anneal", seed, name] - cases["last_layer", seed, name] for name in names]))
left.set(ylabel="test Dice", xlim=(-0.3, 1.3), title="30 steps each")
right.axhline(0, color="#999999", lw=0.8, zorder=0)
right.set(xlabel="test pictures, sorted", ylabel="Dice, anneal − last_layer", title="picture by picture")
left.legend()
