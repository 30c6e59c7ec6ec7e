"""The outer search: Optuna varies what a recipe declares under ``[tune]``, on any number of machines.

A recipe goes in; a study comes out, with a run folder for each trial and the best recipe. Only ``outer_search`` may be
imported without Optuna.
"""
