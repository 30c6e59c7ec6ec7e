"""What a Trainer cannot train a mixture with is said in one message, before or at the first step."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from support.trainer_pieces import arguments, items, quarter, trainer_of
from transformers import MobileViTConfig, MobileViTForSemanticSegmentation, Trainer
from transformers.trainer_utils import get_last_checkpoint

from lomix_search.errors import LomixError, LossError, RunError, StageError
from lomix_search.integrations.huggingface import supervise

pytestmark = [pytest.mark.huggingface, pytest.mark.filterwarnings("ignore")]


class OwnLoss(Trainer):  # type: ignore[misc]
    def compute_loss(self, model: Any, inputs: Any, **options: Any) -> Any:
        return super().compute_loss(model, inputs, **options)


def message(error: type[LomixError], act: Any) -> str:
    with pytest.raises(error) as caught:
        act()
    return str(caught.value)


def test_a_trainer_whose_loss_is_anothers(tmp_path: Path) -> None:
    assert message(RunError, lambda: supervise(quarter())).startswith(
        "supervise needs a Trainer of transformers, not a QuarterUNet."
    )
    own = trainer_of(quarter(), tmp_path, compute_loss_func=lambda *_, **__: torch.zeros(()))
    assert message(RunError, lambda: supervise(own)) == (
        "this Trainer has a compute_loss_func, whose place LoMix takes.\n  Try:  leave it out"
    )
    assert message(RunError, lambda: supervise(trainer_of(quarter(), tmp_path, OwnLoss))).startswith(
        "this OwnLoss overrides compute_loss, which would not ask LoMix."
    )
    trainer = trainer_of(quarter(), tmp_path)
    supervise(trainer)
    assert message(RunError, lambda: supervise(trainer)) == "this Trainer has LoMix already; two would mix twice."


def test_a_trainer_that_builds_too_much_itself(tmp_path: Path) -> None:
    model = quarter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    both = (optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0))
    assert message(RunError, lambda: supervise(trainer_of(model, tmp_path, optimizers=both))) == (
        "this Trainer has a scheduler for fewer parameters.\n  Try:  optimizers=(optimizer, None)"
    )
    compiled = trainer_of(quarter(), tmp_path, torch_compile=True)
    assert message(RunError, lambda: supervise(compiled)) == (
        "this Trainer compiles its model, whose code skips hooks.\n  Try:  torch_compile=False"
    )


@pytest.mark.parametrize(
    ("on", "name", "value", "said"),
    [  # as the Trainer itself notes them where it has two GPUs, or one for FSDP; accelerate shards nothing on a CPU
        ("args", "_n_gpu", 2, "would use DataParallel.\n  Try:  start it with torchrun, or with one GPU in CUDA_"),
        ("self", "is_fsdp_enabled", True, "shards its model (FSDP or DeepSpeed); LoMix runs in DDP."),
        ("self", "is_deepspeed_enabled", True, "shards its model (FSDP or DeepSpeed); LoMix runs in DDP."),
    ],
)
def test_a_trainer_that_spreads_its_model(on: str, name: str, value: Any, said: str, tmp_path: Path) -> None:
    trainer = trainer_of(quarter(), tmp_path)
    setattr(trainer.args if on == "args" else trainer, name, value)
    assert message(RunError, lambda: supervise(trainer)).startswith(f"this Trainer {said}")
    assert trainer.compute_loss_func is None and trainer.optimizer is None  # it is as it was


def test_a_trainer_that_makes_its_model_itself(tmp_path: Path) -> None:
    trainer = Trainer(model_init=quarter, args=arguments(tmp_path), train_dataset=items())
    assert message(RunError, lambda: supervise(trainer)) == (
        "this Trainer makes its model by model_init; LoMix needs the model.\n  Try:  Trainer(model=…)"
    )
    trainer.train()  # as ever, and with the model that it makes anew
    assert trainer.state.global_step == 4


def test_a_model_without_a_ladder(tmp_path: Path) -> None:
    config = MobileViTConfig(
        num_channels=1, num_labels=3, image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=2,
        neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 32], aspp_out_channels=16,
    )  # fmt: skip
    trainer = trainer_of(MobileViTForSemanticSegmentation(config), tmp_path)
    said = message(StageError, lambda: supervise(trainer))
    assert said.startswith("MobileViTForSemanticSegmentation has no decoder stage") and "at least 2" in said


def test_data_without_an_example_or_without_labels(tmp_path: Path) -> None:
    trainer = trainer_of(quarter(), tmp_path)
    trainer.train_dataset = None
    assert message(RunError, lambda: supervise(trainer)) == (
        "no example could be taken from the training data.\n"
        "  Seen: TypeError: 'NoneType' object is not subscriptable\n"
        '  Try:  supervise(trainer, {"pixel_values": torch.zeros(2, 3, height, width)})'
    )
    trainer.train_dataset = [{"labels": items(1)[0]["labels"]}]
    assert message(RunError, lambda: supervise(trainer)).splitlines()[:2] == [
        "an item of the training data holds no input of the model.",
        "  Seen: labels",
    ]
    lomix = supervise(trainer, items(1)[0]["pixel_values"][None])
    assert message(RunError, lambda: lomix({"logits": torch.zeros(1)}, None)) == (
        'the batch has no labels.\n  Try:  items {"pixel_values": image, "labels": class numbers}'
    )


def test_a_weighting_that_needs_held_out_data(tmp_path: Path) -> None:
    said = message(LossError, lambda: supervise(trainer_of(quarter(), tmp_path), weighting="lookahead"))
    assert said.startswith('weighting "lookahead" looks at held-out data, which the loop of the Trainer keeps none of.')


def test_a_model_that_was_replaced_after_supervise(tmp_path: Path) -> None:
    trainer = trainer_of(quarter(), tmp_path)
    supervise(trainer)
    trainer.model = trainer.model_wrapped = quarter()
    assert message(RunError, trainer.train).startswith("the stages of QuarterUNet were not seen in this batch.")


def test_a_checkpoint_of_a_training_without_lomix_or_with_another(tmp_path: Path) -> None:
    stock = trainer_of(quarter(), tmp_path, max_steps=2)
    stock.train()
    last = get_last_checkpoint(str(tmp_path))
    again = trainer_of(quarter(), tmp_path)
    supervise(again)
    assert message(RunError, lambda: again.train(resume_from_checkpoint=last)).splitlines()[0] == (
        "the checkpoint was written without LoMix; heads and loss cannot go on from it."
    )
    ours = trainer_of(quarter(), tmp_path / "ours", max_steps=2)
    supervise(ours)
    ours.train()
    last = get_last_checkpoint(str(tmp_path / "ours"))
    other = trainer_of(quarter(), tmp_path / "ours")
    supervise(other, space="deep_supervision")
    assert message(RunError, lambda: other.train(resume_from_checkpoint=last)).splitlines()[0] == (
        "the checkpoint holds a mixture of another space, weighting or model."
    )


def test_another_version_is_said_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import transformers

    import lomix_search.integrations.huggingface.supervision as module

    monkeypatch.setattr(module, "TESTED_TRANSFORMERS", "4.1")
    trainer = trainer_of(quarter(), tmp_path, max_steps=1, save_strategy="no")
    supervise(trainer)
    module._LOG.addHandler(caplog.handler)
    trainer.train()
    module._LOG.removeHandler(caplog.handler)
    assert f"LoMix was tested with transformers 4.1; this is {transformers.__version__}." in caplog.text
