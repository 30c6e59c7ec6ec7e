"""Paths of a recipe: relative to its file, absolute once loaded, and said by name where there is no such file."""

from pathlib import Path

import pytest
import torch
from support.recipe_files import MINIMAL, message, write

from lomix_search.recipe.recipe import load_recipe
from lomix_search.utils.shipped import shipped_files, shipped_folder


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


def test_runs_of_earlier_versions_find_the_network_that_recipes_share_now(tmp_path: Path) -> None:
    """Each of six shipped recipes had a ``network.py``, which a run folder of that time names with its whole path."""
    home, now = shipped_folder("recipes"), load_recipe("synapse")
    text = now.to_toml().replace("networks/pvt_attention.py:build", "synapse/network.py:build")
    assert f'build = "{home}/synapse/network.py:build"' in text
    assert load_recipe(write(tmp_path, text)) == now
    far = write(
        tmp_path, text.replace(f"{home}/synapse/network.py", "/far/lomix_search/_shelf/recipes/synapse/network.py")
    )
    assert message(far).splitlines()[1:] == [
        "  network.build = '/far/lomix_search/_shelf/recipes/synapse/network.py:build': no file "
        "/far/lomix_search/_shelf/recipes/synapse/network.py. The network of the shipped recipes: "
        f"network.build={home}/networks/pvt_attention.py:build"
    ]
    given = f"network.build={home}/networks/pvt_attention.py:build"  # what it says to type
    assert load_recipe(far, [given]) == now
