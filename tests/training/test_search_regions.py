"""``search`` on a user's own masks that overlap: it learns, repeats, resumes, and says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import SETTINGS, same
from support.shapes import REGIONS, ShapeRegions, Shapes
from support.zoo import SmallUNet
from torch import Tensor

import lomix_search as lomix
from lomix_search.errors import DataError, LomixError, RunError
from lomix_search.evaluation.score_items import score_items
from lomix_search.mixture.weighting import build_weighting
from lomix_search.training.trackers import read_lines


def built(space: str = "deep_supervision", weighting: str = "softplus", **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    net = lomix.instrument(SmallUNet(width=8), torch.zeros(1, 1, 16, 16))
    known = lomix.SearchSpace.load(space)
    kind = build_weighting(weighting, tuple(known.maps(len(net.stages))), settings)
    return net, lomix.MixtureLoss(known, len(net.stages), 3, weighting=kind, multilabel=True)


def run(folder: Path, given: Any = None, train: Any = None, val: Any = None, **changes: Any) -> Any:
    data = train or ShapeRegions(), val or ShapeRegions(4)
    settings = SETTINGS | {"steps": 12, "classes": tuple(REGIONS), "progress": False} | changes
    return lomix.search(*(given or built()), *data, folder=folder, **settings)


@pytest.mark.slow
def test_masks_are_validated_by_region(tmp_path: Path) -> None:
    net, loss = built()
    result = run(tmp_path, (net, loss), steps=4)
    (line,) = [line for line in read_lines(tmp_path / "metrics.jsonl") if "val/dice" in line]
    found = score_items(net, ShapeRegions(4), tuple(REGIONS), multilabel=True)
    assert result.final is not None and result.final.classes == tuple(REGIONS) == found.classes
    assert line["val/dice"] == result.final.mean == found.mean
    for number, name in enumerate(REGIONS):
        dice = []
        for image, masks in (ShapeRegions(4)[i] for i in range(4)):
            with torch.no_grad():
                one, true = net.eval()(image[None])[0, number] > 0, masks[number]
            dice.append(float(2 * (one & true).sum() / (one.sum() + true.sum())))
        assert line[f"val/dice/{name}"] == pytest.approx(sum(dice) / 4, abs=0.03), "noise is drawn anew"
    named = run(tmp_path / "unnamed", steps=1, classes=None).final
    assert named.classes == ("region 1", "region 2", "region 3")


@pytest.mark.slow
def test_a_search_on_masks_learns(tmp_path: Path) -> None:
    result = run(tmp_path, steps=60, lr=3e-2, validate_every=30)
    assert result.final.mean > 0.7


@pytest.mark.slow
def test_a_search_on_masks_repeats_and_resumes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name)
    run(tmp_path / "three", steps=6)
    run(tmp_path / "three", resume=True)
    same(tmp_path / "one", tmp_path / "two")
    same(tmp_path / "one", tmp_path / "three")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"weighting": "lookahead", "interval": 2, "rate": 5.0}, {}),
        ({"weighting": "lookahead", "interval": 2, "method": "difference"}, {"label_fraction": 0.5}),
        ({}, {"shrink": {"to": 2}, "patience": 9}),
    ],
)
def test_whatever_a_search_can_do_it_does_on_masks(settings: Any, changes: Any, tmp_path: Path) -> None:
    result = run(tmp_path, built("lomix", **settings), **changes)
    assert result.final is not None and result.mixture.maps
    lines = read_lines(tmp_path / "metrics.jsonl")
    slopes = [line["lookahead/slopes"] for line in lines if "lookahead/slopes" in line]
    assert all(any(slope for slope in found) for found in slopes) and bool(slopes) == (settings != {})


class Odd(ShapeRegions):
    """One item is of another form."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, masks = super().__getitem__(index)
        return (image, masks) if index < self.n - 1 else (image, self.change(masks.long()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: masks[:2], "training item 11: the label has 2 masks; there are 3 regions"),
        (lambda masks: masks * 2, "training item 11: masks hold 2; 1 is inside a region and 0 outside"),
        (lambda masks: masks * 0.5, "training item 11"),
        (lambda masks: masks[..., :8], "training item 11"),
        (lambda masks: masks.argmax(0), "training item 11"),
    ],
)
def test_what_is_no_mask_is_named_before_the_first_step(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, train=Odd(change))
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_task_is_refused_by_name(tmp_path: Path) -> None:
    """Regions and classes have the same number of channels here, so that every tensor would fit."""
    run(tmp_path, steps=2)
    net, regions = built()
    classes = lomix.MixtureLoss(regions.space, regions.plan.num_maps, 3)
    with pytest.raises(RunError) as error:
        run(tmp_path, (net, classes), Shapes(), Shapes(4), steps=4, classes=None, resume=True)
    assert str(error.value) == (
        f"the checkpoint in {tmp_path} is of another task.\n"
        "  Seen: multilabel: True before, False now\n"
        "  Try:  the loss as it was; or another folder, to start anew"
    )


@pytest.mark.slow
def test_other_misfits_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        run(tmp_path, classes=("background", *REGIONS))
    assert str(error.value) == (
        "classes names 4 classes; the loss has 3, regions without a background.\n"
        "  Seen: background, either, disc, square\n"
        '  Try:  search(…, classes=["region 1", "region 2", "region 3"])'
    )
    with pytest.raises(LomixError, match="training item 0"):
        run(tmp_path, train=Shapes())

    class Empty(ShapeRegions):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            image, masks = super().__getitem__(index)
            return image, masks & False

    with pytest.raises(RunError, match="none of its 12 items holds any of either, disc, square, so that"):
        run(tmp_path, val=Empty())
