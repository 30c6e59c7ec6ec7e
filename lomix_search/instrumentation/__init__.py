"""From a model and an example to an instrumented network: its data flow, its stages, heads on them, and the way back.

A user's network goes in; an :class:`~lomix_search.instrumentation.instrumented.Instrumented` comes out, whose
``strip()`` gives the user's own network back. Imports ``errors`` and ``utils``.
"""
