"""Checkpoints: the stock LightningModule and the callback read each other's, and a run goes on as if never stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("lightning.pytorch")

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from support.lightning_modules import Manual, Scheduled, Segmentation, shapes, smooth, trainer

from lomix_search.errors import RunError
from lomix_search.integrations.lightning import LoMixCallback

pytestmark = [pytest.mark.lightning, pytest.mark.filterwarnings("ignore")]


def parts(run: Any, module: nn.Module) -> dict[str, torch.Tensor]:
    """All that a run has learned: network, heads, weights, and the optimizers' averages."""
    (callback,) = (one for one in run.callbacks if isinstance(one, LoMixCallback))
    guest, found = callback.attachment.here, dict(module.state_dict())
    found |= {f"heads.{name}": one for name, one in guest.heads.state_dict().items()}
    found |= {f"loss.{name}": one for name, one in guest.loss.state_dict().items()}
    for i, optimizer in enumerate(run.optimizers):
        for j, state in optimizer.state_dict()["state"].items():
            found |= {f"optimizer {i}.{j}.{name}": torch.as_tensor(one) for name, one in state.items()}
    return {name: one.clone() for name, one in found.items()}


def unlike(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    return sorted(a.keys() ^ b.keys()) + [name for name in a.keys() & b.keys() if not torch.equal(a[name], b[name])]


class Stop(Callback):
    """Writes a checkpoint at the end of an epoch, and stops."""

    def __init__(self, epochs: int, path: Path) -> None:
        self.epochs, self.path = epochs, path

    def on_train_epoch_end(self, run: Any, _module: nn.Module) -> None:
        if run.current_epoch + 1 == self.epochs:
            run.save_checkpoint(self.path)
            run.should_stop = True


CLIPPED: dict[str, Any] = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}


@pytest.mark.parametrize("kind", ["plain", "scheduled", "bf16", "manual", "ema", "swa", "anneal"])
def test_a_run_that_was_stopped_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    make: Any = {"scheduled": Scheduled, "manual": Manual}.get(kind, Segmentation)
    options: dict[str, Any] = {"scheduled": CLIPPED, "bf16": {"precision": "bf16-mixed"}}.get(kind, {})
    others = {"ema": lambda: [EMAWeightAveraging(decay=0.5)], "swa": lambda: [StochasticWeightAveraging(0.05, 0.5)]}
    more = others.get(kind, list)

    def run(epochs: int, checkpoint: Path | None = None) -> tuple[Any, nn.Module]:
        torch.manual_seed(5)
        module = make()
        module.net.dropout.p = 0.0  # Lightning does not keep random states
        callback = LoMixCallback(network="net", weighting="anneal" if kind == "anneal" else "softplus")
        stop = [] if epochs == 4 else [Stop(epochs, tmp_path / "half.ckpt")]
        one = trainer(tmp_path, callback, *more(), *stop, max_epochs=4, **options)
        one.fit(module, shapes(), ckpt_path=checkpoint)
        return one, module

    whole, module = run(4)
    half, stopped = run(2)
    assert unlike(parts(whole, module), parts(half, stopped)) != []
    again, resumed = run(4, tmp_path / "half.ckpt")
    assert again.global_step == whole.global_step
    assert unlike(parts(whole, module), parts(again, resumed)) == []


@pytest.mark.parametrize("make", [Segmentation, Scheduled, Manual])
def test_the_checkpoint_is_the_stock_modules(tmp_path: Path, make: type[Segmentation]) -> None:
    module = make()
    run = trainer(tmp_path, LoMixCallback(network="net"))
    run.fit(module, shapes())
    run.save_checkpoint(tmp_path / "ours.ckpt")
    found = torch.load(tmp_path / "ours.ckpt", weights_only=True)
    assert list(found["state_dict"]) == list(make().state_dict())
    stock = trainer(tmp_path)
    fresh = make()
    stock.fit(fresh, shapes())
    stock.save_checkpoint(tmp_path / "stock.ckpt")
    assert_like(found["optimizer_states"], torch.load(tmp_path / "stock.ckpt", weights_only=True)["optimizer_states"])

    images, _ = next(iter(shapes()))
    loaded = make.load_from_checkpoint(tmp_path / "ours.ckpt", strict=True)
    assert torch.equal(loaded.net.eval()(images), module.net.eval()(images))
    trainer(tmp_path, max_epochs=3).fit(make(), shapes(), ckpt_path=tmp_path / "ours.ckpt")  # goes on without us
    begun = trainer(tmp_path, LoMixCallback(network="net"), max_epochs=3)  # and with us, from a stock one
    begun.fit(make(), shapes(), ckpt_path=tmp_path / "stock.ckpt")
    assert begun.global_step > stock.global_step


def assert_like(ours: list[Any], stock: list[Any]) -> None:
    for one, other in zip(ours, stock, strict=True):
        assert one["state"].keys() == other["state"].keys()
        assert [group["params"] for group in one["param_groups"]] == [
            group["params"] for group in other["param_groups"]
        ]
        assert [group.keys() for group in one["param_groups"]] == [group.keys() for group in other["param_groups"]]


def test_keys_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    run, module = trainer(tmp_path, LoMixCallback(keep_keys=True)), Segmentation()
    run.fit(module, shapes())
    inside: list[list[str]] = []

    class Peek(Callback):
        def on_train_end(self, _run: Any, pl_module: nn.Module) -> None:
            inside.append([name for name in pl_module.state_dict() if name.startswith("_lomix.")])

    run = trainer(tmp_path, LoMixCallback(keep_keys=True), Peek())
    run.fit(module, shapes())
    assert {name.split(".")[1] for name in inside[0]} == {"heads", "loss"}


def test_another_space_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, LoMixCallback())
    run.fit(Segmentation(), shapes())
    run.save_checkpoint(tmp_path / "ours.ckpt")
    with pytest.raises(RunError, match="the checkpoint's mixture is of another network, search space or weighting"):
        trainer(tmp_path, LoMixCallback("deep_supervision"), max_epochs=3).fit(
            Segmentation(), shapes(), ckpt_path=tmp_path / "ours.ckpt"
        )


def test_a_second_fit_goes_on_with_what_was_learned(tmp_path: Path) -> None:
    torch.manual_seed(5)
    module, callback = Segmentation(smooth()), LoMixCallback()
    trainer(tmp_path, callback).fit(module, shapes())
    weights = callback.attachment.here.loss.weighting.weights().detach()
    heads = callback.attachment.here.heads
    run = trainer(tmp_path, callback, limit_train_batches=0)
    run.fit(module, shapes())
    assert callback.attachment.here.heads is heads
    assert torch.equal(callback.attachment.here.loss.weighting.weights(), weights)


def test_callbacks_that_average_must_come_later(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        trainer(tmp_path, EMAWeightAveraging(), LoMixCallback()).fit(Segmentation(), shapes())
    assert str(caught.value) == (
        "EMAWeightAveraging copied the LightningModule before LoMixCallback gave it its heads.\n"
        "  Try:  Trainer(callbacks=[LoMixCallback(), EMAWeightAveraging(…)])  # in this order"
    )
