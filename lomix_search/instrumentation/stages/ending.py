"""The softmax, sigmoid, cut or decision in which a model ends."""

import dataclasses

from torch import fx

from lomix_search.instrumentation.stages.operations import KEEPS_VALUES, Operation, kind, weighted
from lomix_search.instrumentation.trace import Trace, ValuePath, operation

_ACTIVATIONS = {
    Operation.SOFTMAX: "softmax",
    Operation.SOFTMIN: "softmax",  # of the negated values
    Operation.LOG_SOFTMAX: "log_softmax",
    Operation.SIGMOID: "sigmoid",
    Operation.LOG_SIGMOID: "log_sigmoid",
}

_LEAVES_ALONE = {*KEEPS_VALUES, Operation.LOG}


def decided(node: fx.Node) -> bool:
    """Whether a value holds decisions, such as class numbers as floats, rather than scores."""
    while not weighted(node) and len(node.all_input_nodes) == 1:
        if kind(node) is Operation.DECISION:
            return True
        if _activation(node):
            return False
        node = node.all_input_nodes[0]
    return False


def before_activation(output: fx.Node) -> fx.Node:
    """Return the map of which a last softmax or sigmoid makes the output, if it has its shape; else the output."""
    node = output
    while len(node.all_input_nodes) == 1 and (_activation(node) or kind(node) in KEEPS_VALUES):
        (given,) = node.all_input_nodes
        if _activation(node):
            given = output if kind(node) is Operation.SOFTMIN else given
            return given if given.meta.get("shape") == output.meta["shape"] else output
        node = given
    return output


@dataclasses.dataclass(frozen=True)
class Ending:
    """The softmax or sigmoid in which a model ends.

    Args:
        kind: What it makes: "softmax", "log_softmax", "sigmoid", "log_sigmoid", or "clamp" for a cut to 0 … 1.
        name: The operation.
        given: What it is applied to; None where the output is made of several.
        alone: Whether nothing changes its values afterwards; their axes and size may change.
        decided: Whether they are compared or rounded afterwards.
        scaled: Whether they are multiplied by a number above 0 afterwards, as bytes are, or a number is added.
    """

    kind: str
    name: str
    given: fx.Node | None
    alone: bool
    decided: bool = False
    scaled: bool = False


def ending_of(found: Trace, place: ValuePath, output: fx.Node) -> Ending | None:
    """Return the softmax or sigmoid in which a model ends.

    Args:
        found: A trace.
        place: Where the model's main output is.
        output: The map of logits in it.

    Returns:
        None if the output is made of logits already.
    """
    node, cut = _start(found, place, output), None
    alone, compared, logged, scaled = True, False, False, False
    while not (made := _activation(node)):
        if weighted(node) or len(node.all_input_nodes) != 1:
            break
        cut = cut or (Ending("clamp", operation(node), node.all_input_nodes[0], alone) if _cuts(node) else None)
        compared, logged = compared or kind(node) is Operation.DECISION, logged or kind(node) is Operation.LOG
        larger = _scales(node) or (_shifts(node) and not logged)
        scaled = scaled or larger
        alone = alone and (kind(node) in _LEAVES_ALONE or larger)
        node = node.all_input_nodes[0]
    if made:
        made = f"log_{made}" if logged and not made.startswith("log_") else made
        given = None if kind(node) is Operation.SOFTMIN else node.all_input_nodes[0]
        return Ending(made, operation(node), given, alone, compared, scaled)
    if cut is None and len(node.all_input_nodes) > 1 and (parts := _activations(node)):
        return Ending(parts.pop() if len(parts) == 1 else "sigmoid", operation(node), None, False)
    return cut


def _start(found: Trace, place: ValuePath, output: fx.Node) -> fx.Node:
    """Return the value as it is returned: the map itself, or that with its axes moved, joined, or one dropped."""
    places = dict(found.outputs)
    moved = place[-1:] and place[-1][0] in ("last", "dropped", "rows")
    return places.get(place) or (places.get(place[:-1]) if moved else None) or output


def _activation(node: fx.Node) -> str:
    """Return what an operation makes, as in :class:`Ending`; "" for any other operation."""
    return _ACTIVATIONS.get(kind(node), "") if node.all_input_nodes else ""


def _activations(node: fx.Node) -> set[str]:
    """Return the activations that a value is made of; none if a way leads to it past all of them."""
    found: set[str] = set()
    seen, left = {node}, [node]
    while left:
        one = left.pop()
        if made := _activation(one):
            found.add(made)
            continue
        if weighted(one):
            return set()  # values of another kind, which an attention is multiplied with
        left += [source for source in one.all_input_nodes if source not in seen]
        seen.update(one.all_input_nodes)
    return found


def _scales(node: fx.Node) -> bool:
    """Whether an operation multiplies or divides by a number above 0."""
    numbers = [value for value in node.args if isinstance(value, int | float) and not isinstance(value, bool)]
    times = kind(node) in (Operation.MULTIPLICATION, Operation.DIVISION)
    divided_by = isinstance(node.args[0] if node.args else None, int | float) and kind(node) is Operation.DIVISION
    return times and len(numbers) == 1 and numbers[0] > 0 and not divided_by


def _shifts(node: fx.Node) -> bool:
    """Whether an operation adds a number; what is subtracted may be the value itself, as back ends write it."""
    numbers = [value for value in node.args if isinstance(value, int | float)]
    return kind(node) is Operation.ADDITION and len(numbers) == 1


def _cuts(node: fx.Node) -> bool:
    """Whether an operation cuts values to 0 … 1."""
    if kind(node) is not Operation.CLAMP or len(node.all_input_nodes) != 1:
        return False
    bounds = [*node.args[1:], *node.kwargs.values()]
    return [value for value in bounds if isinstance(value, int | float) and not isinstance(value, bool)][:2] == [0, 1]
