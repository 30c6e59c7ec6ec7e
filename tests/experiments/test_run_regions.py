"""Regions that overlap, from prepared data to the page of a run: named by the data or by the recipe."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from support.brain import LABELS, NETWORK, REGIONS, brain_recipe, head, prepared_brain, write_brain

from lomix_search.errors import DataError, LomixError, RecipeError, RunError
from lomix_search.evaluation.score_table import read_evaluation
from lomix_search.experiments.build import build_loss, build_net
from lomix_search.experiments.environment import read_environments
from lomix_search.experiments.evaluate_run import evaluate_run
from lomix_search.experiments.report.run_content import read_run_content
from lomix_search.experiments.report.run_page import run_page
from lomix_search.experiments.results import read_results
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.new import new_recipe
from lomix_search.recipe.recipe import load_recipe
from lomix_search.recipe.validate import validate_recipe
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.trackers import read_lines

NAMES = tuple(REGIONS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_brain(tmp_path_factory.mktemp("brain"), ignored=9)


def test_data_network_and_loss_of_a_recipe_agree(data: Path, tmp_path: Path) -> None:
    recipe = brain_recipe(tmp_path, data)
    splits = recipe.build_data()
    image, masks = splits.train[3]
    assert image.shape == (4, 32, 32) and masks.shape == (3, 32, 32) and splits.multilabel and splits.classes == NAMES
    assert (masks[:, :4, :4] == 9).all() and set(masks.unique().tolist()) == {0, 1, 9}
    net = build_net(recipe, splits)
    loss = build_loss(recipe, net, splits)
    assert loss.multilabel and loss.num_classes == net.num_classes == 3 and loss.ignore_index == 9
    maps = [one.detach() for one in net(image[None])]
    before = loss(maps, masks[None]).detach()
    maps[-1][..., :4, :4] += 5
    assert torch.equal(loss(maps, masks[None]).detach(), before), "nothing is learned from the corner"


@pytest.mark.slow
def test_validate_counts_each_region(data: Path, tmp_path: Path) -> None:
    recipe = brain_recipe(tmp_path, data)
    found = validate_recipe(recipe)
    assert found.faults == () and found.multilabel
    pixels = np.zeros(3)
    for index in range(len(recipe.build_data().train)):
        masks = recipe.build_data().train[index][1].numpy()
        pixels += (masks == 1).sum((1, 2)) / (masks[0] != 9).sum()
    assert [row.name for row in found.classes] == list(NAMES)
    expected = pixels / len(recipe.build_data().train)
    assert [row.pixels for row in found.classes] == pytest.approx(expected.tolist())
    assert {(row.cases, row.test_cases) for row in found.classes} == {(4, 2)}
    wrong = validate_recipe(brain_recipe(tmp_path / "wrong", data, ["network.args.classes=4"]))
    assert wrong.faults == ("network: Tiny returns 4 channels; the data has 3 regions, one channel each.",)


def test_a_network_with_a_background_is_refused_before_it_is_trained(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        run_recipe(brain_recipe(tmp_path, data, ["network.args.classes=4"]), tmp_path / "run")
    assert str(error.value) == (
        "the network returns 4 channels; the 3 regions need one channel each, and the background none.\n"
        "  Seen: regions whole tumour, core, enhancing\n"
        "  Try:  network.args.out_channels=3   # or what the network calls it"
    )
    assert not (tmp_path / "run/recipe.toml").exists()


@pytest.fixture(scope="module")
def learned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned something."""
    home = tmp_path_factory.mktemp("learned")
    changes = ["search.steps=60", "search.validate_every=30", "search.checkpoint_every=30"]
    run_recipe(brain_recipe(home / "recipe", data, changes), home / "run")
    return home / "run"


@pytest.mark.slow
def test_a_run_learns_regions_and_says_so_everywhere(learned: Path, data: Path) -> None:
    results = read_results(learned)["final"]
    assert results.multilabel and list(results.foreground) == list(NAMES) == list(results.per_class)
    assert results.mean is not None and results.mean > 0.7
    lines = [line for line in read_lines(learned / "metrics.jsonl") if "val/dice" in line]
    assert all({f"val/dice/{name}" for name in NAMES} < set(line) for line in lines)
    assert lines[-1]["val/dice"] == pytest.approx(np.mean([lines[-1][f"val/dice/{name}"] for name in NAMES]))
    found = evaluate_run(learned, overlays=1)
    assert found.classes == NAMES and found.mean("dice") > 0.7 and found.unit == "mm"
    assert read_evaluation(learned / "evaluation/final") == found
    saved = np.asarray(nib.load(next((learned / "evaluation/final/predictions").glob("*.nii.gz"))).dataobj)
    assert set(np.unique(saved)) == {0, 1, 2, 3}
    content = read_run_content(learned)
    page = run_page(content)
    assert content.classes == list(NAMES) and all(page.count(name) > 3 for name in NAMES)
    noted = read_environments(learned)[-1].learned
    assert noted is not None and noted.regions == REGIONS and noted.ignore_index == 9


