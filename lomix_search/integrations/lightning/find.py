"""Which part of a LightningModule is the network, which its loss, and what the network is called with."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import LomixError, LossError, StageError
from lomix_search.instrumentation.instrumented import Instrumented, instrument
from lomix_search.instrumentation.trace import leaves
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.utils.random import same_random_state

_NAMED = re.compile(r"(loss|criterion)(_?(fn|func|function|module))?")


def find_network(module: Any, name: str | None) -> tuple[str, nn.Module]:
    """Find the network of a LightningModule.

    Args:
        module: The LightningModule.
        name: The user's choice; "" is the LightningModule itself.

    Returns:
        Its name and itself: the one submodule that has parameters; of several, the LightningModule as a whole, if it
        has a ``forward``.

    Raises:
        StageError: there is none, or which is meant cannot be told, or it is instrumented already.
    """
    title = type(module).__name__
    parts = [
        key for key, part in module.named_children() if any(True for _ in part.parameters()) and not _is_loss(part)
    ]
    if name is None and len(parts) > 1 and _has_forward(module):
        name = ""
    if name is None and len(parts) != 1:
        likely = max(
            parts, key=lambda key: sum(p.numel() for p in module.get_submodule(key).parameters()), default="net"
        )
        raise StageError(
            f"{title} has {len(parts)} submodules with parameters; LoMixCallback looks for the one network.",
            seen=", ".join(parts) or "none when the fit begins",
            hint=f'LoMixCallback(network="{likely}")  # the attribute that is the network',
        )
    chosen = parts[0] if name is None else name
    try:
        network: nn.Module = module.get_submodule(chosen)
    except AttributeError:
        raise StageError(
            f'{title} has no module "{chosen}".', seen=", ".join(parts) or "no submodules", hint="network=…"
        ) from None
    if any(isinstance(part, Instrumented | MixtureLoss) for part in network.modules()):
        raise StageError(
            f"{title}.{chosen} is instrumented already: two plug-ins would train it at once.",
            hint="the bare network in the LightningModule, or the Trainer without LoMixCallback",
        )
    return chosen, network


def _has_forward(module: Any) -> bool:
    return next(kind for kind in type(module).__mro__ if "forward" in vars(kind)).__name__ != "LightningModule"


def _is_loss(part: Any) -> bool:
    return isinstance(part, nn.modules.loss._Loss) or type(part).__name__.lower().endswith("loss")


def find_loss(module: Any, name: str | None) -> tuple[str, Callable[..., Any]]:
    """Find the loss of a LightningModule.

    Args:
        module: The LightningModule.
        name: The user's choice, as ``"criterion"`` or ``"losses.main"``.

    Returns:
        Its name and itself.

    Raises:
        LossError: nothing looks like a loss, or several things do, or it is a MixtureLoss.
    """
    title = type(module).__name__
    if name is None:
        found = {key for key, part in module.named_children() if _is_loss(part)}
        found |= {key for key in dir(module) if _NAMED.fullmatch(key) and callable(getattr(module, key))}
        if len(found) != 1:
            raise _which_loss(title, sorted(found))
        (name,) = found
    loss: Any = module
    for part in name.split("."):
        loss = loss[part] if isinstance(loss, nn.ModuleDict) and part in loss else getattr(loss, part, None)
    if not callable(loss):
        raise LossError(f'{title} has no loss "{name}".', hint=f"self.{name} = torch.nn.CrossEntropyLoss()")
    if isinstance(loss, MixtureLoss):
        raise LossError(
            f"{title}.{name} is a MixtureLoss already: two plug-ins would train at once.",
            hint="the Trainer without LoMixCallback",
        )
    return name, loss


def _which_loss(title: str, found: list[str]) -> LossError:
    if not found:
        return LossError(
            f"nothing in {title} looks like a loss; LoMixCallback replaces one that is an attribute.",
            seen="torch.nn.functional.cross_entropy(…) in training_step cannot be replaced from outside",
            hint=[
                "self.loss = torch.nn.CrossEntropyLoss()  # in __init__; MONAI's and your own work as well",
                "loss = self.loss(self.net(images), labels)  # in training_step",
            ],
        )
    return LossError(
        f"{len(found)} attributes of {title} look like a loss; the mixture takes the place of one.",
        seen=", ".join(found),
        hint=f'LoMixCallback(loss="{found[0]}")  # the others stay as they are; or make one loss of them',
    )


def instrumented(module: Any, network: nn.Module, examples: Iterator[Any], options: Mapping[str, Any]) -> Instrumented:
    """Instrument the network with the first example that it runs on.

    Args:
        module: The LightningModule, whose trainer is kept out of sight meanwhile.
        network: The network; may be the LightningModule.
        examples: What it may be called with.
        options: ``num_classes`` and ``stages`` of ``instrument``.

    Returns:
        The network with its heads.

    Raises:
        StageError: it has fewer than two stages.
        TraceError: it runs on none of the examples.
    """
    trainer, module._trainer = module._trainer, None
    fault: LomixError | None = None
    try:
        for example in examples:
            try:
                return instrument(network, example, **options)
            except LomixError as error:
                fault = error if fault is None or isinstance(error, StageError) else fault
    finally:
        module._trainer = trainer
    raise fault or StageError(
        f"there is nothing to call {type(network).__name__} with, to see its stages.",
        seen="no example_input_array, and no image in the first batch of the training data",
        hint="LoMixCallback(example=torch.zeros(1, 1, 256, 256))",
    )


def examples_of(module: Any, example: Any, data_source: Any) -> Iterator[Any]:
    """Go through what a network may be called with: what the user gave, or else the images of the first batch.

    Args:
        module: The LightningModule, which may have an ``example_input_array``.
        example: The user's; None if there is none.
        data_source: Of the training data, as Lightning's fit loop holds it.

    Yields:
        Examples for ``instrument``.
    """
    given = example if example is not None else module.example_input_array
    if given is not None:
        yield given
    if example is not None or not data_source.is_defined():
        return
    with same_random_state():
        loader = data_source.dataloader()
        while isinstance(loader, list | tuple | dict):
            loader = next(iter(loader.values() if isinstance(loader, dict) else loader))
        batch = next(iter(loader))
    for _, leaf in leaves(batch):
        if isinstance(leaf, Tensor) and leaf.ndim >= 4 and leaf.dtype != torch.bool:
            yield leaf[:1].as_subclass(Tensor)
