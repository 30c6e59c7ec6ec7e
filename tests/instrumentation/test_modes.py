"""Validating leaves training as it was: modes that the user set, random states, buffers, the best score."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.runs import normed
from support.shapes import CLASSES, Shapes
from torch import Tensor, nn
from torch.nn import functional as F

import lomix_search as lomix
from lomix_search.data.dataset import Slices
from lomix_search.evaluation.dice_meter import DiceResult
from lomix_search.evaluation.inference import InferenceOptions
from lomix_search.evaluation.inference import predict_case as predict_case
from lomix_search.evaluation.score_items import score_items
from lomix_search.experiments.predictions import look
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.result import Result
from lomix_search.training.trackers import read_lines
from lomix_search.training.validation import is_better


def run(folder: Path, built: Any, val: Any = None, **changes: Any) -> Result:
    settings = {"steps": 6, "batch_size": 4, "validate_every": 2, "lr": 1e-2, "progress": False} | changes
    return lomix.search(*built, Shapes(), val or Shapes(4), folder=folder, classes=CLASSES, **settings)


# -- modes -------------------------------------------------------------------------------------------------------------


def frozen() -> Any:
    """The first batch norm stays as it is, as one does with pretrained encoders."""
    net, loss = normed()
    net.train()
    for p in net.model.down.parameters():
        p.requires_grad_(False)
    net.model.down.eval()
    return net, loss


def test_frozen_parts_stay_frozen_through_training_and_validation(tmp_path: Path) -> None:
    net, loss = frozen()
    before = {name: value.clone() for name, value in net.model.down.state_dict().items()}
    moving = net.model.middle[1].running_mean.clone()
    seen: list[bool] = []
    handle = net.model.down[1].register_forward_hook(lambda module, *_: seen.append(module.training))
    run(tmp_path, (net, loss))
    handle.remove()
    assert seen and not any(seen)
    after = net.model.down.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(moving, net.model.middle[1].running_mean)
    assert net.training and net.model.middle[1].training and not net.model.down[1].training


@pytest.mark.slow
def test_a_network_left_in_eval_mode_trains_but_for_what_has_no_gradient(tmp_path: Path) -> None:
    net, loss = frozen()
    net.eval()
    run(tmp_path, (net, loss))
    assert (
        net.model.middle[1].training and not net.model.down[1].training and net.model.down[1].num_batches_tracked == 0
    )
    net, loss = normed()
    net.eval()
    run(tmp_path / "all", (net, loss))
    assert net.model.down[1].training and net.model.down[1].num_batches_tracked == 6


def test_whatever_looks_at_a_network_puts_every_mode_back() -> None:
    net, _ = frozen()
    items = Slices(np.zeros((2, 1, 16, 16), np.float32), np.zeros((2, 16, 16), int), ["a", "b"], num_classes=3)
    wanted = [module.training for module in net.modules()]
    score_items(net, items, CLASSES)
    assert [module.training for module in net.modules()] == wanted
    look(net, items, CLASSES)
    assert [module.training for module in net.modules()] == wanted
    from lomix_search.data.case import Case

    case = Case("a", np.zeros((2, 1, 16, 16), np.float32), np.zeros((2, 16, 16), np.uint8), (), {}, "")
    predict_case(net, case, InferenceOptions())
    assert [module.training for module in net.modules()] == wanted
    lookahead = net.train()
    net.model.down.eval()
    with pytest.raises(ValueError, match="broken"):
        score_items(Broken(lookahead), items, CLASSES)
    assert [module.training for module in net.modules()] == wanted


class Broken(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("broken")


# -- random states and buffers -----------------------------------------------------------------------------------------


class Drawing(nn.Module):
    """Draws in every mode, from every generator, and notes in a buffer that it trains by."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, 3, 1)
        self.register_buffer("level", torch.zeros(()))
        self.draws = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        if self.draws:
            self.level = self.level * 0.9 + x.detach().mean()
            x = F.dropout(x, 0.3) + 0.1 * self.level + 0.01 * random.random() + 0.01 * np.random.rand()
        out: Tensor = self.head(self.up(self.middle(x)))
        return out


