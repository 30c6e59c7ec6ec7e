"""
Draw a search space
===================

A search space says which maps are supervised: the stages' own logits, and what operators make of subsets of them. It is
a graph, from stages through operators to maps.
"""

import matplotlib.pyplot as plt
import networkx as nx

import lomix_search as lomix

space = lomix.SearchSpace.load("lomix")
print(space)

# %%
# Rules can be cut down: here to sums and learned fusions of pairs.

small = space.only(operators=["add", "concat", "attention"], sizes=[2])
print(small.count(3), "maps:", ", ".join(one.id for one in small.maps(3)))

# %%
# Its graph is a networkx ``DiGraph``: nodes have a kind, an operator and a cost, so any tool for graphs can draw it.

graph = small.graph(num_stages=3, num_classes=6)
place = {"stage": 0.0, "operator": 1.0, "map": 2.0}
columns = {kind: [node for node, data in graph.nodes.items() if data["kind"] == kind] for kind in place}
positions = {
    node: (place[kind], 0.5 - (i + 0.5) / len(nodes)) for kind, nodes in columns.items() for i, node in enumerate(nodes)
}
colours = {"stage": "#ffd7a0", "operator": "#e8eef8", "map": "#cfe8d5"}

figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
nx.draw_networkx_edges(graph, positions, ax=axis, edge_color="#9aa5b1", arrows=False)
for node, (x, y) in positions.items():
    colour = colours[graph.nodes[node]["kind"]]
    axis.text(x, y, node, ha="center", va="center", bbox={"boxstyle": "round", "fc": colour, "ec": "#777777"})
for kind, x in place.items():
    axis.text(x, 0.56, f"{kind}s", ha="center", weight="bold")
axis.set(xlim=(-0.3, 2.3), ylim=(-0.55, 0.62))
axis.axis("off")