@pytest.mark.slow
def test_a_network_of_other_regions_is_refused_by_name(learned: Path, data: Path) -> None:
    with pytest.raises(RunError) as error:
        evaluate_run(learned, changes=['data.regions={"core"=[2,3],"whole tumour"=[1,2,3],"enhancing"=["enhancing"]}'])
    assert str(error.value) == (
        f"the network in {learned} learned another task than the data have now.\n"
        "  Seen: then: regions whole tumour [1, 2, 3], core [2, 3], enhancing [3]; 9 ignored\n"
        "        now:  regions core [2, 3], whole tumour [1, 2, 3], enhancing [3]; 9 ignored\n"
        "  Try:  the recipe and the data as they were; or another folder, to train anew"
    )


@pytest.mark.slow
def test_a_run_with_regions_repeats_and_resumes_bit_for_bit(data: Path, tmp_path: Path) -> None:
    recipe = brain_recipe(tmp_path / "recipe", data, ["search.steps=6"])
    for name in ("one", "two"):
        run_recipe(recipe, tmp_path / name)

    def stop(step: int, dice: float) -> None:
        if step == 4:
            raise RunError("stopped")

    with pytest.raises(RunError, match="stopped"):
        run_recipe(recipe, tmp_path / "three", on_validate=stop)
    run_recipe(recipe, tmp_path / "three", resume=True)
    first = read_tensors(tmp_path / "one/final.pt")
    for name in ("two", "three"):
        other = read_tensors(tmp_path / name / "final.pt")
        assert all(torch.equal(first[key], other[key]) for key in first)
        assert (tmp_path / name / "mixture.json").read_bytes() == (tmp_path / "one/mixture.json").read_bytes()