def drawing() -> Any:
    torch.manual_seed(3)
    net = lomix.instrument(Drawing().train(), torch.zeros(1, 1, 16, 16), stages=["middle", "up"])
    net.model.draws = True
    return net, lomix.MixtureLoss("lomix", 2, 3)


class Thirsty(Shapes):
    """Validation items that draw a lot."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        torch.rand(100), np.random.rand(100), random.random()
        return super().__getitem__(index)


def callback(step: int, dice: float) -> None:
    torch.rand(3), np.random.rand(3), random.random()


@pytest.mark.slow
def test_how_often_is_validated_changes_no_bit_of_the_weights(tmp_path: Path) -> None:
    final = []
    for number, every in enumerate((1, 2, 5, 100)):
        folder = tmp_path / str(number)
        run(folder, drawing(), Thirsty(4), validate_every=every, on_validate=callback)
        final.append((folder / "mixture.safetensors").read_bytes())
        weights = read_tensors(folder / "final.pt")
        assert all(torch.equal(weights[k], v) for k, v in read_tensors(tmp_path / "0/final.pt").items())
        lines = read_lines(folder / "metrics.jsonl")
        losses = [line["train/loss"] for line in lines if "train/loss" in line]
        assert losses == [n["train/loss"] for n in read_lines(tmp_path / "0/metrics.jsonl") if "train/loss" in n]
    assert len(set(final)) == 1
    net, loss = drawing()
    lomix.search(net, loss, Shapes(), folder=tmp_path / "none", steps=6, batch_size=4, lr=1e-2, progress=False)
    without = read_tensors(tmp_path / "none/final.pt")
    assert all(torch.equal(without[k], v) for k, v in read_tensors(tmp_path / "0/final.pt").items())


def test_a_callback_may_leave_the_network_in_eval_mode(tmp_path: Path) -> None:
    net, loss = normed()
    run(tmp_path, (net, loss), on_validate=lambda step, dice: net.eval() and None)
    assert net.training and net.model.down[1].num_batches_tracked == 6


# -- the best score ----------------------------------------------------------------------------------------------------


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[int]:
    """Let validations give these scores; each sets the network's first bias, so that best.pt tells which it is."""
    calls: list[int] = []

    def score(net: Any, *_: Any) -> DiceResult:
        calls.append(len(calls))
        with torch.no_grad():
            net.model.head.bias[0] = float(len(calls))
        value = scores[min(len(calls), len(scores)) - 1]
        return DiceResult(CLASSES, ("a",), np.full((1, 3), value))

    monkeypatch.setattr(sys.modules["lomix_search.training.validation"], "score_items", score)
    return calls


@pytest.mark.parametrize(
    ("scores", "best", "number"),
    [
        ([0.2, 0.8, np.nan, 0.3], 0.8, 2),
        ([np.nan, 0.1, np.nan, 0.3], 0.3, 4),
        ([np.nan, 0.3, 0.1, np.nan], 0.3, 2),
        ([0.4, 0.4, 0.4, 0.4], 0.4, 1),
        ([np.nan] * 4, np.nan, 0),
    ],
)
def test_a_score_that_is_none_is_never_the_best(
    scores: list[float], best: float, number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = scripted(monkeypatch, scores)
    result = run(tmp_path, normed(), steps=8)
    assert np.array_equal(result.best_dice, best, equal_nan=True) and result.best_step == 2 * number
    assert len(calls) == 4  # the last one is not made twice
    if number:
        assert float(read_tensors(tmp_path / "best.pt")["head.bias"][0]) == number
    assert is_better(0.0, np.nan) and not is_better(np.nan, 0.0) and not is_better(np.nan, np.nan)


def test_patience_does_not_take_nan_for_better(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, [0.2, 0.8, np.nan, 0.3, np.nan, 0.9])
    result = run(tmp_path, normed(), steps=40, patience=3, progress=True)
    assert result.best_step == 4 and result.mixture.provenance.steps == 10
    assert "Stopped early at step 10: best val Dice 0.800 at step 4" in capsys.readouterr().out
    best: Callable[[], Any] = lambda: read_tensors(tmp_path / "best.pt")["head.bias"][0]  # noqa: E731
    assert float(best()) == 2
