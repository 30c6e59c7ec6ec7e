"""``lomix cp``: a copied recipe names no file outside its folder, and loads wherever that folder goes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lomix_search.errors import RecipeError
from lomix_search.recipe.copy import copy_shipped
from lomix_search.recipe.recipe import load_recipe
from lomix_search.utils import shipped
from lomix_search.utils.shipped import shipped_files, shipped_folder


def files_in(value: Any) -> Iterator[Path]:
    """Every file that a resolved recipe names, as ``/folder/file`` or ``/folder/file.py:name``."""
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from files_in(inner)
    elif isinstance(value, str) and (path := Path(value.partition(".py:")[0] + ".py" * (".py:" in value))).is_file():
        yield path.resolve()


@pytest.mark.parametrize("name", shipped_files("recipes"))
def test_a_copy_names_no_file_outside_its_folder(name: str, tmp_path: Path) -> None:
    home = copy_shipped(name, tmp_path / "here/mine")
    assert home == tmp_path / "here/mine" and ".." not in (home / "recipe.toml").read_text()
    shutil.move(home, tmp_path / "elsewhere")  # nothing is left where it was copied to
    home = (tmp_path / "elsewhere").resolve()
    copied, shipped = load_recipe(home), load_recipe(name)
    named = list(files_in(copied.model_dump()))
    assert all(path.is_relative_to(home) for path in named)
    assert len(named) == len(list(files_in(shipped.model_dump())))
    assert not any(str(shipped_folder("recipes")) in text for text in copied.to_toml().splitlines())
    build = copied.network.build.rpartition("/")[2]
    assert build == shipped.network.build.rpartition("/")[2]
    same = {"name": shipped.name, "network": shipped.network, "data": shipped.data}
    assert copied.model_copy(update=same) == shipped


@pytest.mark.paper
@pytest.mark.slow
def test_a_copy_of_the_papers_network_is_built(tmp_path: Path) -> None:
    small = ["network.args.widths=[16, 32, 40, 64]", "network.args.depths=[1, 1, 1, 1]"]
    network = load_recipe(copy_shipped("synapse", tmp_path), small).build_network()
    assert type(network).__module__.endswith("pvt_attention_py") and len(list(network.attend)) == 4


def test_recipes_are_found_and_copied_where_a_wheel_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel holds recipes/ inside the package; the folder of shared networks is no recipe there either."""
    for kind in ("recipes", "search_spaces"):
        shutil.copytree(shipped_folder(kind), tmp_path / "package" / "_shelf" / kind)
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "package")
    assert shipped_folder("recipes") == tmp_path / "package" / "_shelf" / "recipes"
    assert "synapse" in shipped_files("recipes") and "networks" not in shipped_files("recipes")
    assert load_recipe("synapse").network.build.startswith(f"{shipped_folder('recipes')}/networks/")
    home = copy_shipped("synapse", tmp_path / "mine")
    assert load_recipe(home).network.build == f"{home}/pvt_attention.py:build"


def test_a_copy_is_called_as_one_says_and_found_by_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert copy_shipped("chest_ct", Path("mine")) == Path("mine") and load_recipe("mine").name == "mine"
    assert copy_shipped("chest_ct", Path("mine")) == Path("mine/chest_ct"), "into a folder that is there"
    assert copy_shipped("lomix", Path("own.toml")) == Path("own.toml")
    assert copy_shipped("lomix", Path("spaces")) == Path("spaces/lomix.toml")
    Path("mine/recipe.toml").unlink()
    with pytest.raises(RecipeError) as caught:
        load_recipe("mine")
    assert str(caught.value) == ("the folder mine holds no recipe.toml.\n  Seen: chest_ct/\n  Try:  mine/chest_ct")
    with pytest.raises(RecipeError, match="a recipe is copied as a folder"):
        copy_shipped("chest_ct", Path("own.toml"))


def test_a_runs_name_stands_for_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy_shipped("chest_ct", Path("runs/before"))
    assert load_recipe("before").name == "before" == load_recipe("before/recipe.toml").name
