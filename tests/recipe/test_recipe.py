"""Recipes: shipped ones, overrides, and the way back to TOML."""

from pathlib import Path

import pytest
from support.places import ROOT
from support.recipe_files import MINIMAL, message, write

from lomix_search.errors import RecipeError
from lomix_search.mixture.weighting import RECOMMENDED
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.utils.shipped import shipped_files, shipped_folder


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


def test_the_weighting_auto_is_named_as_what_it_stands_for(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL), ["weighting.name=auto"])
    assert recipe.weighting.name == RECOMMENDED and f'name = "{RECOMMENDED}"' in recipe.to_toml()
    assert message(tmp_path / "mine.toml", ["weighting.name=auto", "weighting.until=1"]).count("auto has no settings")


def test_precision_may_be_a_number(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, MINIMAL + "[search]\nprecision = 32\n")).search.precision == "32"


def test_round_trip_of_the_shipped_recipes(tmp_path: Path) -> None:
    for name in shipped_files("recipes"):
        recipe = load_recipe(name)
        assert load_recipe(write(tmp_path, recipe.to_toml())) == recipe


def test_recipe_is_frozen() -> None:
    recipe = load_recipe("chest_ct")
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]
    assert isinstance(recipe, Recipe)


def test_a_folder_without_a_recipe_is_told_by_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(name: str) -> str:
        with pytest.raises(RecipeError) as caught:
            load_recipe(name)
        return str(caught.value)

    Path("empty").mkdir()
    assert refused("empty") == (
        "the folder empty holds no recipe.toml.\n  Seen: nothing is in it\n"
        "  Try:  lomix new empty DATA   # writes one there"
    )
    for i in range(10):
        Path(f"a b/images/{i}").mkdir(parents=True)
        Path(f"a b/{i}.png").touch()
    assert refused("a b") == (
        "the folder a b holds no recipe.toml.\n"
        "  Seen: 0.png, 1.png, 2.png, 3.png, 4.png, 5.png, 6.png, 7.png and 3 more\n"
        "  Try:  lomix new mine 'a b'   # if these are your data"
    )
    Path("empty/other.toml").touch()
    assert refused("empty").endswith("  Seen: other.toml\n  Try:  empty/other.toml")
    Path("runs/stopped").mkdir(parents=True)
    assert refused("stopped").startswith("the folder runs/stopped holds no recipe.toml.\n  Seen: nothing is in it")
    assert refused("emtpy").startswith('no recipe "emtpy": neither shipped nor a file.')


def test_what_is_no_recipe_is_told_by_what_it_is(tmp_path: Path) -> None:
    def refused(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecipeError) as caught:
            load_recipe(tmp_path / name)
        return str(caught.value).replace(f"{tmp_path}/", "")

    assert refused("lomix.toml", (ROOT / "search_spaces/lomix.toml").read_bytes()) == (
        "lomix.toml is a search space, not a recipe.\n  Seen: keys name, about, originals, operator\n"
        "  Try:  lomix show lomix.toml\n        lomix run RECIPE space.name=lomix.toml"
    )
    assert refused("net.pt", b"PK\x03\x89") == (
        "net.pt is not a TOML file.\n  Seen: no text: its byte 4 is 0x89, which UTF-8 does not have there\n"
        "  Try:  file net.pt   # what it is"
    )
    assert refused("mixture.json", b"{}").endswith(
        "  Try:  lomix show mixture.json   # if it is a mixture; recipes and search spaces are TOML"
    )
