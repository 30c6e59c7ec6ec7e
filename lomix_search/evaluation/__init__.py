"""Scoring networks on whole cases by named protocols; see ``docs/benchmarks.md`` for where they differ and why."""
