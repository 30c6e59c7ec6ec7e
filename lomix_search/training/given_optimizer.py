"""An optimizer that a user built, or builds when asked: does it train what is to be trained?"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lomix_search.errors import RunError
from lomix_search.mixture.loss import MixtureLoss

Factory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""Parameter groups → optimizer, such as ``functools.partial(torch.optim.RMSprop, lr=1e-3)``."""

_ALL = "[*net.parameters(), *loss.parameters()]"


def given_optimizer(
    given: torch.optim.Optimizer | Factory, net: nn.Module, loss: MixtureLoss, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Return the user's optimizer, checked.

    Args:
        given: The optimizer, or a function of parameter groups that returns one.
        net: The instrumented network.
        loss: The mixture loss.
        groups: What is to be trained, for a function.

    Returns:
        The optimizer.

    Raises:
        RunError: it is none, or trains too little or something else, or cannot take steps here.
    """
    optimizer = given if isinstance(given, torch.optim.Optimizer) else _made(given, groups)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise RunError(
            "optimizer: LBFGS computes the loss several times a step; a search computes it once.",
            hint=f"torch.optim.AdamW({_ALL}, lr=1e-4)",
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    everything = {id(p) for p in (*net.parameters(), *loss.parameters())}
    _check_complete(optimizer, held, net, loss)
    if strange := held - everything:
        raise RunError(
            f"optimizer: {type(optimizer).__name__} holds {len(strange)} parameters of neither this network nor this "
            "loss.",
            seen=f"{len(held)} parameters in all, {len(held) - len(strange)} of them of this network and loss",
            hint=f"build it after instrument(): {type(optimizer).__name__}({_ALL}, lr=…)",
        )
    return optimizer


def optimizer_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Describe an optimizer by plain values, so that a run goes on with the same one only.

    Args:
        optimizer: As it was built, or as a schedule has left it.

    Returns:
        Its class and the options of its groups.
    """
    kind = type(optimizer)
    plain = [
        {key: _plain(group.get("initial_lr", value) if key == "lr" else value) for key, value in group.items()}
        for group in optimizer.param_groups
    ]
    left_out = {"params", "param_names", "initial_lr"}
    groups = [{key: group[key] for key in sorted(group.keys() - left_out)} for group in plain]
    name = kind.__qualname__ if kind.__module__.startswith("torch.optim") else f"{kind.__module__}.{kind.__qualname__}"
    return {"optimizer.name": name, "optimizer.groups": groups}


def check_plain_state(optimizer: torch.optim.Optimizer) -> None:
    """Check that a checkpoint can hold an optimizer's state: tensors and plain values, from which nothing is executed.

    Args:
        optimizer: After a step.

    Raises:
        RunError: it holds something else; names its type.
    """
    waiting: list[Any] = [optimizer.state_dict()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += list(value)
        elif not isinstance(value, torch.Tensor | bool | int | float | str | None):
            raise RunError(
                f"optimizer: {type(optimizer).__name__} keeps a {type(value).__name__} in its state; checkpoints hold "
                "tensors and plain values only.",
                hint="an optimizer whose state_dict() holds tensors, numbers and text",
            )


def _made(given: Any, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if not callable(given):
        raise RunError(
            f"optimizer is a {type(given).__name__}; a name, an optimizer, or a function that makes one is needed.",
            hint=f'optimizer="AdamW", or optimizer=torch.optim.AdamW({_ALL}, lr=1e-4)',
        )
    try:
        made = given(groups)
    except (TypeError, ValueError) as cause:
        raise RunError(
            "optimizer: the function that was given makes none of a list of parameter groups.",
            seen=f"{type(cause).__name__}: {cause}",
            hint="optimizer=functools.partial(torch.optim.RMSprop, lr=1e-3)",
        ) from cause
    if not isinstance(made, torch.optim.Optimizer):
        raise RunError(
            f"optimizer: the function that was given returns a {type(made).__name__}, not an optimizer.",
            hint="lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)",
        )
    return made


def _check_complete(optimizer: torch.optim.Optimizer, held: set[int], net: nn.Module, loss: MixtureLoss) -> None:
    """Check that it holds whatever asks for a gradient."""
    named = [*net.named_parameters(), *((f"loss.{name}", p) for name, p in loss.named_parameters())]
    missing = [name for name, p in named if p.requires_grad and id(p) not in held]
    if not missing:
        return
    kind = f"torch.optim.{type(optimizer).__name__}"
    hint = [f"{kind}({_ALL}, lr=…)", "parameter.requires_grad_(False)  # of what is to stay as it is"]
    if all(name.startswith("loss.") for name in missing):
        hint.insert(1, f'{kind}([{{"params": net.parameters()}}, *loss.parameter_groups()], lr=…)  # weights apart')
    raise RunError(
        f"optimizer: {type(optimizer).__name__} lacks {len(missing)} parameters that are to be trained.",
        seen=_listed(missing),
        hint=hint,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f", … ({len(names)})" if len(names) > 6 else "")


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return type(value).__name__
