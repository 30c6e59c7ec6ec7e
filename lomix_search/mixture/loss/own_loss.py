"""A user's own loss, map by map: no mutant is held, as each is built again when its gradient is wanted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lomix_search.errors import LossError
from lomix_search.mixture.loss.plan import LossPlan, widest
from lomix_search.mixture.loss.reference import fuse
from lomix_search.mixture.loss.resize import labels_size, resize_maps
from lomix_search.mixture.maps import Map
from lomix_search.utils.distributed import sum_over_processes

OwnLoss = Callable[[Tensor, Tensor], Tensor]
"""``(logits (B, C, *spatial), labels) -> scalar``."""


def check_own_loss(loss: object, changed: Sequence[str] = ()) -> None:
    """Check that a loss can be called, and that nothing is asked of the shipped ones, whose place it takes.

    Args:
        loss: What ``MixtureLoss(loss=…)`` was given; None is no loss of one's own.
        changed: Options of the shipped losses that are given too.

    Raises:
        LossError: it is something else, such as a name; or there are such options.
    """
    if loss is not None and not callable(loss):
        raise LossError(
            f"loss={loss!r} is no function; it is called as loss(logits, labels) for each map.",
            hint=["loss=torch.nn.CrossEntropyLoss()", 'MixtureLoss(…, ce=0, region="dice")  # the shipped Dice alone'],
        )
    if loss is not None and changed:
        raise LossError(
            f"{', '.join(changed)}: options of the shipped losses, whose place loss=… takes.",
            hint=f"leave loss=… out, or {' and '.join(changed)}",
        )


def own_losses(
    maps: Sequence[Tensor], labels: Tensor, plan: LossPlan, operators: Mapping[str, nn.Module], loss: OwnLoss
) -> Tensor:
    """Compute a user's own loss of every map.

    What a map's loss keeps for its gradient is thrown away after the forward pass; the backward pass builds the map and
    calls the loss once more, with the random numbers of the first time. So memory is that of one map, however many
    there are, and the loss is called twice in a step.

    Args:
        maps: L logits (B, C, *any size), coarse to fine; they are resized, and half precision is widened.
        labels: Handed on as the user gave them, type and axes too: a loss that worked in the user's loop works here,
            and a product with logits (B, 1, *spatial) is not taken over all pairs of items.
        plan: What to compute. With several processes it is the mean over them, weighted by their numbers of items.
            A loss that is not a mean over items, such as a Dice, then differs from that of the whole batch.
        operators: The learned operators by ``Map.parameters``.
        loss: The loss.

    Returns:
        Losses (m,).
    """
    maps = [one.to(widest(maps)) for one in resize_maps(maps, labels_size(labels, maps))]
    work = _Work(plan.maps, labels, operators, loss, len(maps))
    inputs = (*maps, *work.parameters())
    if not torch.is_grad_enabled():
        losses = torch.stack([work(i, inputs) for i in range(len(plan.maps))])
    elif torch.compiler.is_compiling() or (first := _first(work, inputs)) is None:
        losses = torch.stack([checkpoint(work, i, inputs, use_reentrant=False) for i in range(len(plan.maps))])
    else:
        losses = _OneByOne.apply(work, *first, *inputs)  # type: ignore[no-untyped-call]
    if not plan.together:
        return losses
    items = losses.new_tensor(len(labels))
    return sum_over_processes(losses * items) / sum_over_processes(items)


class _Work:
    """The loss of one map, as a function of the originals and the operators' parameters."""

    def __init__(
        self, maps: Sequence[Map], labels: Tensor, operators: Mapping[str, nn.Module], loss: OwnLoss, num_maps: int
    ) -> None:
        self.maps, self.labels, self.operators, self.loss, self.num_maps = maps, labels, operators, loss, num_maps
        used = dict.fromkeys(m.parameters for m in maps if m.parameters is not None)
        self.names = [(key, name) for key in used for name, _ in operators[key].named_parameters()]

    def parameters(self) -> list[Tensor]:
        return [self.operators[key].get_parameter(name) for key, name in self.names]

    def __call__(self, index: int, inputs: Sequence[Tensor]) -> Tensor:
        maps, values = inputs[: self.num_maps], inputs[self.num_maps :]
        m = self.maps[index]
        own = {name: v for (key, name), v in zip(self.names, values, strict=True) if key == m.parameters}

        def build(*chosen: Tensor) -> Tensor:
            built: Tensor = torch.func.functional_call(self.operators[str(m.parameters)], own, chosen)
            return built

        fused = fuse(m, maps, {} if m.parameters is None else {m.parameters: build})
        value = self.loss(fused, self.labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            seen = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise LossError(
                "Your own loss must return one number, as a tensor.",
                seen=f"{seen} of {self.maps[index].id}",
                hint="loss=lambda logits, labels: my_loss(logits, labels).mean()",
            )
        return value.reshape(())


class _OneByOne(torch.autograd.Function):
    """All losses as one node of the graph.

    A checkpoint for each map holds as little, but leaves its small nodes strewn over the heap: what the maps took
    cannot be used again there, and a process grew to 1.1 GB where this takes 0.2 (48 maps of 64³, glibc's malloc).
    """

    @staticmethod
    def forward(ctx: Any, work: _Work, first: Tensor, before_first: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.work, ctx.random = work, {0: before_first}
        ctx.save_for_backward(*inputs)
        losses = [first]
        for i in range(1, len(work.maps)):
            before = _random_states(inputs[0])
            losses.append(work(i, inputs))
            if not all(map(torch.equal, before, _random_states(inputs[0]))):
                ctx.random[i] = before
        return torch.stack(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise LossError(
                "A mixture of your own loss has no second derivative.",
                hint="loss(maps, labels).backward()  # without create_graph=True",
            )
        wanted = ctx.needs_input_grad[3:]
        inputs = [one.detach().requires_grad_(w) for one, w in zip(ctx.saved_tensors, wanted, strict=True)]
        leaves = [one for one in inputs if one.requires_grad]
        totals: list[Tensor | None] = [None] * len(leaves)
        with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            for i, grad in enumerate(grads[0]):
                with _with_random(ctx.random.get(i), inputs[0]):
                    value = ctx.work(i, inputs)
                if value.requires_grad:
                    found = torch.autograd.grad(value, leaves, grad, allow_unused=True)
                    totals = [_added(total, part) for total, part in zip(totals, found, strict=True)]
        given = iter(totals)
        return (None, None, None, *(next(given) if w else None for w in wanted))


def _added(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if part is None or total is None:
        return part.clone() if total is None and part is not None else total
    return total.add_(part)


def _first(work: _Work, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]] | None:
    """Compute the loss of the first map.

    Returns:
        It, and the states of the random numbers before; None if it depends on tensors of the user's that want a
        gradient, as a look at its graph tells. Then the random numbers are as before.
    """
    before = _random_states(inputs[0])
    leaves = [one.detach().requires_grad_(one.requires_grad) for one in inputs]
    value = work(0, leaves)
    if not _reaches_further(value, leaves):
        return value.detach(), before
    _set_random(before, inputs[0])
    return None


def _reaches_further(value: Tensor, leaves: Sequence[Tensor]) -> bool:
    known, seen, left = {id(one) for one in leaves}, set(), [value.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in known:
            return True
        left.extend(following for following, _ in node.next_functions)
    return False


def _cuda(like: Tensor) -> list[int]:
    return [like.get_device()] if like.is_cuda else []


def _random_states(like: Tensor) -> list[Tensor]:
    """Return the states of torch's random numbers on the CPU and on a tensor's GPU."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in _cuda(like))]


@contextmanager
def _with_random(states: list[Tensor] | None, like: Tensor) -> Iterator[None]:
    """Go on from these states for a while, if there are any."""
    if states is None:
        yield
        return
    with torch.random.fork_rng(devices=_cuda(like)):
        _set_random(states, like)
        yield


def _set_random(states: list[Tensor], like: Tensor) -> None:
    torch.set_rng_state(states[0])
    for device, state in zip(_cuda(like), states[1:], strict=True):
        torch.cuda.set_rng_state(state, device)
