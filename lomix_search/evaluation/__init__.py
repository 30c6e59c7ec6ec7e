"""Scores: of whole cases by named protocols, of networks, and of two networks against each other.

A network (instrumented or not) and cases go in; tables of scores with intervals come out. ``docs/benchmarks.md`` says
where the protocols differ and why. Imports ``errors``, ``utils``, ``instrumentation`` and ``data``.
"""
