"""What the mixture trains, as parameter groups of its own in the user's optimizer, and apart in its checkpoints."""

from typing import Any

from torch import nn
from torch.optim import LBFGS, Optimizer

from lomix_search.errors import RunError
from lomix_search.integrations.lightning.guest import Guest
from lomix_search.mixture.loss.groups import WEIGHTS_LR

MARK = "lomix"
"""A key of our parameter groups: the number of the group that they follow."""

_NOT_FOLLOWED = ("params", "param_names", "name", MARK)
_State = dict[str, Any]
OwnGroups = list[tuple[int, _State, list[Any]]]
"""For each of our groups its place, itself, and the state of each of its parameters; None where it has none yet."""


def add_groups(guest: Guest, network: nn.Module, optimizers: list[Optimizer], weights_lr: float | None) -> None:
    """Give heads, operators and weights groups of their own, in the optimizer that trains the network.

    Heads and operators follow the group of the network's last parameter, in learning rate, weight decay and all else.

    Args:
        guest: Heads and loss. Where the user's groups hold them, as ``self.parameters()`` does, they are taken out.
        network: The user's network.
        optimizers: The user's.
        weights_lr: Learning rate of the weights; None: their own.

    Raises:
        RunError: no optimizer trains the network, or the one that does cannot take groups.
    """
    ours = {id(p) for p in guest.parameters()}
    for group in (group for one in optimizers for group in one.param_groups):
        stays = [id(p) not in ours for p in group["params"]]
        for key in {"params", "param_names"} & set(group):
            group[key] = [value for value, stay in zip(group[key], stays, strict=True) if stay]
    optimizer, number = _trains(network, optimizers)
    weighting = guest.loss.weighting
    theta = list(weighting.parameters())
    weights = {id(p) for p in theta}
    rest = [p for p in guest.parameters() if id(p) not in weights]
    lr = weights_lr or weighting.lr or WEIGHTS_LR
    for part, parameters, fixed in (("network", rest, {}), ("weights", theta, {"lr": lr, **_PLAIN})):
        parameters = [p for p in parameters if p.requires_grad]
        like = optimizer.param_groups[number]
        if parameters:
            named = [(f"lomix.{part}.{i}", p) for i, p in enumerate(parameters)]
            group = {"params": named if "param_names" in like else parameters, MARK: number, "fixed": fixed}
            if "name" in like:
                group["name"] = f"{like['name']}-lomix-{part}"
            optimizer.add_param_group(_followed(like) | group | fixed)


_PLAIN = {"weight_decay": 0.0, "momentum": 0.0}
"""Of the weights: momentum sums gradients that have one sign, and the weights of softplus are gone."""


def follow_theirs(optimizer: Optimizer) -> None:
    """Bring our groups to what theirs is now: schedulers know ours not at all, or all too well.

    Args:
        optimizer: Any of the user's.
    """
    for group in optimizer.param_groups:
        if MARK in group:
            group.update(_followed(optimizer.param_groups[group[MARK]]) | group["fixed"])


def without_ours(state: _State) -> tuple[_State, OwnGroups]:
    """Split the state of an optimizer into that of a stock run, and our groups.

    Args:
        state: Of ``optimizer.state_dict()``.

    Returns:
        Both; :func:`with_ours` puts them together.
    """
    stock = [group for group in state["param_groups"] if MARK not in group]
    number = {p: i for i, p in enumerate(p for group in stock for p in group["params"])}
    ours = [
        (place, group, [state["state"].get(p) for p in group["params"]])
        for place, group in enumerate(state["param_groups"])
        if MARK in group
    ]
    groups = [{**group, "params": [number[p] for p in group["params"]]} for group in stock]
    return {
        **state,
        "state": {number[p]: s for p, s in state["state"].items() if p in number},
        "param_groups": groups,
    }, ours


def with_ours(state: _State, ours: OwnGroups) -> _State:
    """Put our groups into the state of a stock run's optimizer.

    Args:
        state: As a stock checkpoint holds it.
        ours: What :func:`without_ours` returned.

    Returns:
        A state for ``optimizer.load_state_dict``.
    """
    rows = [(group, [state["state"].get(p) for p in group["params"]]) for group in state["param_groups"]]
    for place, group, states in ours:
        rows.insert(place, (group, states))
    groups: list[_State] = []
    values: list[Any] = []
    for group, states in rows:
        groups.append({**group, "params": list(range(len(values), len(values) + len(states)))})
        values += states
    return {**state, "state": {i: s for i, s in enumerate(values) if s is not None}, "param_groups": groups}


def _followed(group: _State) -> _State:
    return {key: value for key, value in group.items() if key not in _NOT_FOLLOWED}


def _trains(network: nn.Module, optimizers: list[Optimizer]) -> tuple[Optimizer, int]:
    """Return the optimizer, and the number of its group, that trains the network's last trained parameter."""
    where = {id(p): (one, i) for one in optimizers for i, group in enumerate(one.param_groups) for p in group["params"]}
    for parameter in reversed(list(network.parameters())):
        if id(parameter) in where:
            optimizer, number = where[id(parameter)]
            if isinstance(optimizer, LBFGS):
                raise RunError(
                    "LBFGS takes one parameter group; the mixture needs its own.",
                    hint="torch.optim.AdamW(self.parameters(), lr=1e-4)",
                )
            return optimizer, number
    raise RunError(
        f"no optimizer trains {type(network).__name__}.",
        seen=", ".join(type(one).__name__ for one in optimizers) or "configure_optimizers returned none",
        hint="torch.optim.AdamW(self.parameters(), lr=1e-4)  # in configure_optimizers",
    )
