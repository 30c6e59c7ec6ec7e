"""A LightningModule trained by the callback is trained by the mixture, and afterwards is what it was."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("lightning.pytorch")

from support.lightning_modules import Segmentation, shapes, smooth, trainer
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
    assert found["provenance"]["steps"] == 6 and [row["id"] for row in found["maps"]] == list(loss.map_ids)


def test_the_module_is_the_stock_one_at_all_times(tmp_path: Path) -> None:
    module = Segmentation()
    keys, inside = list(module.state_dict()), []

    class Look(torch.nn.Identity):
        pass

    from lightning.pytorch import Callback

    class Peek(Callback):
        def on_train_batch_end(self, _trainer: object, pl_module: nn.Module, *_: object) -> None:
            inside.append((list(pl_module.state_dict()), len(list(pl_module.parameters()))))

    before = {name: set(vars(part)) for name, part in module.named_modules()}
    count = len(list(module.parameters()))
    trainer(tmp_path, LoMixCallback(), Peek()).fit(module, shapes())
    assert all(seen == keys and number > count for seen, number in inside) and len(inside) == 6
    assert list(module.state_dict()) == keys and len(list(module.parameters())) == count
    after = {name: set(vars(part)) for name, part in module.named_modules()}
    assert {name: after[name] - before[name] for name in after} == {name: set() for name in before} | {
        "": after[""] - before[""]
    }
    assert not {key for key in after[""] - before[""] if "lomix" in key or key == "configure_model"}
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
