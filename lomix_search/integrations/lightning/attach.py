"""Puts heads and mixture into a LightningModule for a fit, and takes them out again so that nothing of them is left."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lomix_search.instrumentation.instrumented import Instrumented
from lomix_search.instrumentation.trace import is_compiled
from lomix_search.integrations.lightning.checks import check_length
from lomix_search.integrations.lightning.find import examples_of, find_loss, find_network, instrumented
from lomix_search.integrations.lightning.guest import EachMap, Guest
from lomix_search.integrations.lightning.places import put_in
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.training.plug_in import check_for_plug_in, found_mixture


@dataclass(frozen=True)
class Wanted:
    """What the user of the callback asked for; the arguments of ``LoMixCallback``.

    Args:
        network: Name of the network, if given.
        loss: Name of the loss, if given.
        own_loss: Whether the user's loss is called on every map.
        example: What the network is called with, if given.
        reading: Options of ``instrument``.
        keep_keys: Whether state_dict holds heads and mixture.
        options: Of ``MixtureLoss``.
    """

    network: str | None
    loss: str | None
    own_loss: bool
    example: Any
    reading: dict[str, Any]
    keep_keys: bool
    options: dict[str, Any]


class Attachment:
    """The guest of a LightningModule, and what takes it out again.

    Args:
        wanted: What the user asked for.
        log: Lightning's own logger, or one below it.
    """

    def __init__(self, wanted: Wanted, log: logging.Logger) -> None:
        self.wanted, self.log = wanted, log
        self.guest: Guest | None = None
        self.undo: list[Callable[[], object]] = []

    @property
    def here(self) -> Guest:
        """The guest, which is there from ``setup`` on."""
        if self.guest is None:
            raise RuntimeError("LoMixCallback: no fit has begun")
        return self.guest

    def attach(self, trainer: Any, module: Any) -> None:
        """Attach to the network and the loss; a second fit of the same network goes on with its guest.

        Args:
            trainer: The Trainer.
            module: The LightningModule.

        Raises:
            LomixError: there is nothing to train, or not surely; the module is as it was then.
        """
        wanted = self.wanted
        place, network = find_network(module, wanted.network)
        name, loss = find_loss(module, wanted.loss)
        if self.guest is None or self.guest.tape.net.model is not network:
            examples = examples_of(module, wanted.example, trainer.fit_loop._data_source)
            net = instrumented(module, network, examples, wanted.reading)
            mixture, notes = mixture_for(net, loss, wanted.own_loss, wanted.options)
            watched = f"self.{place}" if place else "self(…)"
            self.guest = Guest(net, mixture, f"{watched} and self.{name}", wanted.keep_keys)
            if trainer.is_global_zero:
                self._tell(self.guest, loss, notes)
        check_length(self.guest.loss.weighting, trainer)
        if "together" not in wanted.options:
            self.guest.loss.together = trainer.world_size > 1
        self.undo = put_in(module, self.guest, name, loss)
        if is_compiled(network) or module._compiler_ctx is not None:
            self.log.warning("LoMix: training steps run without torch.compile, whose code would skip the hooks.")

    def attach_later(self, trainer: Any, module: Any) -> None:
        """Attach after the LightningModule's own ``setup`` and ``configure_model``, which build what is missing now."""
        before = module.configure_model

        def configure_model() -> None:
            self.detach()
            before()
            self.attach(trainer, module)

        vars(module)["configure_model"] = configure_model
        self.undo = [lambda: vars(module).pop("configure_model")]

    def detach(self) -> None:
        """Leave the LightningModule as it was, with the weights it has now."""
        for undo in reversed(self.undo):
            undo()
        self.undo = []

    def save(self, path: Path, package: str, steps: int) -> None:
        """Write the mixture.

        Args:
            path: The file, or a folder that gets ``mixture.json``.
            package: Of Lightning, whose version is noted.
            steps: That it was trained for.
        """
        path = path if path.suffix == ".json" else path / "mixture.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        stages = self.here.tape.net.stages
        found_mixture(self.here.loss, package, stages, stages.network, steps).save(path)
        self.log.info(f"LoMix: {path} holds the mixture; lomix show {path}")

    def _tell(self, guest: Guest, loss: Any, notes: list[str]) -> None:
        stages, mixture = guest.tape.net.stages, guest.loss
        kind = type(loss).__name__ if isinstance(loss, nn.Module) else getattr(loss, "__name__", "a function")
        terms = f"{mixture.ce:g}·cross-entropy + {mixture.dice:g}·Dice, not {kind}"
        self.log.info(
            f"LoMix: {stages.network} has {len(stages)} stages: {', '.join(stage.name for stage in stages)}. "
            f"It trains on {len(mixture.maps)} maps (space {mixture.space.name}, weighting {mixture.weighting.name}), "
            f"each by {kind if self.wanted.own_loss else terms}; watched: {guest.watched}."
        )
        for note in (*stages.notes, *notes):
            self.log.warning(f"LoMix: {note}")


def mixture_for(net: Instrumented, loss: Any, own: bool, options: dict[str, Any]) -> tuple[MixtureLoss, list[str]]:
    """Build the mixture that takes the place of a loss.

    Args:
        net: The network with its heads.
        loss: The user's.
        own: Whether it is called on every map.
        options: Of ``MixtureLoss``.

    Returns:
        The mixture, and what the user should know of it.

    Raises:
        LossError: options that make no loss, or a weighting that wants held-out data.
    """
    options, notes = dict(options), []
    if own:
        options["loss"] = EachMap(loss.forward if isinstance(loss, nn.Module) else loss)
    else:
        ignored = getattr(loss, "ignore_index", None)
        if isinstance(ignored, int):
            options.setdefault("ignore_index", ignored)
        if getattr(loss, "weight", None) is not None and "class_weights" not in options:
            kind = type(loss).__name__
            notes.append(f"{kind}(weight=…) is left out: LoMixCallback(class_weights=[…]) or own_loss=True")
    built = MixtureLoss.for_network(net, **options)
    check_for_plug_in(built, "Lightning")
    return built, notes
