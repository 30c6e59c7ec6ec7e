"""Recipes: a runnable experiment as one TOML file, typed, checked, and written for data that somebody has.

A file (and changes of it) goes in; a :class:`~lomix_search.recipe.recipe.Recipe` of typed sections comes out, with
every fault reported at once. Imports the packages from ``errors`` to ``evaluation``.
"""
