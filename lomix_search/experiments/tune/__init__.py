"""The outer search: Optuna varies what a recipe declares under ``[tune]``, on any number of machines.

A recipe goes in; a study comes out, with a run folder for each trial and the best recipe. ``outer_search`` is the
entrance, and alone may be imported without Optuna. Imports the modules of ``experiments`` and what they import.
"""
