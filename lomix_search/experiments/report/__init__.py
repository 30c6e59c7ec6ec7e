"""One HTML page that holds everything of a run or a study.

A run folder or a study goes in; ``report.html`` comes out, which needs no other file and no network.
"""
