"""Offline twins of every benchmark through the whole path: prepare, validate, search, evaluate, export."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from support import twins
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.data.prepare import prepare
from lomix_search.errors import DataError
from lomix_search.evaluation.score_table import read_evaluation
from lomix_search.experiments.run import run_recipe
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.recipe.validate import validate_recipe
from lomix_search.utils.shipped import shipped_files, shipped_folder

EVERYBODY = [*twins.ACDC.train, *twins.ACDC.val, *twins.ACDC.test]

BENCHMARKS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "synapse": ("synapse", lambda root: twins.synapse_raw(root, size=32)),
    "synapse13": ("synapse", lambda root: twins.synapse_raw(root, size=32)),
    "acdc": ("acdc", lambda root: twins.acdc_raw(root, EVERYBODY, size=16)),
    "polyp": ("polyp", lambda root: twins.polyp_raw(root, train=12)),
    "isic2018": ("isic2018", twins.isic_raw),
    "busi": ("busi", twins.busi_raw),
    "chest_nodules": ("chest_nodules", twins.nodules_raw),
}
RGB = ("polyp", "isic2018", "busi")


def changes(name: str, root: Path, network: bool = False, size: int = 32) -> list[str]:
    """Changes of the shipped recipe: its twin, two steps, and a tiny network unless the recipe's own is tried."""
    found = [f"data.root={root}", f"data.size={size}", "search.steps=2", "search.batch_size=2", "search.workers=0"]
    found += ["search.validate_every=2", "search.checkpoint_every=2"]
    if network:
        return [*found, "network.args.widths=[8, 16, 40, 64]", "network.args.depths=[1, 1, 1, 1]"]
    tiny = ["network.build=monai.networks.nets:BasicUNet", "network.args.spatial_dims=2"]
    tiny += ["network.stages="] if load_recipe(name).network.stages else []
    channels = 3 if name in RGB else 1
    return [*found, *tiny, f"network.args.in_channels={channels}", "network.args.features=[4, 4, 4, 4, 4, 4]"]


def small(name: str, root: Path, network: bool = False, size: int = 32) -> Recipe:
    return load_recipe(name, changes(name, root, network, size))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function (name, size) → prepared folder; each is written once."""
    done: dict[tuple[str, int], Path] = {}

    def of(name: str, size: int = 32) -> Path:
        benchmark, write = BENCHMARKS[name]
        if (benchmark, size) not in done:
            folder = tmp_path_factory.mktemp(benchmark)
            prepare(benchmark, write(folder / "raw"), folder / "out", size=size, progress=False)
            done[benchmark, size] = folder / "out"
        return done[benchmark, size]

    return of


@pytest.mark.parametrize("name", [n if n == "polyp" else pytest.param(n, marks=pytest.mark.slow) for n in BENCHMARKS])
def test_the_whole_path(name: str, tmp_path: Path) -> None:
    """What a user types: prepare, validate, run, evaluate."""
    benchmark, write = BENCHMARKS[name]

    def lomix(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    lomix("prepare", benchmark, write(tmp_path / "raw"), tmp_path / "out", "--size", 32)
    given = changes(name, tmp_path / "out")
    assert "fault:" not in lomix("validate", name, *given)
    lomix("run", name, *given, "--folder", tmp_path / "run")
    assert len(Mixture.load(tmp_path / "run" / "mixture.json").weights) > 4
    lomix("evaluate", tmp_path / "run", "--overlays", 2)
    recipe, home = load_recipe(tmp_path / "run" / "recipe.toml"), tmp_path / "run" / "evaluation" / "final"
    scores = read_evaluation(home)
    splits = recipe.build_data()
    assert scores.protocol == recipe.evaluate.protocol and scores.cases == tuple(dict.fromkeys(splits.test.cases))
    assert scores.classes == splits.classes[1:] and np.isfinite(scores.matrix("dice")).all()
    files = [path for path in (home / "predictions").rglob("*") if path.is_file()]
    assert len(files) == len(scores.cases) and len(list((home / "overlays").rglob("*.png"))) == min(2, len(files))


@pytest.mark.slow
def test_one_command_sweeps_label_fractions(prepared: Callable[..., Path], tmp_path: Path) -> None:
    given = changes("polyp", prepared("polyp"))
    result = CliRunner().invoke(
        app, ["run", "polyp", *given, "--label-fraction", "0.5,1.0", "--folder", str(tmp_path)], catch_exceptions=False
    )
    assert result.exit_code == 0 and "share of patients" in result.output
    half, whole = (load_recipe(tmp_path / f"fraction_{f}" / "recipe.toml").build_data().train.cases for f in (0.5, 1.0))
    assert set(half) < set(whole)


@pytest.mark.paper
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "chest_nodules"])
def test_the_papers_network(name: str, prepared: Callable[..., Path], tmp_path: Path) -> None:
    recipe = small(name, prepared(name, 64), network=True, size=64)  # at stride 32, one pixel has no variance to norm
    validate_recipe(recipe, hashes=False).check()
    outcome = run_recipe(recipe, tmp_path / "run", console=Console(quiet=True))
    assert outcome.result.mixture.num_maps == 4


@pytest.mark.paper
@pytest.mark.slow
def test_the_papers_network_has_the_papers_size() -> None:
    """26.77 million parameters, 1.9 of them in the decoder, 4.40 GMAC at 224 × 224: as the authors' network."""
    from torch.utils.flop_counter import FlopCounterMode

    network: Any = load_recipe("synapse").build_network().eval()
    total = sum(p.numel() for p in network.parameters())
    decoder = total - sum(p.numel() for p in network.encoder.parameters())
    assert round(total / 1e6, 2) == 26.77 and round(decoder / 1e6, 1) == 1.9
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(torch.zeros(1, 1, 224, 224)).shape == (1, 9, 224, 224)
    assert round(counter.get_total_flops() / 2e9, 2) == 4.40


