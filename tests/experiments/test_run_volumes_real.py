"""Some volumes of hippocampus and some pictures of nuclei, as users have them, through the shipped recipes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from lomix_search.data.prepare import prepare
from lomix_search.experiments.evaluate_run import evaluate_run
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

DATA = Path(os.environ.get("LOMIX_DATA", "nowhere"))
SMALL = {
    "hippocampus": ("labels", ["data.size=[32, 32, 32]", "network.args.filters=[4, 8, 8, 8]"]),
    "nuclei": ("masks", ["network.args.features=[4, 4, 4, 4, 4, 4]", "data.size=64"]),
}


@pytest.mark.parametrize("name", SMALL)
def test_some_of_the_real_files_go_the_whole_way(name: str, tmp_path: Path) -> None:
    labels, changes = SMALL[name]
    for folder in ("images", labels):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        for path in sorted(p for p in (DATA / name / folder).iterdir() if not p.name.startswith("."))[:20]:
            shutil.copy(path, tmp_path / "raw" / folder)
    size = {"size": 64} if name == "nuclei" else {}
    manifest = prepare(name, tmp_path / "raw", tmp_path / "data", workers=1, progress=False, **size)
    assert len(manifest.cases) == 20
    few = ["search.steps=4", "search.validate_every=4", "search.checkpoint_every=4", f"data.root={tmp_path / 'data'}"]
    recipe = load_recipe(name, [*changes, *few])
    assert validate_recipe(recipe).faults == ()
    run_recipe(recipe, tmp_path / "run", score_test=False)
    scores = evaluate_run(tmp_path / "run")
    assert len(scores.cases) == 4 and np.isfinite(scores.matrix("dice")).all()
