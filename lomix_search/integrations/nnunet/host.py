"""The trainer of nnU-Net's as type checkers see it: nnU-Net need not be installed, and has no types."""

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:

    class _Trainer:
        """What of nnU-Net's trainer the plug-in reads, calls and replaces. When it runs, nnU-Net's own stands there."""

        network: Any
        optimizer: Any
        grad_scaler: Any
        logger: Any
        label_manager: Any
        configuration_manager: Any
        device: Any
        output_folder: str
        local_rank: int
        is_ddp: bool
        enable_deep_supervision: bool
        disable_checkpointing: bool
        num_input_channels: int
        num_epochs: int
        num_iterations_per_epoch: int
        current_epoch: int

        def initialize(self) -> None: ...
        def configure_optimizers(self, *given: Any, **named: Any) -> tuple[Any, Any]: ...
        def _build_loss(self) -> nn.Module: ...
        def _get_deep_supervision_scales(self) -> list[list[float]]: ...
        def set_deep_supervision_enabled(self, enabled: bool) -> None: ...
        def on_train_epoch_start(self) -> None: ...
        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]: ...
        def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None: ...
        def save_checkpoint(self, filename: str) -> None: ...
        def load_checkpoint(self, filename_or_checkpoint: Any) -> None: ...
        def on_train_end(self) -> None: ...
        def print_to_log_file(self, *words: Any) -> None: ...

    HostTrainer = _Trainer

else:
    HostTrainer = object
