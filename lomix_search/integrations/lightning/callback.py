"""``LoMixCallback``: attaches when a fit begins, before the strategy wraps the model, and leaves when it ends."""

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lomix_search.errors import require
from lomix_search.integrations.lightning.attach import Attachment, Wanted
from lomix_search.integrations.lightning.checks import builds_late, check_company, progress
from lomix_search.integrations.lightning.groups import add_groups, follow_theirs, with_ours, without_ours
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Weighting
from lomix_search.training.plug_in import untested_version

_PACKAGE = "lightning.pytorch" if find_spec("lightning") or not find_spec("pytorch_lightning") else "pytorch_lightning"
_PL = require(_PACKAGE, "lightning")
_INSTALLED = _PACKAGE.partition(".")[0]
_LOG = logging.getLogger(f"{_PACKAGE}.lomix")  # below Lightning's own, with its handler and level
TESTED_LIGHTNING = "2.6"


class LoMixCallback(_PL.Callback):  # type: ignore[misc, name-defined]
    """Trains the network of a LightningModule by a mixture of its scales; the module's code stays as it is.

    While a fit runs, the loss of the LightningModule is another: where ``self.loss(logits, labels)`` is called in train
    mode with what the network returned, it returns the mixture, Σₖ wₖ·ℓₖ over the maps of that very pass. The network
    returns what it ever did; in validation, test and prediction, network and loss are the stock ones. A gradient that
    would not come from the mixture ends the run with a message. After the fit the module is as it was, its weights
    trained. Its ``state_dict`` has the stock keys at all times: heads and mixture are in the callback's own state.

    Args:
        space: The search space, or the name or path of one.
        weighting: A name of ``WEIGHTINGS``, or a weighting built for the maps.
        network: The attribute that is the network; "" for the LightningModule itself. None: the only one that has
            parameters; of several, the LightningModule itself if it has a ``forward``.
        loss: The attribute that is the loss, a module or a function. None: the only one that looks like a loss.
        own_loss: Call the user's own loss on every map; False: cross-entropy and Dice, as in the paper, take its place.
        example: What the network is called with; None: ``example_input_array``, or an image of the first batch.
        num_classes: As of ``instrument``.
        stages: As of ``instrument``.
        weights_lr: Learning rate of the weights, which schedulers leave alone; None: the weighting's own, or 0.001.
        mixture: File or folder for ``mixture.json``, written when the fit ends; None: the logger's folder.
        keep_keys: Let the module's ``state_dict`` hold heads and mixture too; the stock module then refuses it.
        **options: Any other argument of ``MixtureLoss``.
    """

    def __init__(
        self,
        space: SearchSpace | str | Path = "lomix",
        weighting: str | Weighting = "softplus",
        *,
        network: str | None = None,
        loss: str | None = None,
        own_loss: bool = False,
        example: Any = None,
        num_classes: int | None = None,
        stages: Sequence[str] | None = None,
        weights_lr: float | None = None,
        mixture: str | Path | None = None,
        keep_keys: bool = False,
        **options: Any,
    ) -> None:
        reading = {"num_classes": num_classes, "stages": stages}
        options = {"space": space, "weighting": weighting, **options}
        wanted = Wanted(network, loss, own_loss, example, reading, keep_keys, options)
        self.attachment = Attachment(wanted, _LOG)
        self.weights_lr, self.mixture = weights_lr, mixture
        self._folder, self._logged = Path(), 0
        self._loaded: dict[str, Any] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Attach; where the LightningModule builds its parts in ``setup`` or ``configure_model``, after these.

        Raises:
            LomixError: there is nothing to train, or not surely; it says what to type.
        """
        if stage != "fit":
            return
        if note := untested_version(_INSTALLED, TESTED_LIGHTNING):
            _LOG.warning(note)
        check_company(trainer, pl_module, self)
        try:
            self.attachment.attach(trainer, pl_module)
        except Exception:
            if not builds_late(pl_module):
                raise
            self.attachment.attach_later(trainer, pl_module)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Give what the mixture trains its groups in the optimizer, which exists now.

        Raises:
            RunError: no optimizer trains the network.
        """
        guest = self.attachment.here
        guest.tape.attach()  # once more: SyncBatchNorm may have taken the place of modules
        add_groups(guest, guest.tape.net.model, trainer.optimizers, self.weights_lr)
        self._join(trainer)
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the mixture."""
        if trainer.is_global_zero and not trainer.fast_dev_run:
            self.attachment.save(Path(self.mixture or self._folder), _INSTALLED, trainer.global_step)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave the LightningModule as it was, with the weights it has now."""
        if stage == "fit":
            self.attachment.detach()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave it so after an error, too."""
        self.attachment.detach()

    # -- step by step --------------------------------------------------------------------------------------------------

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Bring the weighting to this step."""
        self.attachment.here.begin_step()
        self.attachment.here.loss.weighting.advance(progress(trainer, batch_idx) or 0.0)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Check that the mixture was asked for.

        Raises:
            LossError: in this step the loss was not called with what the network returned.
        """
        if pl_module.automatic_optimization:
            self.attachment.here.check_answered(type(pl_module).__name__)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Check that the gradient is the mixture's.

        Raises:
            LossError: what training_step returned was computed otherwise.
        """
        if pl_module.automatic_optimization:
            self.attachment.here.check_gradient(type(pl_module).__name__)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Let our groups follow theirs."""
        follow_theirs(optimizer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the weights, as often as the Trainer logs."""
        guest, every = self.attachment.here, trainer.log_every_n_steps
        guest.end_step()
        if trainer.global_step // every > self._logged // every:
            self._logged = trainer.global_step
            for logger in trainer.loggers:
                logger.log_metrics(guest.named_weights(), step=trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Check a loop with manual optimization, in which not every step need call the network.

        Raises:
            LossError: in the whole epoch the loss was not called with what the network returned.
        """
        if not self.attachment.here.ever_answered:
            self.attachment.here.check_answered(type(pl_module).__name__)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return heads and mixture."""
        return {} if self.attachment.guest is None else {"parts": self.attachment.guest.own_state(), "groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put them back.

        Raises:
            RunError: they are of another network, search space or weighting.
        """
        if self.attachment.undo and self.attachment.guest is not None:
            self.attachment.guest.load_own_state(state_dict["parts"])

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Move our groups out of the optimizers' states, which are the stock run's then."""
        if "optimizer_states" in checkpoint and self.state_key in checkpoint.get("callbacks", {}):
            split = [without_ours(state) if state else (state, []) for state in checkpoint["optimizer_states"]]
            checkpoint["optimizer_states"] = [stock for stock, _ in split]
            checkpoint["callbacks"][self.state_key]["groups"] = [ours for _, ours in split]

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Move them in again, now or when there are optimizers."""
        self._loaded = checkpoint if self.attachment.undo else None
        self._join(trainer)

    def _join(self, trainer: Any) -> None:
        now = [without_ours(one.state_dict())[1] for one in trainer.optimizers]
        if self._loaded is None or not any(now):
            return
        kept = self._loaded.get("callbacks", {}).get(self.state_key, {}).get("groups") or now
        states = self._loaded.get("optimizer_states", [])
        states[:] = [with_ours(state, ours) for state, ours in zip(states, kept, strict=False)]
        self._loaded = None
