"""An ignite handler that looks after a mixture in MONAI's SupervisedTrainer."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lomix_search.errors import RunError, require
from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.instrumentation.trace import unwrap
from lomix_search.integrations.monai.loss import LoMixLoss, one_map_alone
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.training.plug_in import (
    check_for_plug_in,
    check_trained,
    found_mixture,
    untested_version,
    weight_line,
    weight_numbers,
)
from lomix_search.utils.distributed import average_gradients, is_main, same_over_processes, size

TESTED_MONAI = "1.6"


class LoMixHandler:
    """Looks after a mixture in the engine that trains with it: put it first among ``train_handlers``.

    It checks before the first step that the optimizer trains the mixture, tells schedules how far training has come,
    leaves the finest map alone in ``engine.state.output["pred"]`` once the loss is computed, so that postprocessing and
    metrics see what they ever saw, and writes the mixture at the end of each epoch, with a line in the engine's log and
    numbers in ``engine.state.metrics``, from where StatsHandler, TensorBoardStatsHandler and MLFlowHandler take them.

    It has a ``state_dict`` (loss and heads) for MONAI's CheckpointSaver and CheckpointLoader:
    ``{"network": unet, "optimizer": optimizer, "trainer": trainer, "lomix": handler}``.

    Args:
        loss: The engine's ``loss_function``.
        network: The instrumented network; None where the loss is of maps that the network returns itself.
        path: The mixture file to write; None writes none.
        log_weights: Put the weight of every map into ``engine.state.metrics``, not only how many they count as.
        name: Of the logger; None takes the engine's, which by default shows warnings only.
    """

    def __init__(
        self,
        loss: MixtureLoss,
        network: nn.Module | None = None,
        path: str | Path | None = "mixture.json",
        log_weights: bool = False,
        name: str | None = "lomix",
    ) -> None:
        check_for_plug_in(loss, "MONAI")
        if network is None and not isinstance(loss, LoMixLoss):
            raise RunError(
                f"LoMixHandler(loss) without a network is for maps that the trainer's network returns itself; "
                f"LoMixLoss reads them, not {type(loss).__name__}.",
                hint="LoMixHandler(loss, net), or loss = LoMixLoss(space, num_maps, num_classes)",
            )
        self.loss, self.path, self.log_weights = loss, None if path is None else Path(path), log_weights
        self.net = None if network is None else _instrumented(network)
        self.name = name

    def attach(self, engine: Any) -> None:
        """Join a trainer; MONAI calls this.

        Args:
            engine: A ``SupervisedTrainer``.

        Raises:
            RunError: it is no trainer, or has such a handler already.
        """
        trainer = require("monai.engines", "monai").Trainer
        events, iteration = (
            require("ignite.engine", "monai").Events,
            require("monai.engines.utils", "monai").IterationEvents,
        )
        if not isinstance(engine, trainer):
            raise RunError(
                f"LoMixHandler belongs to an engine that trains, not to a {type(engine).__name__}.",
                hint="SupervisedTrainer(…, train_handlers=[LoMixHandler(loss, net), …])",
            )
        if hasattr(engine, "lomix"):
            raise RunError(
                "this trainer has a LoMixHandler already; two would mix twice.", hint="leave one of them out"
            )
        engine.lomix = self
        self.logger = engine.logger if self.name is None else require("monai.apps", "monai").get_logger(self.name)
        self.loss.to(engine.state.device)
        for event, act in (
            (events.STARTED, self.started),
            (events.ITERATION_STARTED, self.iteration_started),
            (iteration.LOSS_COMPLETED, self.loss_completed),
            (iteration.BACKWARD_COMPLETED, self.backward_completed),
            (events.EPOCH_COMPLETED, self.epoch_completed),
        ):
            engine.add_event_handler(event, act)

    def started(self, engine: Any) -> None:
        """Check that the engine trains the mixture.

        Raises:
            RunError: it has another loss or network, or its optimizer does not train the mixture.
        """
        if note := untested_version("monai", TESTED_MONAI):
            self.logger.warning(note)
        if engine.loss_function is not self.loss:
            kind = type(engine.loss_function).__name__
            raise RunError(
                f"the trainer's loss_function is a {kind}, not the loss of LoMixHandler.",
                seen="DeepSupervisionLoss would call it map by map" if kind == "DeepSupervisionLoss" else "",
                hint="SupervisedTrainer(…, loss_function=loss, train_handlers=[LoMixHandler(loss, net), …])",
            )
        if self.net is not None and unwrap(engine.network) is not self.net:
            raise RunError(
                f"the trainer's network is a {type(unwrap(engine.network)).__name__}, not the one of LoMixHandler.",
                hint="net = lomix.instrument(unet, example), then SupervisedTrainer(…, network=net)",
            )
        modules = [self.loss] if self.net is None else [self.loss, self.net.heads]
        hint = "AdamW([{'params': net.parameters()}, *loss.parameter_groups()], lr=…)"
        check_trained(engine.optimizer, modules, hint)
        self.loss.together = size() > 1
        same_over_processes([*self.loss.parameters(), *self.loss.buffers()])

    def iteration_started(self, engine: Any) -> None:
        """Tell schedules how far training has come."""
        state = engine.state
        epochs = state.epoch - 1 if state.epoch_length is None else (state.iteration - 1) / state.epoch_length
        self.loss.weighting.advance(min(1.0, epochs / state.max_epochs))

    def loss_completed(self, engine: Any) -> None:
        """Leave the finest map alone in the output.

        Raises:
            RunError: the network returned one map.
        """
        maps = engine.state.output["pred"]
        if isinstance(self.loss, LoMixLoss):
            maps = self.loss.coarse_to_fine(maps)
        if isinstance(maps, Tensor) and len(self.loss.maps) > 1:
            raise RunError(
                one_map_alone(self.loss, maps), hint="DynUNet(…, deep_supervision=True), or lomix.instrument(…)"
            )
        engine.state.output["pred"] = maps if isinstance(maps, Tensor) else maps[-1]

    def backward_completed(self, _engine: Any) -> None:
        """Take the mean of the loss's gradients over the processes: it lies outside of what DDP wraps."""
        average_gradients([p for p in self.loss.parameters() if p.requires_grad])

    def epoch_completed(self, engine: Any) -> None:
        """Log the weights and write the mixture."""
        engine.state.metrics |= weight_numbers(self.loss, self.log_weights)
        if not is_main():
            return
        self.logger.info(f"Epoch[{engine.state.epoch}] {weight_line(self.loss)}")
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stages, network = ((), engine.network) if self.net is None else (self.net.stages, self.net.model)
            kind = type(unwrap(network)).__name__
            found_mixture(self.loss, "monai", stages, kind, engine.state.iteration).save(self.path)

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to go on beside network, optimizer and trainer: tensors only."""
        heads = {} if self.net is None else self.net.heads.state_dict()
        return {"loss": self.loss.state_dict(), "heads": heads}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned.

        Args:
            state: Of a run with the same space, weighting and network.

        Raises:
            RunError: it is of another space, weighting or network.
        """
        try:
            self.loss.load_state_dict(state["loss"])
            if self.net is not None:
                self.net.heads.load_state_dict(state["heads"])
        except RuntimeError as cause:
            raise RunError(
                "the checkpoint holds a mixture of another space, weighting or network.",
                seen=str(cause).splitlines()[:3],
                hint="MixtureLoss(…) with the space, weighting and network of then; or leave CheckpointLoader out",
            ) from None


def _instrumented(network: nn.Module) -> Instrumented:
    if not isinstance(inner := unwrap(network), Instrumented):
        raise RunError(
            f"LoMixHandler(loss, network) needs an instrumented network, not a {type(inner).__name__}.",
            hint="net = lomix.instrument(unet, example); or LoMixHandler(loss) where the network itself returns maps",
        )
    return inner
