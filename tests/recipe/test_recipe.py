"""Recipes: shipped ones, overrides, every fault at once, object paths, and the way back to TOML."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lomix_search import errors
from lomix_search.errors import MissingExtraError, RecipeError
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.utils.shipped import shipped_files, shipped_folder
from lomix_search.utils.toml import to_toml

MINIMAL = '[data]\nkind = "chest_ct"\n[network]\nbuild = "torch.nn:Identity"\n'


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def message(*args: Any) -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(*args)
    return str(error.value)


# -- shipped recipes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(shipped_folder("recipes").rglob("recipe.toml")), ids=lambda p: p.parent.name)
def test_every_shipped_recipe_loads_and_says_how_to_run_it(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.parent.name and recipe.about
    first = path.read_text().splitlines()[0]
    assert first.startswith("#") and f"lomix run {path.parent.name}" in path.read_text().partition("\n[")[0]
    assert recipe.build_space().count(4) >= 1
    assert load_recipe(path, [f"{key}={value!r}" for key, value in [("search.steps", 2)]]).search.steps == 2


def test_chest_ct_builds() -> None:
    recipe = load_recipe("chest_ct", ["search.seed=3"])
    splits, network = recipe.build_data(), recipe.build_network()
    image, label = splits.train[0]
    assert network(image[None]).shape == (1, len(splits.classes), *label.shape)


# -- overrides and paths -----------------------------------------------------------------------------------------------


def test_overrides_are_toml_or_text(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    given_ = ["optimizer.lr=3e-4", "data.augment=none", "search.precision=bf16", "track.wandb=true"]
    recipe = load_recipe(path, [*given_, "network.args.n = [1, 2]", 'name="b=c"', "search.clip_grad=1"])
    assert recipe.optimizer.lr == 3e-4 and recipe.data.settings == {"augment": "none"}
    assert recipe.search.precision == "bf16" and recipe.track.wandb and recipe.search.clip_grad == 1
    assert recipe.network.args == {"n": [1, 2]} and recipe.name == "b=c"
    assert recipe.override({"optimizer.lr": 1}).optimizer.lr == 1
    with pytest.raises(RecipeError, match=r"optimizer\.lrr: unknown. Nearest: \"lr\""):
        recipe.override({"optimizer.lrr": 1})


def test_an_empty_override_removes_a_key(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + 'stages = ["a", "b"]\n')
    assert (
        load_recipe(path).network.stages == ("a", "b") and load_recipe(path, ["network.stages="]).network.stages is None
    )
    assert "override 'network.stage=': the recipe does not set it." in message(path, ["network.stage="])
    assert "override 'a.b.c=': the recipe does not set it." in message(path, ["a.b.c="])


def test_precision_may_be_a_number(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, MINIMAL + "[search]\nprecision = 32\n")).search.precision == "32"


def test_paths_are_relative_to_the_recipe_and_survive_saving_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    code = "import torch\n\n\ndef build(width: int = 2) -> torch.nn.Module:\n    return torch.nn.Conv2d(1, width, 1)\n"
    write(tmp_path / "a", code, "model.py")
    write(tmp_path / "a", 'originals = "finest"\n', "space.toml")
    text = MINIMAL.replace("torch.nn:Identity", "model.py:build") + '[space]\nname = "space.toml"\n'
    recipe = load_recipe(write(tmp_path / "a", text, "recipe.toml"), ["network.args.width=3"])
    assert recipe.name == "a"
    again = load_recipe(write(tmp_path / "b", recipe.to_toml()))
    assert again == recipe
    network = again.build_network()
    assert isinstance(network, torch.nn.Conv2d) and network.out_channels == 3
    assert again.build_space().originals == "finest"
    assert load_recipe(tmp_path / "a").name == "a", "a folder is enough"


def test_data_beside_the_recipe_or_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[data]\nkind = "prepared"\nroot = "d"\nclasses = ["a"]\n[network]\nbuild = "torch.nn:Identity"\n'
    path = write(tmp_path, text)
    monkeypatch.chdir(tmp_path.parent)
    assert load_recipe(path).data.settings["root"] == str(tmp_path.parent / "d")
    (tmp_path / "d").mkdir()
    assert load_recipe(path).data.settings["root"] == str(tmp_path / "d")


def test_own_data_function(tmp_path: Path) -> None:
    code = (
        "from lomix_search.data.kinds import chest_ct\n\n\n"
        "def load(size):\n    return chest_ct.load_chest_ct(chest_ct.ChestCTSettings()) if size == 128 else None\n"
    )
    write(tmp_path, code, "data.py")
    text = '[data]\nkind = "data.py:load"\nsize = 128\n[network]\nbuild = "torch.nn:Identity"\n'
    path = write(tmp_path, text)
    assert len(load_recipe(path).build_data().test) == 6
    with pytest.raises(RecipeError, match=r"data.kind = '.*data.py:load' returned NoneType; it must return Splits."):
        load_recipe(path, ["data.size=1"]).build_data()
    with pytest.raises(RecipeError, match=r'data\.sise: unknown. Nearest: "size". Known: size.'):
        load_recipe(path, ["data.sise=1"]).build_data()


def test_round_trip_of_the_shipped_recipes(tmp_path: Path) -> None:
    for name in shipped_files("recipes"):
        recipe = load_recipe(name)
        assert load_recipe(write(tmp_path, recipe.to_toml())) == recipe


keys = st.text(min_size=1, max_size=8)
scalars = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(keys, values, max_size=4))
def test_the_toml_writer_is_read_back(content: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(content)) == content


# -- messages ----------------------------------------------------------------------------------------------------------


def test_message_five_mistakes(tmp_path: Path) -> None:
    text = """
