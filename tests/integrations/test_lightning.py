"""A LightningModule trained by the callback is trained by the mixture, and afterwards is what it was."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("lightning.pytorch")

from lightning.pytorch import Callback
from lightning.pytorch.tuner import Tuner
from support.lightning_modules import Manual, Scheduled, Segmentation, shapes, smooth, trainer
from support.zoo import SmallUNet

import lomix_search as lomix
from lomix_search.integrations.lightning import LoMixCallback

pytestmark = [pytest.mark.lightning, pytest.mark.filterwarnings("ignore")]


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def unlike(a: nn.Module, b: nn.Module) -> list[str]:
    """Return the parameters that differ."""
    names = [name for name, _ in a.named_parameters()]
    assert names
    pairs = zip(weights(a), weights(b), strict=True)
    return [name for name, pair in zip(names, pairs, strict=True) if not torch.equal(*pair)]


def test_a_fit_is_the_loop_that_one_would_write(tmp_path: Path) -> None:
    """Bit for bit: heads, operators, weights and their learning rates too."""
    module, callback = Segmentation(smooth()), LoMixCallback()
    by_hand = copy.deepcopy(module.net)
    torch.manual_seed(5)
    trainer(tmp_path, callback).fit(module, shapes())

    torch.manual_seed(5)
    net = lomix.instrument(by_hand, torch.zeros(1, 1, 16, 16)).train()
    loss = lomix.MixtureLoss.for_network(net)
    rest = [*net.heads.parameters(), *loss.operators.parameters()]
    groups = [{"params": net.model.parameters()}, {"params": rest}, loss.parameter_groups()[-1]]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    for _ in range(2):
        for images, labels in shapes():
            optimizer.zero_grad()
            loss(net(images), labels).backward()
            optimizer.step()

    guest = callback.attachment.here
    assert unlike(module.net, by_hand) == []
    assert unlike(guest.heads, net.heads) == unlike(guest.loss, loss) == []
    found = json.loads((tmp_path / "mixture.json").read_text())
    assert found["provenance"]["versions"].keys() == {"lomix_search", "torch", "python", "lightning"}
    assert found["provenance"]["steps"] == 6 and [row["id"] for row in found["maps"]] == list(loss.map_ids)


def test_the_module_is_the_stock_one_at_all_times(tmp_path: Path) -> None:
    module = Segmentation()
    keys, inside = list(module.state_dict()), []

    class Peek(Callback):
        def on_train_batch_end(self, _trainer: object, pl_module: nn.Module, *_: object) -> None:
            inside.append((list(pl_module.state_dict()), len(list(pl_module.parameters()))))

    before = {name: set(vars(part)) for name, part in module.named_modules()}
    count = len(list(module.parameters()))
    trainer(tmp_path, LoMixCallback(), Peek()).fit(module, shapes())
    assert all(seen == keys and number > count for seen, number in inside) and len(inside) == 6
    assert list(module.state_dict()) == keys and len(list(module.parameters())) == count
    for name, part in module.named_modules():
        assert not {
            key for key in vars(part).keys() - before[name] if "lomix" in key or key in ("forward", "configure_model")
        }
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_validation_test_and_prediction_are_the_stock_ones(tmp_path: Path) -> None:
    """And the modes that Lightning sets directly after each validation do not matter to training."""
    plain, watched = Segmentation(smooth()), Segmentation(smooth())
    torch.manual_seed(5)
    trainer(tmp_path, LoMixCallback()).fit(plain, shapes())
    torch.manual_seed(5)
    run = trainer(tmp_path, LoMixCallback(), val_check_interval=1, num_sanity_val_steps=1)
    run.fit(watched, shapes(), shapes(count=4))
    assert unlike(plain, watched) == []
    images, labels = next(iter(shapes(count=4)))
    with torch.no_grad():
        logits = watched.net.eval()(images)
        assert torch.equal(watched.seen[-1], logits)
        assert float(run.callback_metrics["val"]) == float(nn.CrossEntropyLoss()(logits, labels))
        for other in (trainer(tmp_path, LoMixCallback()), trainer(tmp_path)):
            assert torch.equal(other.predict(watched, shapes(count=4))[0], logits)
            assert other.test(watched, shapes(count=4), verbose=False) == [
                {"val": float(nn.CrossEntropyLoss()(logits, labels))}
            ]


class Named(Segmentation):
    def __init__(self) -> None:
        super().__init__(smooth(), nn.MSELoss())
        self.losses = nn.ModuleDict({"main": nn.CrossEntropyLoss(), "other": nn.MSELoss()})

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return self.losses["main"](self.net(batch[0]), batch[1])


class Method(Segmentation):
    def __init__(self) -> None:
        super().__init__(smooth())
        del self.loss

    def criterion(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, target)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return self.criterion(target=batch[1], logits=self(batch[0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images).float().softmax(1)


class Itself(Segmentation):
    """Has the layers of the network as its own."""

    def __init__(self) -> None:
        super().__init__(smooth())
        parts = dict(self.net.named_children())
        del self.net
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return SmallUNet.forward(self, images)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return self.loss(self(batch["image"]), batch["label"])


class Late(Segmentation):
    """Builds its network and its data when it is set up."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        del self.net
        setattr(self, hook, self.build)

    def setup(self, stage: str) -> None:
        pass

    def configure_model(self) -> None:
        pass

    def build(self, stage: str = "") -> None:
        with torch.random.fork_rng():
            self.net = smooth()


