"""Model + example → data-flow graph, read by the first back end whose graph reproduces the model's output."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import TraceError
from lomix_search.instrumentation.trace.eager import SEED, called, first_line, outputs_on, run_example, runs_on
from lomix_search.instrumentation.trace.export import export
from lomix_search.instrumentation.trace.graph import Trace, same_steps, tensors
from lomix_search.instrumentation.trace.inputs import Inputs, doubled, inputs_of, opposite
from lomix_search.instrumentation.trace.kinds import kinds_of
from lomix_search.instrumentation.trace.reachable import reachable
from lomix_search.instrumentation.trace.record import record
from lomix_search.instrumentation.trace.snapshot import Snapshot
from lomix_search.instrumentation.trace.symbolic import symbolic
from lomix_search.instrumentation.trace.twin import fresh, on_twin, unwrap

Backend = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Trace]

BACKENDS: dict[str, Backend] = {"fx": symbolic, "record": record, "export": export}
"""In the order in which they are tried."""


def trace(model: nn.Module, example: Any, backends: tuple[str, ...] = tuple(BACKENDS)) -> Trace:
    """Read a model's data flow in eval mode, without leaving a mark on it.

    Each back end's graph is made with other values of the example's shapes, and believed only if it gives the model's
    own output on the example. If none does, as numbers that are read from a tensor are a part of each graph
    (``F.pad(x, pad, value=float(x.mean()))``), a recorded run on the example is believed if one on other values does
    the same steps.

    Args:
        model: Any eager network; wrappers of ``torch.compile`` and ``(Distributed)DataParallel`` are looked into.
        example: A tensor, a tuple of positional inputs or a mapping of keyword inputs.
        backends: Names to try, in order.

    Returns:
        The first trace that is right, with the reasons why earlier back ends were not used.

    Raises:
        TraceError: the model does not run on the example, or no back end reproduces it.
    """
    network = unwrap(model)
    inputs = inputs_of(example, network)
    return on_twin(network, inputs, lambda twin: _evaluated(twin, inputs, backends), lend=False)


def trace_modes(model: nn.Module, example: Any) -> tuple[Trace, Trace | None]:
    """Read a model's data flow in eval mode, and by recording a run in train mode if it returns something else there.

    Args:
        model: As for :func:`trace`.
        example: As for :func:`trace`; a batch of one is doubled if batch normalisation asks for it.

    Returns:
        Two traces: the same twice if both modes return values of the same shapes; the second is None if the model does
        not run in train mode on inputs alone. They tell what was done and cannot be run again: that would hold a whole
        copy of the model.

    Raises:
        TraceError: as :func:`trace`.
    """
    network = unwrap(model)
    inputs = inputs_of(example, network)

    def read(twin: nn.Module) -> tuple[Trace, Trace | None]:
        found = _evaluated(twin, inputs, tuple(BACKENDS))
        training = _trained(twin, inputs, found)
        told = _without_network(found)
        return told, told if training is found else training and _without_network(training)

    return on_twin(network, inputs, read)


def _without_network(found: Trace) -> Trace:
    """Return a trace that does not hold the network that it was made of, and so cannot run."""
    found.graph.owning_module = None
    return dataclasses.replace(found, run=_gone)


def _gone(_args: Any, _kwargs: Any) -> list[Tensor]:
    raise RuntimeError("the network of this trace is gone; trace() returns one that runs")


def _evaluated(twin: nn.Module, given: Inputs, backends: tuple[str, ...]) -> Trace:
    twin.eval()
    inputs, expected = run_example(twin, given)
    found, skipped = _believed(twin, inputs, expected, backends, _nothing)
    if found is not None:
        return found
    fault = "its control flow may depend on data values"
    hint = "replace branches on tensor values (if x.mean() > 0) by torch.where, or move them out of forward()"
    if not _steady(twin, inputs, expected):  # it goes on from where the pass before left it
        state = Snapshot(reachable(twin).values())
        found, skipped = _believed(twin, inputs, outputs_on(twin, inputs), backends, state.put_back)
        fault = "in eval mode it returns something else each time it is called with the same values"
        hint = "have forward() change its weights and draw numbers in train mode alone: if self.training: …"
    if found is None:
        raise TraceError(
            f"no graph of {type(twin).__name__} gives its output again; {fault}.",
            seen=[f"{name}: {reason}" for name, reason in skipped],
            hint=hint,
        )
    return found


def _steady(twin: nn.Module, inputs: Inputs, expected: list[Tensor]) -> bool:
    try:
        return _same(outputs_on(twin, inputs), expected)
    except Exception:  # it runs only once, which is no state to go back to
        return True


def _nothing() -> None:
    """Do nothing before a pass: the network's own state is the same after every pass."""


