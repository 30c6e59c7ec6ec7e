"""The loss as a CUDA graph would record it: its tensors have no values here, so that nobody can ask for one."""

import importlib.util
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from support.loss_terms import STRUCTURE
from torch.utils._python_dispatch import TorchDispatchMode

from lomix_search.mixture.loss import MixtureLoss, module, weight_watch
from lomix_search.mixture.loss.label_checks import LateCheck
from lomix_search.mixture.weighting import WEIGHTINGS

ENGINES = ["reference", *(["triton"] if importlib.util.find_spec("triton") else [])]
"""On a GPU a plain ``tiled`` step is too slow to be worth a recording."""


class Copies(TorchDispatchMode):
    """Notes what is copied from one device to another: a recording would hold what it was, not what it will be."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            self.found += (
                [str(func)] if len({one.device for one in (made, *args) if isinstance(one, torch.Tensor)}) > 1 else []
            )
        return made


def second_step(monkeypatch: pytest.MonkeyPatch, engine: str = ENGINES[-1], **settings: Any) -> list[str]:
    """Return what is copied between devices; asking for a value, or for how many there are, is an error by itself."""
    for part in (module, weight_watch):
        monkeypatch.setattr(part, "in_recording", lambda like: like.is_meta)
    monkeypatch.setattr(module, "choose_engine", lambda *given: engine)
    monkeypatch.setattr(torch, "autocast", lambda *given, **settings: nullcontext())  # torch has none without values
    loss = MixtureLoss("lomix", 3, 3, **settings).to("meta")
    with torch.device("meta"):
        maps = [torch.randn(2, 3, *size, requires_grad=True) for size in ((2, 3), (4, 6), (8, 12))]
        labels = torch.zeros((2, 3, 8, 12) if settings.get("multilabel") else (2, 8, 12), dtype=torch.long)
    loss(maps, labels).backward()
    with Copies() as seen:
        loss(maps, labels).backward()
    assert all(one.grad.shape == one.shape for one in maps)
    return seen.found


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_waits_for_the_device(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert second_step(monkeypatch, engine, ignore_index=255) == []


@pytest.mark.parametrize("weighting", [name for name in WEIGHTINGS if name != "fixed"])
def test_under_every_weighting(weighting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert second_step(monkeypatch, weighting=weighting) == []


OPTIONS = [{"multilabel": True}, {"class_weights": [1.0, 2.0, 3.0]}, {"per_image": True}]
OPTIONS += [{"focal_gamma": 2.0}, {"label_smoothing": 0.1}, STRUCTURE | {"multilabel": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_with_options(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert second_step(monkeypatch, **options) == []


def test_what_is_not_recorded_looks_at_labels_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording leaves out these looks, which bring numbers to the CPU, and no other step does."""
    asked: list[object] = []
    monkeypatch.setattr(LateCheck, "look", lambda *given: asked.append(given))
    second_step(monkeypatch)
    assert asked == []
    monkeypatch.setattr(module, "in_recording", lambda like: False)
    loss = MixtureLoss("last_layer", 1, 3, "uniform").to("meta")
    with torch.device("meta"):
        loss(torch.zeros(1, 1, 3, 4), torch.zeros(1, 4, dtype=torch.long))
    assert len(asked) == 1
