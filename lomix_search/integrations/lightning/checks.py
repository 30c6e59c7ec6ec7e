"""What a Trainer must be for the callback to train what it says, and how far its training has come."""

from typing import Any

from lomix_search.errors import RunError
from lomix_search.integrations.lightning.guest import GUEST_NAME
from lomix_search.mixture.weighting import Weighting

_FRAMEWORK = ("lightning", "pytorch_lightning")
_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")


def check_company(trainer: Any, module: Any, callback: Any) -> None:
    """Refuse what was never tried or would train something else than it says.

    Raises:
        RunError: another plug-in is in the module, the strategy shards it, or a callback copied it too early.
    """
    strategy = type(trainer.strategy).__name__
    if strategy not in _STRATEGIES:
        raise RunError(
            f"LoMixCallback runs with {' and '.join(_STRATEGIES)}; this Trainer has {strategy}.",
            hint='Trainer(strategy="ddp")  # or "auto", on one device',
        )
    if hasattr(module, GUEST_NAME):
        raise RunError(
            f"{type(module).__name__} has a LoMixCallback already: two plug-ins would train it at once.",
            hint="one LoMixCallback, in one Trainer at a time",
        )
    for other in trainer.callbacks[: trainer.callbacks.index(callback)]:
        if getattr(other, "_average_model", None) is not None:
            name = type(other).__name__
            raise RunError(
                f"{name} copied the LightningModule before LoMixCallback gave it its heads.",
                hint=f"Trainer(callbacks=[LoMixCallback(), {name}(…)])  # in this order",
            )


def check_length(weighting: Weighting, trainer: Any) -> None:
    """Refuse a schedule over a training that has no end.

    Raises:
        RunError: the weighting goes by how far training has come, and that cannot be told.
    """
    if type(weighting).advance is not Weighting.advance and progress(trainer, 0) is None:
        raise RunError(
            f'weighting "{weighting.name}" needs to know how long the training is.',
            seen=f"max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps}",
            hint="Trainer(max_epochs=100)",
        )


def progress(trainer: Any, batch: int) -> float | None:
    """Return the part of the training that is done, in [0, 1]; None if it has no end.

    Args:
        trainer: The Trainer.
        batch: Number of the batch in its epoch.
    """
    found = []
    if trainer.max_steps and trainer.max_steps > 0:
        found.append(trainer.global_step / trainer.max_steps)
    if trainer.max_epochs and trainer.max_epochs > 0:
        batches = max(1.0, float(trainer.num_training_batches))
        found.append((trainer.current_epoch + batch / batches) / trainer.max_epochs)
    return min(1.0, max(found)) if found else None


def builds_late(module: Any) -> bool:
    """Say whether a LightningModule has a ``setup`` or ``configure_model`` of its own, which may build its network."""
    own = [kind for kind in type(module).__mro__ if kind.__module__.partition(".")[0] not in _FRAMEWORK]
    return any({"setup", "configure_model"} & set(vars(kind)) for kind in own)