[data]
kind = "chest_ct"
augmnt = "none"
[network]
build = "BasicUNet"
[optimizer]
lr = -1e-3
name = "Adam"
[search]
batchsize = 4
"""
    path = write(tmp_path, text)
    assert message(path) == (
        f"{path} has 5 faults.\n"
        '  network.build = \'BasicUNet\': must read "package.module:name" or "file.py:name".\n'
        '  data.augmnt: unknown. Nearest: "augment". Known: augment, gap, validation_slices.\n'
        "  optimizer.name = 'Adam': input should be 'AdamW' or 'SGD'\n"
        "  optimizer.lr = -0.001: input should be greater than 0\n"
        '  search.batchsize: unknown. Nearest: "batch_size". Known: batch_size, checkpoint_every, clip_grad, '
        "label_fraction, "
        "other_data, patience, precision, seed, shrink, skip_not_finite, steps, validate_every, workers."
    )


def test_message_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert message(path, ["optimizer.lrr=1", "steps", "network.build.x=1"]) == (
        f"{path} has 3 faults.\n"
        "  override 'steps': must read key=value, e.g. optimizer.lr=3e-4.\n"
        "  override 'network.build.x': build is not a table.\n"
        '  optimizer.lrr: unknown. Nearest: "lr". Known: lr, momentum, name, power, schedule, weight_decay.'
    )


def test_message_ranges(tmp_path: Path) -> None:
    ranges = """
