"""Strategies at equal budget: which way to supervise is best, seed by seed, over runs that share all but the strategy.

A recipe and names of strategies go in; runs, a verdict as table, JSON and figure, and a ranking of maps come out.
Imports the modules of ``experiments`` and what they import; ``runner`` is the entrance.
"""
