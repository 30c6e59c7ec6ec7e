"""Commands on networks and spaces: show, inspect, measure."""

from pathlib import Path

import pytest
from support.commands import call
from typer.testing import CliRunner

from lomix_search.cli import app


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


def test_show_of_no_map_is_not_show_of_all() -> None:
    for top in ("0", "-1"):
        result = CliRunner().invoke(app, ["show", "lomix", "--top", top])
        assert result.exit_code == 2 and "add(1,2)" not in result.output


def test_show_a_space() -> None:
    output = call("show", "lomix", "--stages", "5", "--draw", "space.dot")
    assert "109 maps for 5 stages: P1, P2, P3, P4, P5, add(1,2)" in output
    assert Path("space.dot").read_text().startswith("digraph")


@pytest.mark.slow
def test_inspect_a_network_of_a_file() -> None:
    Path("net.py").write_text(
        "from monai.networks.nets import BasicUNet\n\n\n"
        "def build():\n    return BasicUNet(2, 1, 3, (4, 4, 8, 8, 8, 4))\n"
    )
    output = call("inspect", "net.py:build", "--example", "1,1,32,32")
    assert output.index("upcat_4") < output.index("upcat_1")
    assert "48 maps" in output
    direct = call(
        "inspect",
        "monai.networks.nets.BasicUNet",
        "spatial_dims=2",
        "features=[4, 4, 8, 8, 8, 4]",
        "--example",
        "1,1,32,32",
    )
    assert [line.split()[:2] for line in direct.splitlines()[3:8]] == [
        line.split()[:2] for line in output.splitlines()[3:8]
    ]


def test_a_drawing_takes_no_more_passes_through_the_network() -> None:
    Path("net.py").write_text(
        "from torch import nn\nfrom support.zoo import small_unet_2d\n\n\n"
        "class Counted(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = small_unet_2d()[0]\n\n"
        "    def forward(self, x):\n"
        "        with open('passes', 'a') as file:\n            file.write('.')\n"
        "        return self.net(x)\n"
    )
    passes = []
    for options in ([], ["--draw", "net.html"]):
        call("inspect", "net.py:Counted", "--example", "1,1,32,32", *options)
        passes.append(len(Path("passes").read_text()))
        Path("passes").unlink()
    assert passes[0] == passes[1] and "<svg" in Path("net.html").read_text()


def test_inspect_draws_and_doctor_measures() -> None:
    network = [
        "monai.networks.nets.BasicUNet",
        "spatial_dims=2",
        "features=[4, 4, 8, 8, 8, 4]",
        "--example",
        "2,1,32,32",
    ]
    call("inspect", *network, "--draw", "net.svg")
    call("inspect", *network, "--draw", "net.html", "--stages", "upcat_2,upcat_1")
    assert "stage 4" in Path("net.svg").read_text() and "stage 3" not in Path("net.html").read_text()
    output = call("doctor", *network)
    assert "supervised maps   48" in output and "time per step" in output and "loss engine" in output
