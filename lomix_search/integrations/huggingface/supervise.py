"""``supervise``: may this Trainer train a mixture, what does its model look like, and then LoMix joins it."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lomix_search.errors import LomixError, RunError, require
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.integrations.huggingface.supervision import LoMixSupervision
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from lomix_search.training.plug_in import check_for_plug_in
from lomix_search.utils.random import same_random_state


def supervise(
    trainer: Any,
    example: Any = None,
    space: SearchSpace | str | Path = "lomix",
    *,
    stages: Sequence[str] | None = None,
    weights_lr: float | None = None,
    log_weights: bool = False,
    **options: Any,
) -> LoMixSupervision:
    """Let a Trainer train its segmentation model by the mixture of its decoder's scales.

    Args:
        trainer: Before ``train()``; without a ``compute_loss_func`` of its own.
        example: What the model is called with, ``{"pixel_values": images}`` or images; None takes the first item of the
            training data.
        space: The search space, or the name or path of one.
        stages: As of ``instrument``.
        weights_lr: Learning rate of the weights; None: the weighting's own, or 0.001.
        log_weights: Give every map's weight to the trackers, not only how many maps they count as;
            ``trainer.state.log_history`` always has them all.
        **options: Any other argument of ``MixtureLoss``; ``ignore_index`` is that of the model's configuration, or 255.

    Returns:
        What was added: ``.loss``, ``.net``, and ``.mixture()`` of what was found so far.

    Raises:
        RunError: the Trainer cannot be supervised; says what stands in the way.
        LomixError: the model has fewer than two stages, or the options do not fit.
    """
    _check_trainer(trainer)
    model, config = trainer.model, trainer.model.config
    given = _example(trainer) if example is None else example
    net = instrument(model, given, num_classes=getattr(config, "num_labels", None), stages=stages)
    ignored = getattr(config, "semantic_loss_ignore_index", getattr(config, "loss_ignore_index", 255))
    loss = MixtureLoss.for_network(net, space, **({"ignore_index": ignored} | options)).to(trainer.args.device)
    check_for_plug_in(loss, "the Trainer")
    lomix = LoMixSupervision(net, loss, log_weights)
    lomix.join(trainer, weights_lr)
    return lomix


def _check_trainer(trainer: Any) -> None:
    """Refuse what would train something else, or nothing."""
    stock, kind = require("transformers", "huggingface").Trainer, type(trainer)
    if not isinstance(trainer, stock):
        raise RunError(
            f"supervise needs a Trainer of transformers, not a {kind.__name__}.",
            hint="trainer = Trainer(model=model, …); lomix = supervise(trainer)",
        )
    own, args = trainer.compute_loss_func, trainer.args
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    refused = {
        "has LoMix already; two would mix twice": isinstance(own, LoMixSupervision),
        "has a compute_loss_func, whose place LoMix takes: leave it out": own is not None,
        "overrides compute_loss, which would not ask LoMix": kind.compute_loss is not stock.compute_loss,
        "makes its model by model_init; LoMix needs the model: Trainer(model=…)": trainer.model_init is not None,
        "has a scheduler for fewer parameters: optimizers=(optimizer, None)": trainer.lr_scheduler is not None,
        "shards its model (FSDP or DeepSpeed); LoMix runs in DDP": sharded,
        "would use DataParallel: start it with torchrun, or with one GPU in CUDA_VISIBLE_DEVICES": args.n_gpu > 1,
        "compiles its model, whose code skips hooks: torch_compile=False": args.torch_compile,
        "trains in fp16 on several processes: bf16=True": args.fp16 and args.world_size > 1,
    }
    if why := next((reason for reason, true in refused.items() if true), None):
        what, _, hint = why.partition(": ")
        raise RunError(f"this {kind.__name__} {what}.", hint=hint)


def _example(trainer: Any) -> dict[str, Tensor]:
    """Return what the model is called with on two items of the training data, which are read once more."""
    hint = 'supervise(trainer, {"pixel_values": torch.zeros(2, 3, height, width)})'
    try:
        with same_random_state():
            batch = trainer.data_collator([trainer.train_dataset[0]] * 2)
        known = inspect.signature(trainer.model.forward).parameters
        found = {k: v for k, v in batch.items() if k in known and k != "labels" and isinstance(v, Tensor)}
    except LomixError:
        raise
    except Exception as cause:  # of the user's dataset and collator
        raise RunError(
            "no example could be taken from the training data.", seen=f"{type(cause).__name__}: {cause}", hint=hint
        ) from cause
    if not found:
        raise RunError("an item of the training data holds no input of the model.", seen=", ".join(batch), hint=hint)
    return found