@pytest.mark.slow
def test_data_whose_regions_changed_are_refused_when_a_run_goes_on(tmp_path: Path) -> None:
    out = prepared_brain(tmp_path / "own", 5)
    recipe = brain_recipe(tmp_path / "recipe", out)
    run_recipe(recipe, tmp_path / "run", score_test=False)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["regions"] = {"whole tumour": [1, 2, 3], "core": [2], "enhancing": [3]}
    (out / "manifest.json").write_text(json.dumps(manifest))
    more = brain_recipe(tmp_path / "recipe", out, ["search.steps=6"])
    with pytest.raises(RunError, match=r"core \[2, 3\], enhancing \[3\]\n +now:  regions whole tumour .*core \[2\]"):
        run_recipe(more, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.regions={whole=[1,5],core=[]}", "data.regions has 2 faults"),
        ("data.regions={whole=[1,9]}", "'whole': it holds 9, whose pixels count nowhere"),
        ('data.classes=["edema"]', "the recipe names classes and the prepared data name regions that overlap"),
        (
            "loss.ignore_index=255",
            "data.ignore = 9 (of the recipe, or of the data themselves), loss.ignore_index = 255",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused(change: str, message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        brain_recipe(tmp_path, data, [change]).build_data()
    assert message in str(error.value)


def test_the_recipe_decides_between_regions_and_classes(data: Path, tmp_path: Path) -> None:
    own = brain_recipe(tmp_path, data, ['data.regions={"any"=["edema","necrosis",3],"enhancing"=[3]}']).build_data()
    assert own.classes == ("any", "enhancing") and own.test[0][1].shape == (2, 32, 32)
    classes = brain_recipe(tmp_path, data, ["data.regions={}", 'data.classes=["edema","enhancing"]']).build_data()
    assert not classes.multilabel and classes.test[0][1].shape == (32, 32) and classes.ignore_index == 9
    assert set(classes.test[3][1].unique().tolist()) <= {0, 1, 2, 9}
    with pytest.raises(LomixError, match=r"data\.regions"):
        brain_recipe(tmp_path, data, ["data.regions={whole=[true]}"])


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_a_folder_of_nnunet_goes_all_the_way(dims: int, tmp_path: Path) -> None:
    """Regions, modalities and the ignored label come from its dataset.json."""
    raw = write_brain(tmp_path / "raw", 5, ignored=4, slices=8, size=32)
    home = new_recipe(tmp_path / "mine", raw, progress=False, dims=dims).parent
    (home / "network.py").write_text(NETWORK)
    small = [f"network={{build='network.py:build',args={{dims={dims}}}}}", "space.name=deep_supervision"]
    recipe = load_recipe(home, [*small, "search.steps=2", "search.validate_every=2", "search.batch_size=2"])
    splits = recipe.build_data()
    assert splits.regions == REGIONS and splits.ignore_index == 4 and splits.channels == 4
    found = validate_recipe(recipe)
    assert found.faults == () and [row.name for row in found.classes] == list(NAMES)
    run_recipe(recipe, tmp_path / "run")
    scores = evaluate_run(tmp_path / "run")
    assert scores.classes == NAMES and scores.unit == "mm"
    for case in splits.volumes["test"]:
        saved = np.asarray(nib.load(tmp_path / f"run/evaluation/final/predictions/{case.name}.nii.gz").dataobj)
        assert saved.shape == case.label.shape[::-1] and set(np.unique(saved)) <= {0, 1, 2, 3}
    assert "whole tumour" in run_page(read_run_content(tmp_path / "run"))


@pytest.mark.slow
def test_pictures_with_masks_of_several_values_go_all_the_way(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for seed in range(8):
        image, label = head(seed)
        shown = np.clip(40 * image[0, 3] + 60, 0, 255).astype(np.uint8)
        Image.fromarray(shown).save(tmp_path / f"images/{seed}.png")
        Image.fromarray(label[3]).save(tmp_path / f"masks/{seed}.png")
    options = {
        "classes": list(LABELS.values()),
        "regions": {"whole": ["edema", "necrosis", "enhancing"], "core": ["2", "3"]},
    }
    home = new_recipe(tmp_path / "mine", tmp_path / "images", tmp_path / "masks", progress=False, **options).parent
    (home / "network.py").write_text(NETWORK)
    small = ["network={build='network.py:build',args={channels=3,classes=2}}", "space.name=deep_supervision"]
    recipe = load_recipe(home, [*small, "search.steps=2", "search.validate_every=2", "search.batch_size=2"])
    assert validate_recipe(recipe).faults == ()
    run_recipe(recipe, tmp_path / "run")
    assert evaluate_run(tmp_path / "run", overlays=1).classes == ("whole", "core")
    written = sorted(path.name for path in (tmp_path / "run/evaluation/final/predictions").rglob("*.png"))
    assert set(written) == {"whole.png", "core.png"}, "2 and 3 cannot be told apart in one map"


OWN = """
import numpy as np

from lomix_search.data.case import Case
from lomix_search.data.dataset import Slices, Splits


def data():
    draw = np.random.default_rng(0)
    masks = np.zeros((8, 2, 32, 32), np.uint8)
    for one in masks:
        for mask in one:
            y, x = draw.integers(4, 14, 2)
            mask[y : y + 12, x : x + 12] = 1
    images = (masks.sum(1, keepdims=True) + draw.normal(0, 0.1, (8, 1, 32, 32))).astype(np.float32)

    def part(start, stop):
        cases = [f"case{i}" for i in range(start, stop)]
        return Slices(images[start:stop], masks[start:stop], cases, num_classes=2, multilabel=True)

    volumes = [Case(f"case{i}", images[i : i + 1], masks[i][:, None], (1.0, 1.0, 1.0)) for i in (6, 7)]
    return Splits(part(0, 4), part(4, 6), part(6, 8), ("heart", "lung"), 1, volumes={"test": volumes}, multilabel=True)
"""


@pytest.mark.slow
def test_masks_of_a_function_of_ones_own_go_all_the_way(data: Path, tmp_path: Path) -> None:
    """Organs seen through one another, which no class map holds."""
    brain_recipe(tmp_path, data)
    (tmp_path / "own.py").write_text(OWN)
    text = (tmp_path / "recipe.toml").read_text().partition("[network]")
    (tmp_path / "recipe.toml").write_text('[data]\nkind = "own.py:data"\n' + text[1] + text[2])
    recipe = load_recipe(tmp_path, ["network.args={channels=1,classes=2}"])
    found = validate_recipe(recipe)
    assert found.faults == () and [row.name for row in found.classes] == ["heart", "lung"]
    assert [row.pixels for row in found.classes] == pytest.approx([144 / 1024] * 2)
    run_recipe(recipe, tmp_path / "run")
    assert evaluate_run(tmp_path / "run", overlays=1).classes == ("heart", "lung")
    written = sorted(path.name for path in (tmp_path / "run/evaluation/final/predictions/case6").iterdir())
    assert written == ["heart.nii.gz", "lung.nii.gz"]
    with pytest.raises(DataError, match="label 1 cannot be ignored"):
        load_recipe(tmp_path, ["loss.ignore_index=1"]).build_data()
