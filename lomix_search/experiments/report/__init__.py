"""One HTML page that holds everything of a run, a study, a cross-validation or a comparison.

A run folder or a study goes in; ``report.html`` comes out, which needs no other file and no network. ``run_content``
and ``study_content`` read, ``run_page`` and ``study_page`` write; ``write`` is the entrance. Imports the modules of
``experiments`` and what they import; Optuna only where a study is read.
"""
