"""LoMix in Hugging Face's own Trainer: training, evaluation, checkpoints, trackers."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")

from support.trainer_pieces import IGNORED, items, quarter, trainer_of, upernet

import lomix_search as lomix
from lomix_search.integrations.huggingface import LoMixSupervision, supervise
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture

pytestmark = [pytest.mark.huggingface, pytest.mark.filterwarnings("ignore")]


def values(lomix: LoMixSupervision) -> list[Tensor]:
    """Return all that is trained: the model, the heads, operators and weights."""
    return [p.detach().clone() for p in (*lomix.net.parameters(), *lomix.loss.parameters())]


def hooks_of(model: nn.Module) -> list[tuple[str, int]]:
    """Count the hooks on each module; transformers has some of its own."""
    counts = {n: len(m._forward_hooks) + len(m._forward_pre_hooks) for n, m in model.named_modules()}
    return [(name, count) for name, count in counts.items() if count]


def test_a_training_is_the_loop_that_one_would_write(tmp_path: Path) -> None:
    """Heads and loss get the gradient of each step alone, though the Trainer clears those of its model only."""
    model = quarter()
    by_hand = copy.deepcopy(model)
    trainer = trainer_of(model, tmp_path, max_steps=3, save_strategy="no", max_grad_norm=0.0, optim="adamw_torch")
    trainer.train_dataset = items(2)
    theirs = supervise(trainer, weighting="normalized")
    heads, state = copy.deepcopy(theirs.net.heads.state_dict()), copy.deepcopy(theirs.loss.state_dict())
    trainer.train()
    net = lomix.instrument(by_hand, torch.stack([item["pixel_values"] for item in items(2)]))
    loss = lomix.MixtureLoss.for_network(net, weighting="normalized", ignore_index=IGNORED)
    optimizer = torch.optim.AdamW(
        [{"params": net.parameters()}, *loss.parameter_groups()], lr=1e-3, weight_decay=0.0
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 3)
    net.heads.load_state_dict(heads)
    loss.load_state_dict(state)
    net.train()
    batch = {key: torch.stack([item[key] for item in items(2)]) for key in ("pixel_values", "labels")}
    for _ in range(3):
        optimizer.zero_grad()
        loss(net(batch["pixel_values"]), batch["labels"]).backward()
        optimizer.step()
        schedule.step()
    for a, b in zip(values(theirs), [*net.parameters(), *loss.parameters()], strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-6)


def test_a_upernet_with_everything_of_the_trainer(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers import UperNetForSemanticSegmentation

    model = upernet()
    trainer = trainer_of(model, tmp_path, eval_strategy="steps", eval_steps=2, report_to=["tensorboard"])
    lomix = supervise(trainer, log_weights=True)
    before = values(lomix)
    trainer.train()
    after = values(lomix)
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    keys = set(load_file(tmp_path / "checkpoint-4" / "model.safetensors"))
    assert keys == set(upernet().state_dict())
    loaded = UperNetForSemanticSegmentation.from_pretrained(tmp_path / "checkpoint-4")
    stock = upernet().eval()
    stock.load_state_dict(loaded.state_dict())  # weights in the memory of the file lie unaligned, and round otherwise
    images = torch.stack([item["pixel_values"] for item in items(4)])
    with torch.no_grad():
        wanted = stock(images).logits
    assert torch.equal(torch.from_numpy(trainer.predict(items(4)).predictions), wanted)
    assert hooks_of(model) == hooks_of(upernet())
    for name in ("checkpoint-4/mixture.json", "mixture.json"):
        mixture = Mixture.load(tmp_path / name)
        assert mixture.weights == pytest.approx(lomix.mixture().weights)
        assert (mixture.provenance.network, mixture.provenance.steps) == ("UperNetForSemanticSegmentation", 4)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1]["lomix/add_1_2"] == pytest.approx(mixture.weights["add(1,2)"])
    assert "lomix/P4" not in next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
    json.dumps(trainer.state.log_history)
    runs = [path.parent for path in tmp_path.rglob("events.out*")]
    scalars = EventAccumulator(str(runs[0])).Reload().Scalars("train/lomix/P4")
    assert scalars[-1].value == pytest.approx(mixture.weights["P4"])


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path) -> None:
    def moments(trainer: Any) -> list[Tensor]:
        return [value for state in trainer.optimizer.state.values() for value in state.values()]

    whole = trainer_of(quarter(), tmp_path / "whole")
    a = supervise(whole, weighting="normalized")
    whole.train()
    again = trainer_of(quarter(), tmp_path / "again")
    b = supervise(again, weighting="normalized")
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))  # of another folder
    assert again.state.global_step == 4
    for one, other in zip([*values(a), *moments(whole)], [*values(b), *moments(again)], strict=True):
        assert torch.equal(one, other)
    files = [tmp_path / name / "mixture.json" for name in ("whole", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_gradients_that_are_accumulated_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """Also where the last step of an epoch has fewer batches; cross-entropy alone, as Dice is no mean over items."""
    results = []
    for name, batch, steps in (("whole", 4, 1), ("parts", 2, 2)):
        trainer = trainer_of(
            quarter(), tmp_path / name, per_device_train_batch_size=batch, gradient_accumulation_steps=steps,
            save_strategy="no", max_grad_norm=0.0,
        )  # fmt: skip
        trainer.train_dataset = items(6)  # an epoch is four items, then two
        lomix = supervise(trainer, ce=1.0, dice=0.0, weighting="normalized")
        trainer.train()
        results.append((values(lomix), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)


def test_logits_at_a_quarter_and_pixels_without_a_label(tmp_path: Path) -> None:
    trainer = trainer_of(quarter(), tmp_path, save_strategy="no")
    lomix = supervise(trainer)
    assert [stage.stride for stage in lomix.net.stages] == [(8, 8), (4, 4)]
    assert lomix.loss.ignore_index == IGNORED
    metrics, output = trainer.evaluate(), trainer.predict(items(4))
    assert output.predictions.shape == (4, 3, 16, 16)  # as the stock model returns them
    alone = MixtureLoss("last_layer", 1, 3, ignore_index=IGNORED)
    labels = torch.stack([item["labels"] for item in items(4)])
    large = nn.functional.interpolate(torch.from_numpy(output.predictions), size=(64, 64), mode="bilinear")
    plain = float(alone([large], labels)) / math.log(2)  # without the weight that it has at first
    assert metrics["eval_loss"] == pytest.approx(plain, rel=1e-5)
    model = quarter()
    model.config.semantic_loss_ignore_index = 7
    assert supervise(trainer_of(model, tmp_path)).loss.ignore_index == 7
    assert supervise(trainer_of(quarter(), tmp_path), ignore_index=None).loss.ignore_index is None


def test_bfloat16_of_accelerate(tmp_path: Path) -> None:
    trainer = trainer_of(upernet(), tmp_path, bf16=True, save_strategy="no")
    lomix = supervise(trainer, weighting="anneal")
    trainer.train()
    assert all(value.isfinite().all() for value in values(lomix))
    weights = lomix.mixture().weights  # the schedule was told how far training had come
    assert weights["P4"] == pytest.approx(sum(weights.values()))


def test_optimizers_of_the_users_own(tmp_path: Path) -> None:
    from transformers import Trainer

    class Own(Trainer):  # type: ignore[misc]
        def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.99)
            return self.optimizer

    given = quarter()
    for trainer in (
        trainer_of(quarter(), tmp_path, Own, save_strategy="no"),
        trainer_of(given, tmp_path, optimizers=(torch.optim.SGD(given.parameters(), lr=0.1), None), save_strategy="no"),
    ):
        lomix = supervise(trainer, weights_lr=0.5)
        before = values(lomix)
        trainer.train()
        assert not any(torch.equal(a, b) for a, b in zip(before, values(lomix), strict=True))
        assert (
            trainer.optimizer.param_groups[-1]["momentum"] == 0.0
            and trainer.optimizer.param_groups[-1]["initial_lr"] == 0.5
        )


def test_a_second_training_goes_on(tmp_path: Path) -> None:
    trainer = trainer_of(quarter(), tmp_path, max_steps=1, save_strategy="no")
    lomix = supervise(trainer)
    trainer.train()
    before = values(lomix)
    trainer.train()
    assert not any(torch.equal(a, b) for a, b in zip(before, values(lomix), strict=True))
