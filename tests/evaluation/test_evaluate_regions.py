"""Whole cases with regions that overlap: scored one region at a time, written as label maps or as masks, drawn."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from lomix_search.data.case import Case
from lomix_search.data.regions import region_masks
from lomix_search.errors import DataError, RunError
from lomix_search.evaluation import measures
from lomix_search.evaluation.evaluate import evaluate
from lomix_search.evaluation.inference import InferenceOptions, predict_case
from lomix_search.evaluation.region_files import by_size, paint
from lomix_search.evaluation.score_table import read_evaluation
from lomix_search.instrumentation.outputs import probabilities, reader_of

TUMOUR = {"whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


class Nested(torch.nn.Module):
    """Reads the label off the brightness, a region a channel; the channels given are kept."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spatial = [1] * (x.ndim - 2)
        return 10 * (x[:, :1] - torch.arange(0.5, self.channels).reshape(1, -1, *spatial))


def brain(name: str, slices: int = 4, shift: int = 0) -> Case:
    label = np.zeros((slices, 24, 20), np.uint8)
    for value, margin in ((1, 3), (2, 6), (3, 8)):
        label[:, margin : 24 - margin, margin : 20 - margin] = value
    image = np.roll(label, shift, 1)[:, None].astype(np.float32)
    return Case(name, image, label, (3.0, 1.0, 1.0), values=(0, 1, 2, 4))


def test_each_region_is_scored_as_a_class_of_its_own(tmp_path: Path) -> None:
    cases = [brain("a", shift=1), brain("b", shift=3)]
    found = evaluate(Nested(), cases, tuple(TUMOUR), regions=TUMOUR, save=tmp_path, progress=False, overlays=1)
    assert found.classes == tuple(TUMOUR) and found.unit == "mm" and found.measures == ("dice", "iou", "hd95", "asd")
    for case in cases:
        for number, name in enumerate(TUMOUR):
            predicted, true = case.image[:, 0] > number, case.label > number
            (row,) = [r.scores for r in found.rows if (r.case, r.label) == (case.name, name)]
            assert row["dice"] == pytest.approx(measures.dice(predicted, true)) and 0.3 < row["dice"] < 1
            assert row["hd95"] == pytest.approx(measures.hd95(predicted, true, case.spacing)) and row["hd95"] > 0
    assert read_evaluation(tmp_path) == found
    markdown = (tmp_path / "scores.md").read_text()
    assert "| whole tumour |" in markdown and markdown.startswith("| region |")
    csv = tmp_path / "scores.csv"
    assert csv.read_text().startswith("protocol,unit,case,patient,region,")
    csv.write_text(csv.read_text().replace("patient,region,", "patient,class,"))  # as earlier versions wrote it
    assert read_evaluation(csv).rows == found.rows
    saved = np.asarray(nib.load(tmp_path / "predictions/a.nii.gz").dataobj)
    assert sorted(np.unique(saved)) == [0, 1, 2, 4], "the label values of the raw files"
    overlay = np.asarray(Image.open(tmp_path / "overlays/a.png"))
    truth = overlay[:, 20:40]
    assert len(np.unique(truth[12].reshape(-1, 3), axis=0)) >= 4, "no region hides those within it"


@pytest.mark.parametrize("nested", [True, False])
def test_regions_are_written_as_one_map_or_as_masks(nested: bool, tmp_path: Path) -> None:
    regions = TUMOUR if nested else {"a/b": (1, 2), "core": (2, 3), "enhancing": (3,)}
    case = replace(brain("p/one", 1), origin={"size": [24, 20]}, values=(0, 50, 100, 200))
    evaluate(Nested(), [case], tuple(regions), regions=regions, save=tmp_path, progress=False, masks=nested)
    found = sorted(str(path.relative_to(tmp_path / "predictions")) for path in tmp_path.rglob("*.png"))
    first = "whole tumour" if nested else "a%5Cb"
    assert found == sorted(f"p/one/{name}.png" for name in (first, "core", "enhancing"))
    for number, name in enumerate((first, "core", "enhancing")):
        mask = np.asarray(Image.open(tmp_path / f"predictions/p/one/{name}.png"))
        assert np.array_equal(mask, 255 * (case.image[0, 0] > number))


