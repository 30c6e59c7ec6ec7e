"""Classes that a network predicts nowhere: counted, told once, remembered over a stop, noted at the end."""

from pathlib import Path

import pytest
import torch
from support.runs import run
from support.shapes import build

from lomix_search.evaluation.dice_meter import DiceMeter
from lomix_search.training.silent_classes import SilentClasses
from lomix_search.training.trackers import read_lines


def test_three_silent_validations_in_a_row_are_told_once() -> None:
    watch = SilentClasses()
    assert [watch.look({"disc": 2}), watch.look({"disc": 2}), watch.look({})] == ["", "", ""]
    assert [watch.look({"disc": 2}), watch.look({"disc": 2})] == ["", ""] and watch.last_words == ""
    again = SilentClasses()
    again.load_state_dict(watch.state_dict())
    told = again.look({"disc": 2, "square": 1})
    assert told.startswith("predicted nowhere in 3 validations in a row: disc (in 2 validation cases). A class that")
    assert again.look({"disc": 2, "square": 1}) == "" and again.last_words.endswith("validations: disc")
    assert "square (in 1 validation case)." in again.look({"disc": 2, "square": 1})
    again.look({"square": 1})
    assert again.last_words.endswith("validations: square")
    again.load_state_dict({})  # of a checkpoint of earlier versions
    assert again.look({"disc": 1}) == again.last_words == ""


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_class_is_silent_where_it_is_true_and_predicted_nowhere(multilabel: bool) -> None:
    meter = DiceMeter(("back", "seen", "missed", "absent"), multilabel=multilabel)
    truth = torch.tensor([[0, 1, 2, 2], [1, 1, 2, 0], [1, 0, 0, 0]])
    shown = torch.where(truth == 2, 0, truth)
    if multilabel:
        truth, shown = (torch.stack([of == i for i in range(4)], 1).long() for of in (truth, shown))
    meter.update(shown, truth, ["a", "b", "c"])
    assert meter.result().silent == {"missed": 2}
    assert DiceMeter(("back", "one")).result().silent == {}


def test_a_search_says_it_and_leaves_it_in_log_and_mixture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, loss = build("deep_supervision")
    with torch.no_grad():
        net.model.head.bias[2] = -1e4  # type: ignore[union-attr]
    result = run(tmp_path, built=(net, loss), steps=4, validate_every=1, progress=True)
    said = [line["val/warning"] for line in read_lines(tmp_path / "metrics.jsonl") if "val/warning" in line]
    assert len(said) == 1 and "square (in 4 validation cases)" in said[0].partition(". ")[0]
    assert f"step 3: {said[0]}" in " ".join(capsys.readouterr().out.split())
    assert result.mixture.provenance.warnings[-1].endswith("square")