[tune.ranges."optimizer.lrr"]
low = 1e-4
high = 1e-2
[tune.ranges."data.augment"]
choices = ["none", "strong"]
[tune.ranges."loss.ce"]
low = 0.5
high = 1
"""
    path = write(tmp_path, MINIMAL + ranges)
    assert message(path) == (
        f"{path} has 2 faults.\n"
        '  tune.ranges."optimizer.lrr": optimizer.lrr: unknown. Nearest: "lr". Known: lr, momentum, name, power, '
        "schedule, weight_decay.\n"
        "  tune.ranges.\"data.augment\": data.augment = 'strong': input should be 'none', 'chest_ct' or 'paper'"
    )
    both = MINIMAL + '[tune.ranges."optimizer.lr"]\nlow = 1\nchoices = [2]\nhigh = 3\n'
    assert "needs low and high, or choices, or subset_of; and one of them only" in message(write(tmp_path, both))
    upside = MINIMAL + '[tune.ranges."optimizer.lr"]\nlow = 3\nhigh = 1\n'
    assert "low = 3 must be below high = 1" in message(write(tmp_path, upside))
    zero = MINIMAL + '[tune.ranges."optimizer.lr"]\nlow = 0\nhigh = 1\nlog = true\n'
    assert "a logarithmic range starts above 0; low = 0" in message(write(tmp_path, zero))


def test_message_files_that_are_not_there(tmp_path: Path) -> None:
    text = '[data]\nkind = "data.py:load"\n[network]\nbuild = "model.py:net"\n[space]\nname = "lomx"\n'
    path = write(tmp_path, text)
    assert message(path) == (
        f"{path} has 3 faults.\n"
        f"  data.kind = 'data.py:load': no file {tmp_path}/data.py.\n"
        f"  network.build = 'model.py:net': no file {tmp_path}/model.py.\n"
        "  space.name = 'lomx': neither shipped nor a file. Nearest: \"lomix\". "
        f"Known: {', '.join(sorted(shipped_files('search_spaces')))}."
    )
    kind = write(tmp_path, MINIMAL.replace('"chest_ct"', '"chestct"'))
    assert "data.kind = 'chestct': must read" in message(kind) and 'Nearest: "chest_ct"' in message(kind)


def test_message_unknown_recipe_and_bad_toml(tmp_path: Path) -> None:
    first = 'no recipe "chest_tc": neither shipped nor a file. Nearest: "chest_ct". Known: '
    assert message("chest_tc").startswith(first)
    broken = write(tmp_path, "[data\n")
    assert message(broken).startswith(f"{broken} is not a TOML file.\n  Seen: ")
    assert message(write(tmp_path, "loss = 3\n")).count("\n") == 3
    assert "ce and dice are both 0" in message(write(tmp_path, MINIMAL + "[loss]\nce = 0\ndice = 0\n"))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        ("torch.nn:Conv2", "network.build = 'torch.nn:Conv2': torch.nn has no Conv2. Nearest: \"Conv2d\"."),
        (
            "nowhere.at_all:x",
            "network.build: no module 'nowhere.at_all'.\n  Seen: No module named 'nowhere'\n"
            "  Try:  pip install nowhere",
        ),
        ("torch:zeros_like", None),
        ("builtins:dict", "network.build = 'builtins:dict' returned dict; it must return an nn.Module."),
    ],
)
def test_message_network(tmp_path: Path, build: str, text: str | None) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL.replace("torch.nn:Identity", build)))
    with pytest.raises((RecipeError, TypeError)) as error:
        recipe.build_network()
    assert text is None or str(error.value) == text


def test_message_network_arguments(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL.replace("Identity", "Conv2d") + "[network.args]\nin_chanels = 1\n"))
    with pytest.raises(RecipeError) as error:
        recipe.build_network()
    lines = str(error.value).splitlines()
    assert lines[0] == "Conv2d cannot be called."
    assert lines[1].startswith('  network.args.in_chanels: unknown. Nearest: "in_channels". Known: ')
    assert lines[2:] == [f"  network.args.{name}: missing." for name in ("in_channels", "out_channels", "kernel_size")]


def test_message_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    monkeypatch.setattr(errors.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError) as error:
        load_recipe("chest_ct").build_network()
    assert str(error.value) == (
        "monai is needed here and is not installed.\n"
        "  Seen: import monai.networks.nets: No module named 'monai'\n"
        '  Try:  pip install "lomix-search[data]"'
    )


def test_message_network_that_needs_more(tmp_path: Path) -> None:
    """MONAI raises its own error class when a network needs a package that is only sometimes needed."""
    code = "def build():\n    raise ImportError(\"from einops import x (No module named 'einops').\\n\\nLong story\")\n"
    write(tmp_path, code, "model.py")
    recipe = load_recipe(write(tmp_path, MINIMAL.replace("torch.nn:Identity", "model.py:build")))
    with pytest.raises(MissingExtraError) as error:
        recipe.build_network()
    assert str(error.value) == (
        f"network.build = '{tmp_path}/model.py:build' needs a package that is not installed.\n"
        "  Seen: from einops import x (No module named 'einops').\n"
        "  Try:  pip install einops"
    )


def test_loading_a_recipe_imports_no_extra() -> None:
    code = (
        "import sys; from lomix_search.recipe.recipe import load_recipe; load_recipe('chest_ct'); "
        "print([m for m in ('monai', 'nibabel', 'h5py', 'PIL', 'nrrd', 'scipy', 'optuna') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_recipe_is_frozen() -> None:
    recipe = load_recipe("chest_ct")
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]
    assert isinstance(recipe, Recipe)


# -- weighting ---------------------------------------------------------------------------------------------------------


def test_faults_of_the_weighting_table_are_reported_with_the_others(tmp_path: Path) -> None:
    text = MINIMAL + '[weighting]\nname = "anneal"\nuntill = 0.3\nstart = 2\n[optimizer]\nlr = -1\n'
    assert message(write(tmp_path, text)).splitlines()[1:] == [
        "  weighting.start = 2: input should be less than or equal to 1",
        '  weighting.untill: unknown. Nearest: "until". Known: given, shape, start, until.',
        "  optimizer.lr = -1: input should be greater than 0",
    ]
    assert "weighting.name = 'lookahed': unknown." in message(write(tmp_path, MINIMAL), ["weighting.name=lookahed"])
    ranges = '[tune.ranges."weighting.until"]\nlow = 0.5\nhigh = 3.0\n[weighting]\nname = "anneal"\n'
    assert 'tune.ranges."weighting.until": weighting.until = 3.0' in message(write(tmp_path, MINIMAL + ranges))


def test_a_mixture_is_found_beside_the_recipe_or_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/m.json").touch()
    (tmp_path / "here.json").touch()
    monkeypatch.chdir(tmp_path)
    text = MINIMAL + '[weighting]\nname = "fixed"\nmixture = "m.json"\n'
    path = write(tmp_path / "a", text)
    assert load_recipe(path).weighting.mixture == str(tmp_path / "a/m.json")
    assert load_recipe(path, ["weighting.mixture=here.json"]).weighting.mixture == str(tmp_path / "here.json")
    assert "weighting.mixture = 'no.json': no file" in message(path, ["weighting.mixture=no.json"])
