"""A recipe that trains blocks of volumes, from validate to evaluate, at the command line and with looks."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.volume_files import cases, prepared, volume_recipe
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.errors import DataError
from lomix_search.experiments.evaluate_run import evaluate_run
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of two spacings and their recipe."""
    home = tmp_path_factory.mktemp("volumes")
    given = [*cases(8), *(type(c)(f"d{c.name}", c.image, c.label, (1.0, 1.0, 2.0)) for c in cases(2))]
    out, _ = prepared(home, given)
    volume_recipe(home, out)
    return home


@pytest.mark.slow
def test_blocks_that_no_volume_fills_are_refused_before_training(home: Path, tmp_path: Path) -> None:
    recipe = load_recipe(home, ["data.size=[8, 32, 12]"])
    found = validate_recipe(recipe, network=False)
    assert found.faults[0].startswith("blocks of 8 × 32 × 12 are larger than every case along rows")
    with pytest.raises(DataError, match="are larger than every case along rows"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run/recipe.toml").exists()
    told = validate_recipe(load_recipe(home), network=False)
    assert told.spacing == "1 × 1 × 1–2 mm, brought to 1 × 1 × 1 mm"
    assert told.padding.startswith("4 of 6 cases are smaller than a block of 8 × 16 × 12 and are padded; most c0")


@pytest.mark.slow
def test_validate_run_and_evaluate_at_the_command_line(home: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    for words in (
        ["validate", str(home)],
        ["run", str(home), "--folder", folder],
        ["evaluate", folder],
        ["doctor", "monai.networks.nets:DynUNet", "spatial_dims=3", "in_channels=1", "out_channels=3",
         "kernel_size=[3,3,3]", "strides=[1,2,2]", "upsample_kernel_size=[2,2]", "filters=[4,8,8]",
         "--example", "2,1,8,16,12"],
    ):  # fmt: skip
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum("val/dice" in line for line in lines) == 2
    written = list((tmp_path / "run" / "evaluation" / "final" / "predictions").iterdir())
    assert len(written) == 2 and (tmp_path / "run" / "seen.npz").is_file()


@pytest.mark.slow
def test_validation_is_what_evaluation_finds(home: Path, tmp_path: Path) -> None:
    """On volumes of two spacings, each scored on its own grid."""
    result = run_recipe(load_recipe(home, ["search.steps=2"]), tmp_path / "run", score_test=False).result
    found = evaluate_run(tmp_path / "run", subset="val")
    for name in ("one", "two"):
        scored = float(np.mean([row.scores["dice"] for row in found.rows if row.label == name]))
        assert result.final is not None and abs(scored - result.final.per_class[name]) < 1e-6


@pytest.mark.slow
def test_a_run_repeats_with_looks_and_augmentation(home: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        home, ["weighting.name=lookahead", "weighting.interval=2", 'data.flip=["columns"]', "data.augment=volume"]
    )
    for name in "ab":
        run_recipe(recipe, tmp_path / name, score_test=False)
    weights = [(tmp_path / name / "final.pt").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_regions_of_volumes_are_learned(home: Path, tmp_path: Path) -> None:
    changes = [
        "data.classes=",
        'data.regions={"whole" = [1, 2], "core" = [2]}',
        "network.args.out_channels=2",
        "search.steps=2",
    ]
    recipe = load_recipe(home, changes)
    assert validate_recipe(recipe).faults == ()
    run_recipe(recipe, tmp_path / "run", score_test=False)
    assert evaluate_run(tmp_path / "run").rows
