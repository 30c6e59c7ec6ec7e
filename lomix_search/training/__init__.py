"""The one-step search: network, operators and map weights trained together, resumable at any step.

An instrumented network, a loss, items and typed settings go in; trained weights, checkpoints, lines of numbers and a
mixture come out, in a run folder. Imports everything from ``errors`` to ``recipe``.
"""
