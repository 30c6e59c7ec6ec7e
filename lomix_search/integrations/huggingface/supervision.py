"""What a Trainer trains a mixture with: the loss that it calls, and the callback that looks after it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lomix_search.errors import RunError, require
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.instrumentation.stages.read_logits import read_logits
from lomix_search.instrumentation.tape import Tape, TapedPass
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.plug_in import check_trained, found_mixture, untested_version, weight_line, weight_numbers
from lomix_search.utils.distributed import average_gradients, same_over_processes, size

_HF = require("transformers", "huggingface")
_LOG = _HF.utils.logging.get_logger("transformers.lomix")  # with the level and the handler of the Trainer's own
TESTED_TRANSFORMERS = "5.23"

_HINT = "pass a Trainer that makes its own optimizer, or optimizers=(optimizer, None)"


class LoMixSupervision(_HF.TrainerCallback):  # type: ignore[misc, name-defined]
    """The loss of a Trainer and the callback that looks after it; ``supervise`` makes it.

    Args:
        net: The model with its heads; the Trainer keeps ``net.model``.
        loss: The mixture loss.
        log_weights: As of ``supervise``.
    """

    def __init__(self, net: Instrumented, loss: MixtureLoss, log_weights: bool = False) -> None:
        self.net, self.loss, self.log_weights = net, loss, log_weights
        self.tape = Tape(net, net.model)
        self.parameters = [p for p in (*net.head_parameters(), *loss.parameters()) if p.requires_grad]

    def join(self, trainer: Any, weights_lr: float | None) -> None:
        """Become a Trainer's loss, the first of its callbacks and a part of its optimizer.

        Args:
            trainer: The Trainer.
            weights_lr: Learning rate of the weights.
        """
        optimizer = trainer.create_optimizer() if trainer.optimizer is None else trainer.optimizer
        heads = {"params": [*self.net.head_parameters()], "weight_decay": trainer.args.weight_decay}
        for group in [heads, *self.loss.parameter_groups(weights_lr=weights_lr)]:
            if group["params"]:
                optimizer.add_param_group(group)
        plain = getattr(optimizer, "optimizer", optimizer)  # inside of accelerate's, after a first training
        plain.register_state_dict_post_hook(self._save_with)
        plain.register_load_state_dict_pre_hook(self._load_with)
        trainer.create_optimizer = lambda model=None: trainer.optimizer  # a user's own may make another in train()
        trainer.compute_loss_func = self
        trainer.callback_handler.callbacks.insert(0, self)  # before the trackers, which then see its numbers

    def mixture(self) -> Mixture:
        """Return the mixture that was found so far."""
        return self._found(None)

    def __call__(self, outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Compute the loss of a batch: of all maps in training, of the model's own logits in evaluation.

        Args:
            outputs: What the model returned.
            labels: Class numbers (B, *spatial); logits of any other size are resized to theirs.
            num_items_in_batch: Labels of all batches whose gradients are accumulated, over all processes.

        Returns:
            The loss; its share of the accumulated batch where the number of labels is given.

        Raises:
            RunError: there are no labels, or the stages of this batch were not seen.
        """
        if labels is None:
            raise RunError("the batch has no labels.", hint='items {"pixel_values": image, "labels": class numbers}')
        training = self.net.model.training and torch.is_grad_enabled()
        self.loss.together = training and size() > 1
        if training:
            maps: Any = self._maps()
        else:
            maps = read_logits(self.net.stages.returned, outputs, self.net.stages.network)
        total: Tensor = self.loss(maps, labels)
        return total if num_items_in_batch is None else total * (labels.ne(-100).sum() / num_items_in_batch)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Check the optimizer, put the hooks on."""
        if note := untested_version("transformers", TESTED_TRANSFORMERS):
            _LOG.warning(note)
        device = next(self.net.model.parameters()).device
        modules = [self.loss.to(device), self.net.heads.to(device)]
        check_trained(given["optimizer"], modules, _HINT)
        same_over_processes([*self.parameters, *self.loss.buffers()])
        self.tape.attach()

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Tell schedules how far training has come."""
        self.loss.weighting.advance(min(1.0, state.global_step / max(1, state.max_steps)))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Take the mean of the gradients over the processes: heads and loss lie outside of what DDP wraps."""
        average_gradients(self.parameters)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Clear the gradients, which the Trainer does for its model only."""
        for parameter in self.parameters:
            parameter.grad = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        """Add the weights to what is logged of training."""
        if logs is not None and "loss" in logs:
            state.log_history[-1].update(weight_numbers(self.loss))
            logs.update(weight_numbers(self.loss, self.log_weights))

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Write the mixture beside the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            self._found(state.global_step).save(folder / "mixture.json")

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Write the mixture and take the hooks off."""
        self.tape.detach()
        if state.is_world_process_zero:
            self._found(state.global_step).save(Path(args.output_dir) / "mixture.json")
            _LOG.info(weight_line(self.loss))

    def _found(self, steps: int | None) -> Mixture:
        return found_mixture(self.loss, "transformers", self.net.stages, self.net.stages.network, steps)

    def _maps(self) -> list[Tensor]:
        """Return the maps of the pass that was just made."""
        passes: list[TapedPass] = self.tape.passes
        if not passes:
            raise RunError(
                f"the stages of {self.net.stages.network} were not seen in this batch.",
                seen="the model was replaced or copied after supervise(), or train() of another Trainer has ended",
                hint="trainer = Trainer(model=model, …); lomix = supervise(trainer); trainer.train()",
            )
        last = passes.pop()
        passes.clear()
        tapped = next(iter(last.kept.values()), None)
        if tapped is None or tapped.dtype not in (torch.float16, torch.bfloat16):
            return last.maps()
        with torch.autocast(tapped.device.type, tapped.dtype):  # accelerate's ends with the model
            return last.maps()

    def _save_with(self, _optimizer: Any, state: dict[str, Any]) -> None:
        state["lomix"] = {"heads": self.net.heads.state_dict(), "loss": self.loss.state_dict()}

    def _load_with(self, _optimizer: Any, state: dict[str, Any]) -> None:
        if "lomix" not in state:
            raise RunError(
                "the checkpoint was written without LoMix; heads and loss cannot go on from it.",
                hint="Trainer(model=Model.from_pretrained(checkpoint), …), then supervise(trainer) and train() anew",
            )
        try:
            self.net.heads.load_state_dict(state["lomix"]["heads"])
            self.loss.load_state_dict(state["lomix"]["loss"])
        except RuntimeError as cause:
            raise RunError(
                "the checkpoint holds a mixture of another space, weighting or model.",
                seen=str(cause).splitlines()[:3],
                hint="trainer.train()   # anew; or supervise(trainer, …) with the space, weighting and model of then",
            ) from None
