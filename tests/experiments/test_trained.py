"""A finished run's network and its heads, for predictions by the finest map and by the sum of all stages."""

import shutil
from pathlib import Path

import pytest
import torch
from support.runs import run
from support.shapes import build

from lomix_search.errors import RunError
from lomix_search.experiments.trained import load_trained
from lomix_search.instrumentation.summed_stages import SummedStages
from lomix_search.training.checkpoint import read_tensors


def test_heads_are_kept_beside_the_networks(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    run(tmp_path, built=(net, loss), steps=5, validate_every=1)
    final, best = (read_tensors(tmp_path / f"{name}.heads.pt") for name in ("final", "best"))
    own = net.heads.state_dict()
    assert own and final.keys() == best.keys() == own.keys()
    assert all(torch.equal(final[key], own[key]) for key in own)


def test_the_recipe_says_what_predicts(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    finest = load_trained(folder, device="cpu")
    assert finest.predictor is finest.net
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("sum_stages = false", "sum_stages = true"))
    summed = load_trained(folder, device="cpu")
    assert isinstance(summed.predictor, SummedStages) and summed.predictor.net is summed.net
    kept, own = read_tensors(folder / "final.heads.pt"), summed.net.heads.state_dict()
    assert own and all(torch.equal(kept[key], own[key]) for key in own)
    (folder / "final.heads.pt").unlink()  # as a run of an earlier version
    with pytest.raises(RunError, match=r"holds no heads of its stages, which evaluate.sum_stages adds up"):
        load_trained(folder, device="cpu")
