"""
Tune what stands around the search
==================================

Learning rate, loss mix, operators, weighting, the network's width: an Optuna study in which every trial is a run of the
recipe. Ranges stand in the recipe, each under the key that it varies.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import optuna

import lomix_search as lomix
from lomix_search.recipe.recipe import load_recipe

optuna.logging.set_verbosity(optuna.logging.WARNING)
recipe = load_recipe(
    "chest_ct",
    [
        "search.steps=12",
        "search.batch_size=2",
        "search.validate_every=4",
        "network.args.features=[8,8,16,32,64,8]",
        "tune.sampler=random",
        'tune.ranges={"optimizer.lr"={low=1e-4,high=3e-2,log=true}, "weighting.name"={choices=["anneal","uniform"]}}',
    ],
)
study = lomix.tune(recipe, trials=5, folder=Path(tempfile.mkdtemp()) / "study")
for trial in study.trials:
    print(trial.number, round(trial.value, 3), trial.params)

# %%
# Five trials of twelve steps each; a study that is meant has more of both. ``lomix tune best`` writes the best trial as
# a recipe, ``lomix tune plot`` draws, any number of machines may join.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for trial in study.trials:
    left.plot(*zip(*sorted(trial.intermediate_values.items()), strict=True), marker="o", label=f"trial {trial.number}")
left.set(xlabel="step", ylabel="validation Dice", title="curve of each trial")
left.legend(fontsize=8)
rates = [trial.user_attrs.get("optimizer.lr", trial.params.get("optimizer.lr")) for trial in study.trials]
right.semilogx(rates, [trial.value for trial in study.trials], "o", color="#0072B2")
right.set(xlabel="optimizer.lr", ylabel="best validation Dice", title="what was tried")