def test_regions_are_written_as_nnunet_writes_them(tmp_path: Path) -> None:
    regions = {"whole": (1, 2, 3), "enhancing": (3,)}  # by themselves no map could hold them: 1 or 2?
    case = brain("a")
    evaluate(Nested(2), [case], tuple(regions), regions=regions, save=tmp_path, progress=False, written=(1, 3))
    saved = np.asarray(nib.load(tmp_path / "predictions/a.nii.gz").dataobj)
    expected = np.select([case.image[:, 0] > 1, case.image[:, 0] > 0], [4, 1])  # 3 is 4 in the raw files
    assert np.array_equal(np.sort(saved, None), np.sort(expected, None)) and set(np.unique(saved)) == {0, 1, 4}


def test_masks_of_a_case_are_scored_without_a_table(tmp_path: Path) -> None:
    """Masks that no class map could hold, such as organs seen through one another."""
    case = brain("a", shift=1)
    masks = replace(case, label=region_masks(case.label, TUMOUR))
    kinds = evaluate(Nested(), [case], tuple(TUMOUR), regions=TUMOUR, progress=False)
    assert evaluate(Nested(), [masks], tuple(TUMOUR), regions={}, progress=False) == kinds
    with pytest.raises(DataError, match="a: the label has 3 masks; there are 2 regions"):
        evaluate(Nested(2), [masks], ("x", "y"), regions={}, progress=False)


def test_pixels_that_count_nowhere_change_no_score() -> None:
    case = brain("a", shift=2)
    label = case.label.copy()
    label[1:3] = 9
    one = replace(case, label=label)
    found = evaluate(Nested(), [one], tuple(TUMOUR), regions=TUMOUR, ignore_index=9, progress=False)
    kept = replace(case, label=case.label[[0, 3]], image=case.image[[0, 3]])
    alone = evaluate(Nested(), [kept], tuple(TUMOUR), regions=TUMOUR, progress=False)
    for row, expected in zip(found.rows, alone.rows, strict=True):
        assert row.scores["dice"] == pytest.approx(expected.scores["dice"])


@pytest.mark.parametrize("window", [None, (16, 16), (2, 16, 16)])
@pytest.mark.parametrize("resize", ["nearest", "linear"])
def test_a_probability_of_a_half_decides_in_each_channel(window: tuple[int, ...] | None, resize: str) -> None:
    case = brain("a")
    how = InferenceOptions(resize=resize, batch_size=3, window=window, flips=window is None, multilabel=True)  # type: ignore[arg-type]
    found = predict_case(Nested(), case, how, foreground=True, read=reader_of(Nested(), 3, multilabel=True))
    assert np.array_equal(found.label, region_masks(case.label, TUMOUR)) and found.label.dtype == np.uint8
    assert found.foreground is not None and found.foreground.shape == (3, *case.label.shape)
    assert np.array_equal(found.foreground > 0.5, found.label == 1)
    logits = torch.tensor([[[0.0], [2.0], [-3.0]]])
    assert torch.equal(probabilities(logits, multilabel=True), torch.sigmoid(logits))


def test_a_network_with_a_channel_too_many_is_named() -> None:
    with pytest.raises(RunError) as error:
        evaluate(Nested(4), [brain("a")], tuple(TUMOUR), regions=TUMOUR, progress=False)
    assert "Nested returns 4 channels; the data has 3 regions." in str(error.value)
    assert "3 output channels, one a region and none for the background" in str(error.value)
    with pytest.raises(RunError, match="returns 1 channels; the data has 2 regions"):
        reader_of(Nested(1), 2, multilabel=True)(torch.zeros(1, 1, 8, 8))


def test_a_protocol_of_probabilities_takes_those_of_each_region() -> None:
    case = replace(brain("a", 1, shift=1), origin={"size": [24, 20]})
    found = evaluate(Nested(), [case], tuple(TUMOUR), regions=TUMOUR, protocol="polyp", progress=False)
    for number, row in enumerate(found.rows):
        soft = torch.sigmoid(10 * (torch.tensor(case.image[0, 0]) - number - 0.5)).numpy()
        soft = (soft - soft.min()) / (soft.max() - soft.min())
        assert row.scores["mae"] == pytest.approx(measures.mae(soft, case.label[0] > number), abs=1e-6)


def test_small_regions_lie_on_top() -> None:
    masks = np.zeros((3, 1, 6), np.uint8)
    masks[0, 0, 2:4], masks[1, 0, :], masks[2, 0, 3:6] = 1, 1, 1
    order = by_size(masks)
    assert order == (1, 2, 0) and paint(masks, order).tolist() == [[2, 2, 1, 1, 3, 3]]