def _believed(
    twin: nn.Module, inputs: Inputs, expected: list[Tensor], backends: tuple[str, ...], begin: Callable[[], None]
) -> tuple[Trace | None, list[tuple[str, str]]]:
    """Return the first trace that gives the expected output, if there is one, and why those before it were not used."""
    skipped: list[tuple[str, str]] = []
    for made_with in (opposite(inputs), inputs):
        for name in backends:
            found = _attempt(BACKENDS[name], twin, made_with, inputs, expected, begin)
            if isinstance(found, Trace):
                return dataclasses.replace(found, skipped=tuple(skipped), kinds=kinds_of(twin)), skipped
            skipped.append((name, found))
        if made_with is inputs or runs_on(twin, made_with):
            break  # the example's own values would tell nothing else
        skipped.clear()
    if made_with is not inputs and "record" in backends:
        found = _attempt(record, twin, inputs, inputs, expected, begin)
        other = _recorded(twin, made_with, begin)
        if isinstance(found, Trace) and other and same_steps(found, other):
            skipped = [(name, reason) for name, reason in skipped if name != "record"]
            return dataclasses.replace(found, skipped=tuple(skipped), kinds=kinds_of(twin)), skipped
    return None, skipped


def _recorded(twin: nn.Module, inputs: Inputs, begin: Callable[[], None]) -> Trace | None:
    try:
        begin()
        torch.manual_seed(SEED)
        return record(twin, *fresh(inputs))
    except Exception:  # the network does not run on other values
        return None


def _trained(twin: nn.Module, given: Inputs, evaluated: Trace) -> Trace | None:
    twin.train()
    known = [(path, node.meta["shape"][1:]) for path, node in evaluated.outputs]
    for inputs in (given, doubled(given)):
        try:
            made = tensors(called(twin, inputs))
            return evaluated if [(path, t.shape[1:]) for path, t in made] == known else record(twin, *fresh(inputs))
        except Exception as error:  # whatever a user's forward may raise
            logging.getLogger(__name__).debug("train mode: %s", error)
    return None


def _attempt(
    backend: Backend,
    twin: nn.Module,
    made_with: Inputs,
    inputs: Inputs,
    expected: list[Tensor],
    begin: Callable[[], None],
) -> Any:
    """Return a trace that gives the expected output, or the reason why there is none.

    What a pass changes of the network's own state is a part of some graphs and, in others, is done when they are made.
    """
    try:
        begin()
        torch.manual_seed(SEED)
        found = backend(twin, *fresh(made_with))
        if not _gives(found, inputs, expected) and not (
            begin is not _nothing and _gives(found, inputs, expected, begin)
        ):
            return "; ".join(("its graph gives another output on other values of the same shape", *found.notes[:1]))
    except Exception as error:  # tracing runs the user's code on stand-ins, which may raise anything
        if "DataDependent" in type(error).__name__:  # torch.export's own words are of symbols: "Eq(u0, 1)"
            return "a branch depends on the values of a tensor"
        return f"{type(error).__name__}: {first_line(error)}"
    return found


def _gives(found: Trace, inputs: Inputs, expected: list[Tensor], begin: Callable[[], None] = _nothing) -> bool:
    begin()
    torch.manual_seed(SEED)
    return _same(found.run(*fresh(inputs)), expected)


def _same(found: list[Tensor], expected: list[Tensor]) -> bool:
    if [t.shape for t in found] != [t.shape for t in expected]:
        return False
    with torch._C.DisableTorchFunctionSubclass():
        return all(
            a.is_meta or torch.allclose(a, b, 1e-4, 1e-5, equal_nan=True) for a, b in zip(found, expected, strict=True)
        )
