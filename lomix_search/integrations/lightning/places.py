"""Where a guest and its loss stand in a LightningModule, and how the module becomes what it was."""

from collections.abc import Callable
from typing import Any

from torch import nn

from lomix_search.integrations.lightning.guest import GUEST_NAME, Guest, MixedLoss

_STEPS = ("forward", "training_step", "validation_step", "test_step", "predict_step")


def put_in(module: Any, guest: Guest, name: str, loss: Any) -> list[Callable[[], object]]:
    """Put the guest in, and the mixture in the place of the loss.

    Args:
        module: The LightningModule.
        guest: Its guest.
        name: Of the loss.
        loss: The loss.

    Returns:
        What takes all of it back.
    """
    undo: list[Callable[[], object]] = []
    if module._compiler_ctx is not None:  # the whole LightningModule came from torch.compile
        undo += [_putting(module, step, vars(module).pop(step)) for step in _STEPS if step in vars(module)]
    if isinstance(loss, nn.Module):
        _replace(loss, "forward", MixedLoss(guest, loss.forward, name), undo)
    else:
        path, _, last = name.rpartition(".")
        owner: Any = module.get_submodule(path)
        _replace(owner, last, MixedLoss(guest, loss, name), undo)
    module.add_module(GUEST_NAME, guest)
    undo.append(lambda: delattr(module, GUEST_NAME))
    guest.tape.attach()
    undo.append(guest.tape.detach)
    return undo


def _replace(owner: Any, name: str, value: Any, undo: list[Callable[[], object]]) -> None:
    undo.append(_putting(owner, name, vars(owner)[name]) if name in vars(owner) else lambda: vars(owner).pop(name))
    vars(owner)[name] = value


def _putting(owner: Any, name: str, value: Any) -> Callable[[], None]:
    def put() -> None:
        vars(owner)[name] = value

    return put
