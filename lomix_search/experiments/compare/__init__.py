"""Strategies at equal budget, and what their runs say.

A recipe and the names of strategies go in; a table of means, paired differences and costs comes out.
"""
