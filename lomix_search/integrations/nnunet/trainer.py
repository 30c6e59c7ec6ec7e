"""``LoMixTrainer``: what stands before a trainer of nnU-Net's, so that it trains with a mixture."""

from typing import Any, ClassVar

from torch import nn

from lomix_search.errors import LomixError
from lomix_search.integrations.nnunet.host import HostTrainer
from lomix_search.integrations.nnunet.loss import DeepSupervisionMixture
from lomix_search.integrations.nnunet.names import TrainerChoice
from lomix_search.integrations.nnunet.outputs import number_of_outputs, output_stages
from lomix_search.integrations.nnunet.state import read_states, state_file, write_state
from lomix_search.training.plug_in import found_mixture, untested_version

_PACKAGE, TESTED_NNUNET = "nnunetv2", "2.8"

NAMED = 5
"""Maps that an epoch's line in the log names."""


class LoMixTrainer(HostTrainer):
    """Replaces the loss of the trainer it stands before, and carries what the mixture learns through its checkpoints.

    Without deep supervision, or with a network of one output, it says so in the log and leaves nnU-Net's loss alone.
    """

    lomix: ClassVar[TrainerChoice] = TrainerChoice()
    """What is mixed and how; a subclass of yours may set another, whose ``space`` may be a file of yours."""

    mixing: DeepSupervisionMixture | None = None
    _hooked: Any = None
    _steps_of_epoch = 0

    def initialize(self) -> None:
        """Build network, optimizer and loss, with the number of epochs that the name says."""
        self.num_epochs = self.lomix.epochs or self.num_epochs
        if note := untested_version(_PACKAGE, TESTED_NNUNET):
            self._log(f"WARNING: {note}")
        super().initialize()

    def configure_optimizers(self, *given: Any, **named: Any) -> tuple[Any, Any]:
        """Build nnU-Net's optimizer; whenever it takes a step, the mixture takes one."""
        optimizer, schedule = super().configure_optimizers(*given, **named)
        if optimizer is not self._hooked:
            optimizer.register_step_post_hook(lambda *_: self._end_step())
            self._hooked = optimizer
        return optimizer, schedule

    def _build_loss(self) -> nn.Module:
        try:
            outputs = self._count_outputs()
            self.mixing = self._mixture_of(outputs).to(self.device) if outputs > 1 else None
        except LomixError as error:
            self._log(f"LoMix: {error}\n  nnU-Net's own loss is used.")
        return super()._build_loss() if self.mixing is None else self.mixing

    def _count_outputs(self) -> int:
        """Count the network's outputs; of one, deep supervision is switched off and the reason logged."""
        if not self.enable_deep_supervision:
            self._log("LoMix: deep supervision is switched off, so there is one output; nnU-Net's own loss is used.")
            return 1
        seen = number_of_outputs(self._bare(), self.num_input_channels, self.configuration_manager.patch_size)
        outputs = len(self._get_deep_supervision_scales()) if seen is None else seen
        if outputs < 2:
            self._log(
                f"LoMix: {type(self._bare()).__name__} has {outputs} output; a mixture needs at least 2. nnU-Net's own "
                "loss is used, without deep supervision."
            )
            self.enable_deep_supervision = False
        return outputs

    def _mixture_of(self, outputs: int) -> DeepSupervisionMixture:
        labels, plan, choice = self.label_manager, self.configuration_manager, self.lomix
        mixing = DeepSupervisionMixture(
            choice,
            outputs,
            labels.num_segmentation_heads,
            labels.has_regions,
            labels.ignore_label,
            plan.batch_dice,
            self.num_epochs * self.num_iterations_per_epoch,
            self.is_ddp,
        )
        loss = mixing.mixture
        learns = any(p.requires_grad for p in loss.weighting.parameters())
        learned = f"learned by Adam, lr {mixing.weights_lr:.2g}" if learns else "not learned"
        self._log(
            f"LoMix: {len(loss.maps)} maps of the finest {loss.plan.num_maps} of {outputs} outputs, "
            f'space "{loss.space.name}", weights "{choice.weighting}", {learned}. Each map has cross-entropy '
            "+ (1 − Dice), and weights are divided by their sum: losses are 1 above nnU-Net's."
        )
        built_upon = type(self).__mro__[type(self).__mro__.index(LoMixTrainer) + 1 :]
        own = next(c for c in built_upon if "_build_loss" in vars(c)).__name__
        if own != "nnUNetTrainer":
            self._log(f"LoMix: {own} has a loss of its own, which the mixture replaces.")
        return mixing

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch deep supervision in networks that have a switch."""
        if hasattr(self._bare(), "decoder"):
            super().set_deep_supervision_enabled(enabled)

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        super().on_train_epoch_start()
        self._steps_of_epoch = 0

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take nnU-Net's step, with the mixture made ready for it."""
        if self.mixing is not None:
            done = self.current_epoch * self.num_iterations_per_epoch + self._steps_of_epoch
            self.mixing.begin_step(done / (self.num_epochs * self.num_iterations_per_epoch))
            self._steps_of_epoch += 1
        return super().train_step(batch)

    def _end_step(self) -> None:
        if self.mixing is not None:
            self.mixing.end_step(1.0 if self.grad_scaler is None else self.grad_scaler.get_scale())

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the losses, and the weights."""
        super().on_train_epoch_end(train_outputs)
        if self.mixing is None or self.local_rank != 0:
            return
        mixture = self.mixing.mixture.mixture()
        ranked, spread = sorted(mixture.weights.items(), key=lambda pair: -pair[1]), mixture.concentration()
        shares = ", ".join(f"{name} {100 * weight / spread.total:.3g} %" for name, weight in ranked[:NAMED])
        more = ", …" if len(ranked) > NAMED else ""
        self._log(f"LoMix: shares of the loss {shares}{more}; as {spread.effective_maps:.1f} equal maps")
        for other in getattr(self.logger, "loggers", ()):  # Weights & Biases, where it is switched on
            for name, weight in mixture.weights.items():
                other.log(f"lomix/{name}", weight, self.current_epoch)

    def save_checkpoint(self, filename: str) -> None:
        """Write the checkpoint as nnU-Net's own trainer would; beside it the mixture's state, and mixture.json."""
        if self.mixing is not None and self.local_rank == 0:
            if not self.disable_checkpointing:
                write_state(filename, self.current_epoch + 1, self.mixing.state())
            self._write_mixture(self.mixing)
        kind = type(self)
        # The checkpoint names the class of the trainer, which predicting looks for: the one that builds the network.
        builder = next(c for c in kind.__mro__ if "build_network_architecture" in vars(c))
        self.__class__ = type(builder.__name__, (kind,), {})
        try:
            super().save_checkpoint(filename)
        finally:
            self.__class__ = kind

    def _write_mixture(self, mixing: DeepSupervisionMixture) -> None:
        loss = mixing.mixture
        scales = self._get_deep_supervision_scales()[: loss.plan.num_maps]
        stages = output_stages(self._bare(), scales, loss.num_classes) if len(scales) == loss.plan.num_maps else ()
        steps = (self.current_epoch + 1) * self.num_iterations_per_epoch
        found = found_mixture(loss, _PACKAGE, stages, type(self._bare()).__name__, steps)
        found.save(f"{self.output_folder}/mixture.json")

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """Load nnU-Net's checkpoint, and the mixture's state that belongs to it."""
        super().load_checkpoint(filename_or_checkpoint)
        if self.mixing is None or not isinstance(filename_or_checkpoint, str):
            return
        beside = state_file(filename_or_checkpoint).name
        state = read_states(filename_or_checkpoint, self.device).get(self.current_epoch)
        if state is None:
            self._log(f"WARNING: {beside} with this epoch's weights is not there: LoMix begins with new weights.")
            return
        try:
            self.mixing.load_state(state)
            self._log(f"LoMix: goes on with the weights of epoch {self.current_epoch}.")
        except RuntimeError as error:
            self._log(f"WARNING: {beside} is of another mixture: LoMix begins with new weights. {error}")

    def on_train_end(self) -> None:
        """Write the last checkpoint, and remove what belonged to one that nnU-Net removes."""
        super().on_train_end()
        if self.local_rank == 0:
            state_file(f"{self.output_folder}/checkpoint_latest.pth").unlink(missing_ok=True)

    def _bare(self) -> nn.Module:
        """Return the network as it was built: neither wrapped nor compiled."""
        network: nn.Module = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)

    def _log(self, text: str) -> None:
        if self.local_rank == 0:
            self.print_to_log_file(text)