@pytest.mark.paper
@pytest.mark.slow
def test_the_papers_network_bears_images_that_are_mostly_nothing() -> None:
    """Air clipped to 0: with PVTv2's own start the gradient was infinite at the first step."""
    torch.manual_seed(0)
    small = {"network.args.widths": [8, 16, 40, 64], "network.args.depths": [2, 2, 2, 2]}
    network = load_recipe("synapse").override(small).build_network()
    image = torch.zeros(2, 1, 64, 64)
    image[:, :, 20:40, 20:40] = torch.rand(2, 1, 20, 20)
    network(image).square().mean().backward()
    norms = {name: p.grad.norm().item() for name, p in network.named_parameters() if p.grad is not None}
    assert max(norms.values()) < 1000, max(norms, key=lambda name: norms[name])


@pytest.mark.paper
@pytest.mark.slow
def test_pretrained_weights_come_from_a_local_file(tmp_path: Path) -> None:
    """The file that transformers writes for the classifier which was trained on ImageNet."""
    models: Any = importlib.import_module("transformers.models.pvt_v2")
    sizes: dict[str, Any] = {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]}
    heads = {"num_attention_heads": [1, 2, 5, 8], "mlp_ratios": [8, 8, 4, 4]}
    trained = models.PvtV2ForImageClassification(models.PvtV2Config(**sizes, **heads))
    trained.save_pretrained(tmp_path)
    given = [f"network.args.weights={tmp_path / 'model.safetensors'}", "network.args.widths=[16, 32, 40, 64]"]
    network: Any = load_recipe("synapse", [*given, "network.args.depths=[1, 1, 1, 1]"]).build_network()
    ours = network.encoder.state_dict()
    assert len(ours) > 50 and all(torch.equal(ours[key], trained.pvt_v2.state_dict()[key]) for key in ours)
    with pytest.raises(DataError) as caught:
        load_recipe("synapse", given).build_network()  # PVTv2-B2's depths do not fit
    assert "does not fit the encoder" in str(caught.value) and "tensors, the first: encoder.layers.0" in str(
        caught.value
    )


def test_six_recipes_share_one_network_file() -> None:
    shared = [name for name in shipped_files("recipes") if "pvt_attention.py:build" in load_recipe(name).network.build]
    assert len(shared) == 6 and len(list(shipped_folder("recipes").rglob("*.py"))) == 1


# -- validate ----------------------------------------------------------------------------------------------------------


def test_validate_says_what_is_wrong(prepared: Callable[..., Path]) -> None:
    root = prepared("polyp")
    path = next((root / "cases" / "train").rglob("label.npy"))
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        recipe = small("polyp", root).override({"network.args.out_channels": 5})
        with pytest.raises(DataError) as error:
            validate_recipe(recipe).check()
    finally:
        path.write_bytes(before)
    assert str(error.value) == (
        "polyp has 2 faults.\n"
        f"  {path} was changed after it was prepared\n"
        "  network: BasicUNet returns 5 channels; the data has 2 classes."
    )


def test_validate_reads_balance_and_spacing(prepared: Callable[..., Path]) -> None:
    found = validate_recipe(small("synapse", prepared("synapse")), hashes=False, network=False)
    assert [(row.name, row.patients) for row in found.sets] == [("train", 16), ("val", 2), ("test", 12)]
    assert found.spacing == "3 × 0.8 × 0.8 mm" and sum(c.pixels for c in found.classes) == pytest.approx(1)
    splits = small("synapse", prepared("synapse")).override({"data.augment": "none"}).build_data()
    labels = torch.cat([splits.train[i][1].flatten() for i in range(len(splits.train))])
    assert found.classes[3].pixels == pytest.approx((labels == 3).float().mean().item(), abs=1e-6)
    console = Console(width=120, record=True, quiet=True)
    console.print(found)


def test_validate_the_embedded_ct() -> None:
    found = validate_recipe(load_recipe("chest_ct"))
    found.check()
    assert [row.slices for row in found.sets] == [20, 4, 6] and found.spacing == "10 × 3.05 × 3.05 mm"
    assert any("one patient validates" in warning for warning in found.warnings)


def test_validate_names_a_network_that_does_not_run(prepared: Callable[..., Path]) -> None:
    recipe = small("polyp", prepared("polyp")).override({"network.args.in_channels": 1})
    (fault,) = validate_recipe(recipe, hashes=False).faults
    assert fault.startswith("network: does not run on (3, 32, 32): RuntimeError:")
