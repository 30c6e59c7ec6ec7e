"""What the callback refuses, with what to type; and the company in which it runs."""

import csv
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("lightning.pytorch")

from lightning.pytorch.loggers import CSVLogger
from support.forked import two_processes
from support.lightning_modules import Manual, Segmentation, shapes, smooth, trainer
from support.zoo import SmallUNet

import lomix_search as lomix
from lomix_search.errors import LomixError
from lomix_search.integrations.lightning import LoMixCallback

pytestmark = [pytest.mark.lightning, pytest.mark.filterwarnings("ignore")]


class Functional(Segmentation):
    def __init__(self) -> None:
        super().__init__()
        del self.loss

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


class Unused(Functional):
    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()


class Judged(Segmentation):
    """Calls its loss and returns another."""

    def training_step(self, batch: Any, _: int) -> Tensor:
        logits = self.net(batch[0])
        self.loss(logits, batch[1])
        return nn.functional.cross_entropy(logits, batch[1])


class Changed(Segmentation):
    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.loss(2 * self.net(batch[0]), batch[1])


class Two(Segmentation):
    def __init__(self) -> None:
        super().__init__()
        self.dice = nn.MSELoss()


class Deep(SmallUNet):
    def forward(self, x: Tensor) -> Any:
        full = super().forward(x)
        return [full, nn.functional.avg_pool2d(full, 2)] if self.training else full


class DeepLoss(Segmentation):
    def __init__(self) -> None:
        super().__init__(Deep())

    def training_step(self, batch: Any, _: int) -> Tensor:
        full, half = self.net(batch[0])
        return self.loss(half, batch[1][:, ::2, ::2]) + self.loss(full, batch[1])


class Weighted(Segmentation):
    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.loss(self.net(batch[0]), batch[1], torch.ones(()))


class Single(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Conv2d(1, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x)


class ByLBFGS(Segmentation):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters())


class Elsewhere(Segmentation):
    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("free", nn.Parameter(torch.zeros(1)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.free], lr=1.0)


def instrumented() -> Segmentation:
    return Segmentation(lomix.instrument(SmallUNet(), torch.zeros(1, 1, 16, 16)))


REFUSED: list[tuple[Callable[[], Segmentation], dict[str, Any], str]] = [
    (Functional, {}, "nothing in Functional looks like a loss; LoMixCallback replaces one that is an attribute."),
    (Two, {}, "2 attributes of Two look like a loss; the mixture takes the place of one.\n  Seen: dice, loss"),
    (Unused, {}, "the loss was called without its output; looked for: self.net and self.loss"),
    (Judged, {}, "what training_step of Judged returned does not come from its loss"),
    (Changed, {}, "the loss of SmallUNet was called with what MulBackward0 made of its output, of which the maps"),
    (DeepLoss, {}, "the loss of Deep was called with output[1], which is not the map that the network is used"),
    (Weighted, {}, "loss was called with 2 values beside the logits; the mixture takes one.\n  Seen: Tensor, Tensor"),
    (lambda: Segmentation(Single()), {}, "Single has no decoder stage that was found; a mixture needs at least 2."),
    (ByLBFGS, {}, "LBFGS takes one parameter group; the mixture needs its own."),
    (Elsewhere, {}, "no optimizer trains SmallUNet.\n  Seen: SGD"),
    (instrumented, {}, "Segmentation.net is instrumented already: two plug-ins would train it at once."),
    (Manual, {}, 'LoMixCallback looks for the one network.\n  Seen: net, judge\n  Try:  LoMixCallback(network="net")'),
    (Segmentation, {"network": "nte"}, 'Segmentation has no module "nte".\n  Seen: net'),
    (Segmentation, {"loss": "criterion"}, 'Segmentation has no loss "criterion".'),
    (Segmentation, {"weighting": "lookahead"}, 'weighting "lookahead" looks at held-out data'),
    (Segmentation, {"space": "lomx"}, 'Nearest: "lomix"'),
    (Segmentation, {"example": torch.zeros(1, 3, 16, 16)}, "SmallUNet"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "options", "said"), REFUSED, ids=lambda one: getattr(one, "__name__", None))
def test_what_would_train_something_else_is_refused(
    tmp_path: Path, make: Callable[[], Segmentation], options: dict[str, Any], said: str
) -> None:
    """And the module is left as it was."""
    module = make()
    names = [name for name, _ in module.named_modules()]
    with pytest.raises(LomixError) as caught:
        trainer(tmp_path, LoMixCallback(**options), max_epochs=1).fit(module, shapes())
    assert said in str(caught.value)
    assert [name for name, _ in module.named_modules()] == names
    assert "forward" not in vars(getattr(module, "loss", module))


def test_a_schedule_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LomixError, match='weighting "anneal" needs to know how long the training is'):
        trainer(tmp_path, LoMixCallback(weighting="anneal"), max_epochs=-1).fit(Segmentation(), shapes())


def test_two_callbacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Found more than one stateful callback of type `LoMixCallback`"):
        trainer(tmp_path, LoMixCallback(), LoMixCallback())


