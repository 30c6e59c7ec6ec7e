"""Where a level can be cut: a value that another way of the same level goes around lies inside a block."""

import itertools
from functools import cached_property

import networkx as nx
from torch import fx

from lomix_search.instrumentation.stages.flow import Flow
from lomix_search.instrumentation.stages.level_stage import composite, last_merge, worked
from lomix_search.instrumentation.stages.operations import Operation, kind, weighted

_NORM_AND_ACTIVATION = [[norm, Operation.ACTIVATION] for norm in (Operation.BATCH_NORM, Operation.NORM)]


class Cuts:
    """The blocks of a level, as the ways around its values show them, whether they are modules or not.

    Args:
        flow: The data flow.
        values: The level.
        event: What takes it to the next, or makes the logits.
    """

    def __init__(self, flow: Flow, values: list[fx.Node], event: fx.Node) -> None:
        self.flow, self.event = flow, event
        self.level = values[: values.index(event)] if event in values else values
        self.place = {node: i for i, node in enumerate(self.level)}

    def end(self, node: fx.Node) -> fx.Node:
        """Return the value with which the block ends, or begins, in which a value lies; others as they are.

        A residual connection, a dense one or a second branch that comes back on this level goes on to where it comes
        back; one that comes back on the next level, before a skip, began where this one ends. The norm and activation
        after the end of a residual block begin what comes next.
        """
        place, flow, level = self.place, self.flow, self.level
        if node not in place:
            return node
        inside = [(place[a], b) for a, b in self._ways if b in place and self._seen(b)]
        while back := [b for a, b in inside if a < place[node] < place[b]]:
            node = max(back, key=place.__getitem__)
        merge = last_merge(flow, level)
        begun = [a for a, b in self._ways if b not in place and merge < place.get(a, -1) < place[node]]
        begun = [a for a in begun if self._seen(a) and worked(flow, level, merge, a)]
        return self._not_activated(min(begun, key=place.__getitem__, default=node))

    def _not_activated(self, node: fx.Node) -> fx.Node:
        """Step back over a norm and an activation to the end of a residual block, unless a block returns them."""
        end, *steps = self.level[max(0, self.place[node] - 2) : self.place[node] + 1]
        if [kind(step) for step in steps] not in _NORM_AND_ACTIVATION:
            return node
        calls = [call for call in self.flow.trace.calls if call.path and composite(self.flow, call)]
        returned = any(made is node for call in calls for _, made in call.outputs)
        return end if self._seen(end) and any(b is end for _, b in self._ways) and not returned else node

    def _seen(self, node: fx.Node) -> bool:
        """Whether a module is given or returns a value, or what is made of it at its size without a layer."""
        forms = [one for one in self.flow.maps.succ[node] if len(one.all_input_nodes) == 1 and not weighted(one)]
        forms = [one for one in forms if self.flow.size(one) == self.flow.size(node)]
        return node in self.flow.seen or any(one in self.flow.seen for one in forms)

    @cached_property
    def _ways(self) -> set[tuple[fx.Node, fx.Node]]:
        """Between which values another way leads, not through those between them: of the level, and of the next."""
        part, maps = [*self.level, *_up_to_a_skip(self.flow, self.event)], self.flow.maps
        later, found = nx.descendants(maps, part[0]) | {part[0]}, set[tuple[fx.Node, fx.Node]]()
        for before, node in itertools.pairwise(part):
            left = [source for source in maps.pred[node] if source in later and source is not before]
            passed = set(left)
            while left:
                source = left.pop()
                if source in part:
                    found.add((source, node))
                    continue
                sources = [one for one in maps.pred[source] if one in later and one not in passed]
                passed.update(sources)
                left += sources
        return found


def _up_to_a_skip(flow: Flow, event: fx.Node) -> list[fx.Node]:
    """Return what the trunk makes of a map that rises, before it meets a skip or rises again."""
    after = flow.trunk[flow.trunk.index(event) :] if event in flow.rises else []
    own = itertools.takewhile(lambda node: node not in flow.rises and not flow.takes_skip(node), after[1:])
    return [*after[:1], *own]
