"""The softmax, sigmoid, cut or decision in which a model ends."""

import dataclasses
import re

from torch import fx

from lomix_search.instrumentation.stages.flow import weighted
from lomix_search.instrumentation.trace import Path, Trace, operation

_ACTIVATION = re.compile("(log_?)?(softmax|softmin|sigmoid|expit)", re.IGNORECASE)
_DECIDES = re.compile(
    "arg(max|min|sort)|topk|one_hot|bucketize|round_?|heaviside|sign|gt_?|ge_?|lt_?|le_?|eq_?|ne_?", re.IGNORECASE
)
_LOG = re.compile("log_?")
_KEEPS = re.compile(
    "permute|transpose|swap|move|contiguous|clone|squeeze|view|reshape|flatten|rearrange|interpolate|upsample|resize|"
    "item|slice|select|narrow|crop|pad|clamp|clip|hardtanh|^(to|float|half|double|bfloat16|type|type_as)$|to_copy|"
    "detach|alias|identity|dropout|expand|chunk|split|after",
    re.IGNORECASE,
)
"""What leaves values as they are, or nearly so, and changes only their axes, size or type."""


def decided(node: fx.Node) -> bool:
    """Whether a value holds decisions, such as class numbers as floats, rather than scores."""
    while not weighted(node) and len(node.all_input_nodes) == 1:
        if _DECIDES.fullmatch(operation(node)):
            return True
        if _activation(node):
            return False
        node = node.all_input_nodes[0]
    return False


@dataclasses.dataclass(frozen=True)
class Ending:
    """The softmax or sigmoid in which a model ends.

    Args:
        kind: What it makes: "softmax", "log_softmax", "sigmoid", "log_sigmoid", or "clamp" for a cut to 0 … 1.
        name: The operation.
        given: What it is applied to; None where the output is made of several.
        alone: Whether nothing changes its values afterwards, but for their axes and size.
        decided: Whether they are compared or rounded afterwards.
        scaled: Whether they are multiplied by a number above 0 afterwards, as bytes are.
    """

    kind: str
    name: str
    given: fx.Node | None
    alone: bool
    decided: bool = False
    scaled: bool = False


def ending_of(found: Trace, place: Path, output: fx.Node) -> Ending | None:
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
    while not (kind := _activation(node)):
        if weighted(node) or len(node.all_input_nodes) != 1:
            break
        name = operation(node)
        cut = cut or (Ending("clamp", name, node.all_input_nodes[0], alone) if _cuts(node) else None)
        compared, logged = compared or bool(_DECIDES.fullmatch(name)), logged or bool(_LOG.fullmatch(name))
        scaled = scaled or _scales(node)
        alone = alone and bool(_KEEPS.search(name) or _LOG.fullmatch(name) or _scales(node))
        node = node.all_input_nodes[0]
    if kind:
        kind = f"log_{kind}" if logged and not kind.startswith("log_") else kind
        reversed_ = "softmin" in operation(node).lower()
        return Ending(kind, operation(node), None if reversed_ else node.all_input_nodes[0], alone, compared, scaled)
    if cut is None and len(node.all_input_nodes) > 1 and (parts := _activations(node)):
        return Ending(parts.pop() if len(parts) == 1 else "sigmoid", operation(node), None, False)
    return cut


def _start(found: Trace, place: Path, output: fx.Node) -> fx.Node:
    """Return the value as it is returned: the map itself, or that with its axes moved or one dropped."""
    places = dict(found.outputs)
    moved = place[-1:] and place[-1][0] in ("last", "dropped")
    return places.get(place) or (places.get(place[:-1]) if moved else None) or output


def _activation(node: fx.Node) -> str:
    """Return what an operation makes, as in :class:`Ending`; "" if it is no softmax or sigmoid."""
    found = _ACTIVATION.search(operation(node)) if node.op.startswith("call") and node.all_input_nodes else None
    if found is None:
        return ""
    name = found[0].lower().replace("min", "max").replace("expit", "sigmoid")
    return f"log_{name.removeprefix('log').lstrip('_')}" if name.startswith("log") else name


def _activations(node: fx.Node) -> set[str]:
    """Return the activations that a value is made of; none if a way leads to it past all of them."""
    found: set[str] = set()
    seen, left = {node}, [node]
    while left:
        one = left.pop()
        if kind := _activation(one):
            found.add(kind)
            continue
        if weighted(one):
            return set()  # values of another kind, which an attention is multiplied with
        left += [source for source in one.all_input_nodes if source not in seen]
        seen.update(one.all_input_nodes)
    return found


def _scales(node: fx.Node) -> bool:
    """Whether an operation multiplies or divides by a number above 0."""
    numbers = [value for value in node.args if isinstance(value, int | float) and not isinstance(value, bool)]
    times = re.fullmatch("i?(r?mul|multiply|r?(true_?)?div(ide)?)_?", operation(node))
    divided_by = isinstance(node.args[0] if node.args else None, int | float) and "div" in operation(node)
    return bool(times) and len(numbers) == 1 and numbers[0] > 0 and not divided_by


def _cuts(node: fx.Node) -> bool:
    """Whether an operation cuts values to 0 … 1."""
    if not re.search("clamp|clip|hardtanh", operation(node), re.IGNORECASE) or len(node.all_input_nodes) != 1:
        return False
    bounds = [*node.args[1:], *node.kwargs.values()]
    return [value for value in bounds if isinstance(value, int | float) and not isinstance(value, bool)][:2] == [0, 1]
