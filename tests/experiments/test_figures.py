"""Pictures of predictions, weights and spaces: they show what they are given, in every format."""

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from PIL import Image

from lomix_search.errors import SpaceError
from lomix_search.experiments.figures import draw_predictions, draw_weights, new_figure, save_figure
from lomix_search.experiments.space_figure import draw_space
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.space import SearchSpace

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as picture:
        found = picture.convert("RGB").getcolors(maxcolors=2**24)
    assert found is not None
    return {colour for count, colour in found if count > 50}  # type: ignore[misc]


def test_predictions_show_classes_and_disagreements(tmp_path: Path) -> None:
    truth = np.zeros((1, 16, 16), np.int64)
    truth[0, 4:12, 4:12] = 2
    classes = ["background", "ribs", "spine"]
    draw_predictions(tmp_path / "same.png", np.zeros((1, 16, 16)), truth, truth, classes, ["slice 7"])
    draw_predictions(tmp_path / "wrong.png", np.zeros((1, 16, 16)), truth, 0 * truth, classes, ["slice 7"])
    spine = (132, 58, 0)  # the second colour of the palette, at its opacity over black
    assert any(np.abs(np.subtract(colour, spine)).max() < 4 for colour in colours(tmp_path / "same.png"))
    yellow = (255, 255, 0)
    assert yellow in colours(tmp_path / "wrong.png") and yellow not in colours(tmp_path / "same.png")


@pytest.mark.slow
def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    odd = ["background", "a$b", "$\\frac{", "_hidden", "肺", "[/bold]", "<b>", "%s {0}"]
    truth = np.arange(64).reshape(1, 8, 8) % len(odd)
    draw_predictions(tmp_path / "odd.png", np.zeros((1, 8, 8)), truth, truth, odd, ["case $1 and $\\x"])
    figure = new_figure(3, 2)
    figure.subplots().set_yticks(range(2), ["$\\bad{", "$x$"])
    save_figure(figure, tmp_path / "ticks.svg")
    with Image.open(tmp_path / "odd.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
def test_weights_of_any_space_are_drawn(tmp_path: Path) -> None:
    for name, stages in (("lomix", 2), ("last_layer", 2), ("extended", 3)):
        space = SearchSpace.load(name)
        maps = tuple(MapWeight(id=m.id, weight=0.5 / (i + 1)) for i, m in enumerate(space.maps(stages)))
        mixture = Mixture(space=space, num_classes=3, num_maps=stages, weighting="softplus", maps=maps)
        history = [{"step": step, "mixture/weights": [0.7] * len(maps)} for step in (1, 2)]
        draw_weights(tmp_path / f"{name}.png", mixture, [{"step": 1, "val/dice": 0.5}, *history])
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 1000 and picture.height > 800


@pytest.mark.slow
def test_a_space_is_drawn_in_every_format(tmp_path: Path) -> None:
    space = SearchSpace.load("mutation")
    for ending in ("png", "svg", "pdf", "dot", "mmd", "graphml"):
        draw_space(space, 3, tmp_path / f"space.{ending}", {"P1": 0.25, "add(1,2)": 0.5})
    graph = nx.read_graphml(tmp_path / "space.graphml")
    assert graph.nodes["add(1,2)"]["weight"] == 0.5 and len(graph) == 3 + 1 + 7
    assert '"add" -> "add(1,2)"' in (tmp_path / "space.dot").read_text()
    mermaid = (tmp_path / "space.mmd").read_text()
    assert mermaid.startswith("flowchart LR") and mermaid.count("-->") == graph.number_of_edges()
    assert "add(1,2) 0.500" in mermaid
    assert "add(1,2) 0.500" in (tmp_path / "space.svg").read_text()
    assert (tmp_path / "space.pdf").read_bytes().startswith(b"%PDF")


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(SpaceError) as caught:
        draw_space(SearchSpace.load("lomix"), 3, tmp_path / "space.bmp")
    assert str(caught.value) == (
        '"space.bmp": no picture format ends in ".bmp". Known: .dot, .mmd, .graphml, .png, .svg, .pdf.\n'
        f"  Try:  {tmp_path / 'space.svg'}"
    )
