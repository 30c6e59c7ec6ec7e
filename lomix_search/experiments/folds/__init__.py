"""Cross-validation: one recipe, a run for each fold, and all patients scored by the network that never saw them.

A recipe and a number of folds go in; ``fold0``, ``fold1``, …, tables and intervals come out.
Imports the modules of ``experiments`` and what they import; ``cross_validate`` is the entrance.
"""