def test_another_version_is_told(tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning

    import lomix_search.integrations.lightning.callback as module

    monkeypatch.setattr(module, "TESTED_LIGHTNING", "2.1")
    with caplog.at_level(logging.WARNING, "lightning.pytorch.lomix"):
        trainer(tmp_path, LoMixCallback(), max_epochs=1).fit(Segmentation(), shapes())
    assert f"LoMix was tested with lightning 2.1; this is {lightning.__version__}. If anything fails" in caplog.text


def test_options_of_the_users_loss_are_taken_over_or_told(tmp_path: Path, caplog: Any) -> None:
    callback = LoMixCallback()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), ignore_index=2)
    with caplog.at_level(logging.INFO, "lightning.pytorch.lomix"):
        trainer(tmp_path, callback, max_epochs=1).fit(Segmentation(loss=loss), shapes())
    assert callback.attachment.here.loss.ignore_index == 2
    assert "CrossEntropyLoss(weight=…) is left out: LoMixCallback(class_weights=[…]) or own_loss=True" in caplog.text
    assert "SmallUNet has 2 stages: up.0, up.1. It trains on 6 maps (space lomix, weighting softplus)" in caplog.text


def test_loggers_get_the_weights(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer(tmp_path, LoMixCallback(), logger=logger, log_every_n_steps=2).fit(Segmentation(), shapes())
    rows = list(csv.DictReader((Path(logger.log_dir) / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert all(float(row["lomix/P2"]) > 0 for row in rows)
    assert (Path(logger.log_dir) / "mixture.json").exists()


@pytest.mark.parametrize("whole", [False, True])
def test_compiled_networks_train_uncompiled_and_say_so(tmp_path: Path, caplog: Any, whole: bool) -> None:
    plain, compiled = Segmentation(smooth()), Segmentation(smooth())
    torch.manual_seed(5)
    trainer(tmp_path, LoMixCallback()).fit(plain, shapes())
    torch.manual_seed(5)
    inner = compiled.net
    given: Any = torch.compile(compiled, backend="eager") if whole else compiled
    if not whole:
        compiled.net = torch.compile(inner, backend="eager")
    with caplog.at_level(logging.WARNING, "lightning.pytorch.lomix"):
        trainer(tmp_path, LoMixCallback(), val_check_interval=1).fit(given, shapes(), shapes(count=4))
    assert all(map(torch.equal, plain.parameters(), compiled.parameters()))
    assert "training steps run without torch.compile" in caplog.text
    if not whole:
        images = next(iter(shapes()))[0]
        assert torch.equal(compiled.net.eval()(images), inner.eval()(images))


def test_the_other_package_of_the_same_lightning(tmp_path: Path) -> None:
    """``import pytorch_lightning`` where that is what a user has."""
    code = f"""
import sys, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "lightning" else find(name, *rest)
import pytorch_lightning, torch
from torch import nn
from lomix_search.integrations.lightning import LoMixCallback
from support.zoo import SmallUNet
assert issubclass(LoMixCallback, pytorch_lightning.Callback)
class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.loss = SmallUNet(), nn.CrossEntropyLoss()
    def training_step(self, batch, _):
        return self.loss(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
data = torch.utils.data.TensorDataset(torch.rand(4, 1, 16, 16), torch.zeros(4, 16, 16).long())
pytorch_lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, default_root_dir={str(tmp_path)!r},
    accelerator="cpu", callbacks=[LoMixCallback()]).fit(Module(), torch.utils.data.DataLoader(data, 2))
assert "lightning.pytorch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
    assert (tmp_path / "mixture.json").exists()


def _process(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ["LOCAL_RANK"] = str(rank)
    torch.manual_seed(5)
    module, callback = Segmentation(smooth()), LoMixCallback()
    run = trainer(folder, callback, devices=2, strategy="ddp", max_epochs=2, use_distributed_sampler=False)
    mine = torch.utils.data.Subset(shapes().dataset, range(rank, 12, 2))
    run.fit(module, torch.utils.data.DataLoader(mine, 2))
    assert run.world_size == 2 and run.global_rank == rank
    guest = callback.attachment.here
    state = {"net": module.net.state_dict(), "heads": guest.heads.state_dict(), "loss": guest.loss.state_dict()}
    torch.save(state, folder / f"{rank}.pt")


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """With DDP's default, which does not look for parameters that a step left out."""
    two_processes(_process, tmp_path)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.manual_seed(5)
    module, callback = Segmentation(smooth()), LoMixCallback()
    data = shapes().dataset
    order = [index for start in range(0, 12, 4) for index in (start, start + 2, start + 1, start + 3)]
    trainer(tmp_path, callback).fit(module, torch.utils.data.DataLoader(torch.utils.data.Subset(data, order), 4))
    guest = callback.attachment.here
    alone = {"net": module.net.state_dict(), "heads": guest.heads.state_dict(), "loss": guest.loss.state_dict()}
    for part in alone:
        for name, value in alone[part].items():
            assert torch.equal(one[part][name], other[part][name])
            torch.testing.assert_close(one[part][name], value, atol=2e-4, rtol=1e-3)
