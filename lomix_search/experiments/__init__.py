"""Whole experiments: a recipe run to its end, many of them compared or tuned, and pages that show what came of it.

Recipes and run folders go in; run folders, verdicts, studies and reports come out. Imports everything from ``errors``
to ``training``.
"""