def test_losses_batches_and_networks_of_many_forms(tmp_path: Path) -> None:
    """All are the same training."""

    def fitted(module: Segmentation, loader: Any = None, **options: Any) -> Segmentation:
        torch.manual_seed(5)
        trainer(tmp_path, LoMixCallback(**options), max_epochs=1).fit(module, loader or shapes())
        return module

    usual = fitted(Segmentation(smooth()))
    assert unlike(usual.net, fitted(Segmentation(smooth(), nn.functional.cross_entropy)).net) == []
    assert unlike(usual.net, fitted(Named(), loss="losses.main").net) == []
    assert unlike(usual.net, fitted(Method()).net) == []
    dicts = [{"label": label, "image": image} for image, label in map(shapes().dataset.__getitem__, range(12))]
    assert unlike(usual.net, fitted(Itself(), torch.utils.data.DataLoader(dicts, batch_size=4))) == []
    for hook in ("setup", "configure_model"):
        assert unlike(usual.net, fitted(Late(hook)).net) == []
    own, paper = fitted(Segmentation(smooth()), own_loss=True), fitted(Segmentation(smooth()), ce=1.0, dice=0.0)
    for a, b in zip(weights(own), weights(paper), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_heads_follow_the_networks_schedule_and_weights_do_not(tmp_path: Path) -> None:
    seen: list[list[dict[str, Any]]] = []

    class Peek(Callback):
        def on_before_optimizer_step(self, _run: Any, _module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            seen.append([{**group, "params": None} for group in optimizer.param_groups])

    trainer(tmp_path, LoMixCallback(weights_lr=0.03), Peek(), max_epochs=3).fit(Scheduled(), shapes())
    assert len({user["lr"] for user, *_ in seen}) == len({user["momentum"] for user, *_ in seen}) == 9
    for user, heads, mixture in seen:
        assert user.items() <= heads.items()
        assert (mixture["lr"], mixture["momentum"], mixture["weight_decay"]) == (0.03, 0.0, 0.0)

    run = trainer(tmp_path, callback := LoMixCallback(network="net"))
    run.fit(Manual(), shapes())
    judge, net = run.optimizers
    ours = {id(p) for p in callback.attachment.here.parameters()}
    assert len(judge.param_groups) == 1 and len(net.param_groups) == 3
    assert {id(p) for group in net.param_groups[1:] for p in group["params"]} == ours


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(tmp_path: Path, precision: Any) -> None:
    """On a CPU Lightning takes bfloat16 for both."""
    module, callback = Segmentation(), LoMixCallback()
    before = weights(module)
    trainer(tmp_path, callback, precision=precision).fit(module, shapes())
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in module.parameters())
    assert not any(map(torch.equal, before, weights(module)))
    theta = callback.attachment.here.loss.weighting.theta
    assert theta.dtype == torch.float32 and theta.grad is not None


def test_a_tuner_and_a_trial_run_leave_the_module_as_it_was(tmp_path: Path) -> None:
    class Tuned(Segmentation):
        lr = 1e-3

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.net.parameters(), lr=self.lr)

    module = Tuned()
    before, keys = weights(module), [name for name, _ in module.named_modules()]
    run = trainer(tmp_path, LoMixCallback())
    Tuner(run).lr_find(module, shapes(), num_training=5, update_attr=False)
    assert all(map(torch.equal, before, weights(module)))
    assert [name for name, _ in module.named_modules()] == keys
    run.fit(module, shapes())
    assert len(run.optimizers[0].param_groups) == 3
    (tmp_path / "mixture.json").unlink()
    trainer(tmp_path, LoMixCallback(), fast_dev_run=True).fit(module, shapes())
    assert not (tmp_path / "mixture.json").exists()
