"""The referee of a comparison: was it fair, and do its differences exceed the noise?

Runs of this library, the folder of a comparison, or rows of a CSV file from elsewhere go in; findings, each passed,
failed or not checkable, and a table for a paper's appendix come out. Imports ``compare``, ``folds`` and what these
import; ``referee`` is the entrance.
"""
