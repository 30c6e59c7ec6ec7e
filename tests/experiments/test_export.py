"""A run's network as a file: what comes out of it is what the network says, on images of the run's own data."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from support.commands import call, failing

from lomix_search.errors import MissingExtraError, RunError
from lomix_search.experiments.export.export_network import export_network
from lomix_search.experiments.export.forms import EXPORT_FORMS
from lomix_search.experiments.trained import load_trained
from lomix_search.recipe.recipe import load_recipe

ENDINGS = {"torchscript": "net.pt", "torch-export": "net.pt2", "onnx": "net.onnx"}


def logits_of(run: Path, network: str, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return load_trained(run, network, "cpu").net.logits(images)


@pytest.mark.parametrize("form", ["torchscript", pytest.param("torch-export", marks=pytest.mark.slow)])
def test_the_file_says_what_the_network_says(form: str, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / ENDINGS[form]
    done = export_network(home / "one", file, form, "best")
    items = load_recipe(home / "one/recipe.toml").build_data().test
    images = torch.stack([items[0][0], items[1][0], items[0][0] / 2])
    assert done.batches and done.file == file and done.difference <= 1e-4 * done.largest
    with torch.no_grad():
        found = EXPORT_FORMS[form].read(file)(images)
    torch.testing.assert_close(found, logits_of(home / "one", "best", images), rtol=1e-4, atol=1e-4)
    said = json.loads(done.description.read_text())
    assert said["input"]["shape"] == ["batch", 1, 16, 16] and said["input"]["axes"] == [
        "batch",
        "channel",
        "row",
        "column",
    ]
    assert said["output"]["classes"] == ["background", "large", "small"] and said["output"]["holds"] == "logits"
    assert said["check"]["largest_difference"] == done.difference and said["run"]["network"] == "best"
    assert "validation items" in said["check"]["on"]
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, f"{file.name}.json"]


def test_onnx_says_what_the_network_says(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnx")
    done = export_network(home / "one", tmp_path / "net.onnx")
    images = torch.rand(3, 1, 16, 16)
    found = EXPORT_FORMS["onnx"].read(tmp_path / "net.onnx")(images)
    torch.testing.assert_close(found, logits_of(home / "one", "final", images), rtol=1e-4, atol=1e-4)
    assert done.batches and done.description.name == "net.onnx.json"


def test_without_the_packages_of_onnx_it_says_what_to_install(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lomix-search\[onnx\]"'):
        export_network(home / "one", tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = call("export", str(home / "one"), str(tmp_path / "net.pt"))
    assert "largest difference from the network itself: " in said and "any number of images" in said
    for arguments, fault in (
        (("net.onnx", "--torchscript"), "ends in .pt or .ts"),
        (("net",), "its ending tells no form"),
        (("net.pt", "--onnx", "--torchscript"), "--onnx and --torchscript: a file has one form"),
        (("net.pt", "--network", "worst"), 'network "worst": unknown'),
    ):
        assert fault in failing(capfd, "export", str(home / "one"), str(tmp_path / arguments[0]), *arguments[1:])
    assert "holds no finished run" in failing(capfd, "export", str(home / "three"), str(tmp_path / "other.pt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pt", "net.pt.json"]


def test_weights_of_another_network_are_refused(home: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(home / "one", tmp_path / "run"))
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("width = 8", "width = 4"))
    with pytest.raises(RunError, match="holds the weights of another network") as caught:
        export_network(run, tmp_path / "net.pt")
    assert "(4, 1, 3, 3) in the network, (8, 1, 3, 3) in the file" in str(caught.value)
    assert not (tmp_path / "net.pt").exists()


def test_without_its_data_it_is_checked_on_noise(home: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(home / "one", tmp_path / "run"))
    parts = (home / "recipe/parts.py").read_text()
    (tmp_path / "parts.py").write_text(parts.replace("def data", "def gone"))
    recipe = (run / "recipe.toml").read_text().replace(str(home / "recipe/parts.py"), str(tmp_path / "parts.py"))
    (run / "recipe.toml").write_text(recipe)
    assert export_network(run, tmp_path / "net.pt").example.startswith("noise")
    (run / "data.json").unlink()  # as a run of an earlier version
    with pytest.raises(RunError, match="without data.json, and its data cannot be opened"):
        export_network(run, tmp_path / "other.pt")


def test_a_frozen_branch_is_found_by_the_check(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = EXPORT_FORMS["torchscript"]

    def spoiled(network: torch.nn.Module, example: torch.Tensor, file: Path, batches: bool) -> None:
        with torch.no_grad():
            next(network.parameters()).mul_(1.1)
        form.write(network, example, file, batches)

    from dataclasses import replace

    monkeypatch.setitem(EXPORT_FORMS, "torchscript", replace(form, write=spoiled))
    with pytest.raises(RunError, match="does not compute what the network does; nothing was written"):
        export_network(home / "one", tmp_path / "net.pt")
    assert not list(tmp_path.iterdir())
